"""The officers' log: the one thing officers write and the only thing devices trust.

An append-only list of signed entries, each naming the hash of the one before. A device pins the
first entry's hash when it is enrolled and follows the list from there, offline; the server that
stores and serves it can withhold the newest entries and nothing else.

| act            | by                | effect                                                  |
|----------------|-------------------|---------------------------------------------------------|
| genesis        | nobody: pinned    | the first officers, policy and grant key                |
| propose_plan   | any officer       | a plan that may be approved                             |
| propose_change | any officer       | a new officer, another policy, another grant key        |
| approve        | two others        | a plan may be started; a change takes effect            |
| start          | any officer       | grants may be given for an approved plan                |
| limit          | any officer alone | no round after `last_round`; 0 stops; never raised      |
| rotate         | the officer       | another key, proved by it; what was approved stays      |
| revoke         | any officer alone | signs no more, and past approvals of plans count no more|

Two distinct officers, neither of them the proposer: at least three are needed to agree on
anything, and one alone can always stop or lower. With fewer than three active ones left nothing can
be approved any more: a new log begins, and devices are enrolled anew.

    contract = advance(None, genesis)
    contract = advance(contract, entry)        # ContractError: refused, nothing changes
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tacitly_common.contract.acts import (
    APPROVALS_NEEDED,
    NO_HASH,
    Act,
    ApprovalNeededError,
    Approve,
    ConflictError,
    ContractError,
    Entry,
    Genesis,
    Limit,
    NotAuthorisedError,
    ProposeChange,
    ProposePlan,
    Revoke,
    Rotate,
    Start,
    Statement,
    check_rotation,
    check_signature,
    parse_entry,
    signed,
)
from tacitly_common.contract.policy import Policy
from tacitly_common.contract.signatures import SignatureError
from tacitly_common.wire.codes import ReplyCode


@dataclass(frozen=True, slots=True)
class OfficerState:
    """An officer as of now. `keys` are all they ever had, the last one current."""

    keys: tuple[str, ...]
    active: bool = True


@dataclass(frozen=True, slots=True)
class Proposal:
    """Something proposed, and who has approved it. `done`: a change that has taken effect."""

    act: ProposePlan | ProposeChange
    proposer: str
    approvals: frozenset[str] = frozenset()
    done: bool = False


@dataclass(frozen=True, slots=True)
class Campaign:
    """A proposed plan. `last_round` is None without a limit."""

    proposal: str
    plan: str
    started: bool = False
    last_round: int | None = None


@dataclass(frozen=True, slots=True)
class Contract:
    """What the log amounts to, up to and with the entry `head`."""

    genesis: str
    head: str
    length: int
    organisation: str
    policy: Policy
    grant_key: str
    officers: Mapping[str, OfficerState]
    proposals: Mapping[str, Proposal] = field(default_factory=lambda: MappingProxyType({}))
    campaigns: Mapping[str, Campaign] = field(default_factory=lambda: MappingProxyType({}))

    def approvers(self, plan_hash: str) -> frozenset[str]:
        """Who has approved a plan and is still active."""
        proposal = self.proposals[self.campaigns[plan_hash].proposal]
        return frozenset(name for name in proposal.approvals if self.officers[name].active)

    def approved(self, plan_hash: str) -> bool:
        """Two active officers besides the proposer have approved the plan."""
        return len(self.approvers(plan_hash)) >= APPROVALS_NEEDED


def plan_hash_of(plan: str) -> str:
    """The name of a plan from its canonical JSON."""
    return hashlib.sha256(plan.encode()).hexdigest()


def next_entry(
    contract: Contract, act: Act, *, signer: str, key: Ed25519PrivateKey, at: datetime
) -> Entry:
    """`act` as the entry after the contract's head. Whether it may follow, `advance` says."""
    statement = Statement(
        sequence=contract.length, previous=contract.head, signer=signer, at=at, act=act
    )
    return signed(statement, key)


def read_log(lines: Iterable[bytes], *, genesis: str | None = None) -> Contract:
    """The contract that a whole log amounts to.

    Raises:
        ContractError: the place and what is wrong; also an empty log, and one that begins with
            another entry than `genesis`.
    """
    contract: Contract | None = None
    for number, line in enumerate(lines):
        try:
            contract = advance(contract, parse_entry(line))
        except ContractError as error:
            raise type(error)(error.code, f"entry {number}: {error}") from None
        if number == 0 and genesis is not None and contract.genesis != genesis:
            raise ContractError(
                ReplyCode.LOG_FORGED,
                f"the log begins with {contract.genesis[:16]}..., not with {genesis[:16]}...",
            )
    if contract is None:
        raise ContractError(ReplyCode.LOG_FORGED, "the log is empty")
    return contract


def advance(contract: Contract | None, entry: Entry) -> Contract:
    """The contract after one more entry.

    1. The entry follows the head: number and hash.
    2. Its signer is an active officer and the signature is theirs.
    3. The act is one that may be done now, and is done.

    Raises:
        ContractError: one of them is not so; the contract stands as it was.
    """
    statement = entry.statement
    if contract is None:
        return _begun(entry)
    if (statement.sequence, statement.previous) != (contract.length, contract.head):
        raise ConflictError(
            ReplyCode.LOG_FORGED,
            f"entry {statement.sequence} does not follow entry {contract.length - 1} of the log; "
            "read the log again and sign anew",
        )
    _check_signature(contract, entry)
    contract = replace(contract, head=entry.hash, length=contract.length + 1)
    return _done(contract, statement.signer, statement.act, entry.hash)


def _begun(entry: Entry) -> Contract:
    statement, act = entry.statement, entry.statement.act
    first = (statement.sequence, statement.previous, statement.signer, entry.signature)
    if not isinstance(act, Genesis) or first != (0, NO_HASH, "", ""):
        raise ContractError(ReplyCode.LOG_FORGED, "the log does not begin with a genesis")
    return Contract(
        genesis=entry.hash,
        head=entry.hash,
        length=1,
        organisation=act.organisation,
        policy=act.policy,
        grant_key=act.grant_key,
        officers={o.name: OfficerState((o.public_key,)) for o in act.officers},
    )


def _check_signature(contract: Contract, entry: Entry) -> None:
    signer = entry.statement.signer
    officer = contract.officers.get(signer)
    if officer is None or not officer.active:
        known = "was revoked" if officer else "is no officer here"
        raise NotAuthorisedError(ReplyCode.OFFICER_NOT_ACTIVE, f"{signer!r:.80} {known}")
    try:
        check_signature(entry, officer.keys[-1])
    except SignatureError:
        raise NotAuthorisedError(
            ReplyCode.LOG_FORGED, f"the entry is not signed with {signer}'s current key"
        ) from None


def _done(contract: Contract, signer: str, act: Act, entry_hash: str) -> Contract:
    match act:
        case ProposePlan(plan=plan):
            return _proposed_plan(contract, signer, act, entry_hash, plan_hash_of(plan))
        case ProposeChange():
            if act.officer is not None:
                _check_newcomer(contract, act.officer.name, act.officer.public_key)
            return _with_proposal(contract, entry_hash, Proposal(act, signer))
        case Approve():
            return _approved(contract, signer, act)
        case Start(plan_hash=plan_hash):
            campaign = _campaign(contract, plan_hash)
            if not contract.approved(plan_hash):
                raise ApprovalNeededError(
                    ReplyCode.PLAN_NOT_APPROVED,
                    f"plan {plan_hash[:16]}... has {len(contract.approvers(plan_hash))} of "
                    f"{APPROVALS_NEEDED} approvals; have it approved first",
                )
            return _with_campaign(contract, plan_hash, replace(campaign, started=True))
        case Limit(plan_hash=plan_hash, last_round=last_round):
            campaign = _campaign(contract, plan_hash)
            if campaign.last_round is not None:
                last_round = min(last_round, campaign.last_round)
            return _with_campaign(contract, plan_hash, replace(campaign, last_round=last_round))
        case Rotate():
            return _rotated(contract, signer, act)
        case Revoke(officer=name):
            if name not in contract.officers:
                raise ContractError(ReplyCode.LOG_FORGED, f"{name!r:.80} is no officer here")
            return _with_officer(contract, name, replace(contract.officers[name], active=False))
        case Genesis():
            raise ContractError(ReplyCode.LOG_FORGED, "the log begins a second time")


def _proposed_plan(
    contract: Contract, signer: str, act: ProposePlan, entry_hash: str, plan_hash: str
) -> Contract:
    if plan_hash in contract.campaigns:
        raise ConflictError(
            ReplyCode.LOG_FORGED, f"plan {plan_hash[:16]}... was proposed before; approve that one"
        )
    contract = _with_proposal(contract, entry_hash, Proposal(act, signer))
    return _with_campaign(contract, plan_hash, Campaign(entry_hash, act.plan))


def _approved(contract: Contract, signer: str, act: Approve) -> Contract:
    proposal = contract.proposals.get(act.proposal)
    if proposal is None:
        raise ContractError(
            ReplyCode.LOG_FORGED, f"entry {act.proposal[:16]}... of this log proposes nothing"
        )
    if signer in proposal.approvals or signer == proposal.proposer:
        already = "has approved" if signer in proposal.approvals else "made"
        raise ConflictError(
            ReplyCode.SAME_OFFICER_TWICE,
            f"{signer} {already} this proposal; {APPROVALS_NEEDED} other officers must approve it",
        )
    proposal = replace(proposal, approvals=proposal.approvals | {signer})
    contract = _with_proposal(contract, act.proposal, proposal)
    if isinstance(proposal.act, ProposeChange) and not proposal.done:
        active = sum(contract.officers[name].active for name in proposal.approvals)
        if active >= APPROVALS_NEEDED:
            contract = _with_proposal(contract, act.proposal, replace(proposal, done=True))
            return _changed(contract, proposal.act)
    return contract


def _changed(contract: Contract, change: ProposeChange) -> Contract:
    if change.policy is not None:
        return replace(contract, policy=change.policy)
    if change.officer is not None:
        _check_newcomer(contract, change.officer.name, change.officer.public_key)
        newcomer = OfficerState((change.officer.public_key,))
        return _with_officer(contract, change.officer.name, newcomer)
    return replace(contract, grant_key=change.grant_key or contract.grant_key)


def _rotated(contract: Contract, signer: str, act: Rotate) -> Contract:
    officer = contract.officers[signer]
    _check_newcomer(contract, None, act.public_key)
    try:
        check_rotation(act, signer)
    except SignatureError as error:
        raise ContractError(ReplyCode.LOG_FORGED, str(error)) from None
    return _with_officer(contract, signer, replace(officer, keys=(*officer.keys, act.public_key)))


def _check_newcomer(contract: Contract, name: str | None, public_key: str) -> None:
    """One key is one person's for ever: two names with one key would approve together."""
    if name in contract.officers:
        raise ConflictError(ReplyCode.LOG_FORGED, f"there was an officer {name} before")
    if any(public_key in officer.keys for officer in contract.officers.values()):
        raise ConflictError(ReplyCode.SAME_OFFICER_TWICE, "the key was an officer's before")


def _campaign(contract: Contract, plan_hash: str) -> Campaign:
    campaign = contract.campaigns.get(plan_hash)
    if campaign is None:
        raise ContractError(
            ReplyCode.UNKNOWN_PLAN, f"no plan {plan_hash[:16]}... was proposed; propose it first"
        )
    return campaign


def _with_officer(contract: Contract, name: str, officer: OfficerState) -> Contract:
    return replace(contract, officers={**contract.officers, name: officer})


def _with_proposal(contract: Contract, entry_hash: str, proposal: Proposal) -> Contract:
    return replace(contract, proposals={**contract.proposals, entry_hash: proposal})


def _with_campaign(contract: Contract, plan_hash: str, campaign: Campaign) -> Contract:
    return replace(contract, campaigns={**contract.campaigns, plan_hash: campaign})
