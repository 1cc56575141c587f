"""Four officers with keys, and logs that they write."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tacitly_common.campaign import CampaignPlan, Level
from tacitly_common.contract.acts import (
    Act,
    Approve,
    Entry,
    Genesis,
    Officer,
    ProposePlan,
    Start,
    begin,
)
from tacitly_common.contract.grant import issue, sign_grant
from tacitly_common.contract.log import Contract, advance, next_entry
from tacitly_common.contract.policy import Policy
from tacitly_common.contract.signatures import public_hex

AT: Final = datetime(2026, 11, 1, 9, tzinfo=UTC)
NAMES: Final = ("ada", "bea", "cyn", "dan")
# The same keys in every test: nothing here is secret.
KEYS: Final = {
    name: Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    for number, name in enumerate(NAMES, start=1)
}
GRANT_KEY: Final = Ed25519PrivateKey.from_private_bytes(b"g" * 32)
STRANGER: Final = Ed25519PrivateKey.from_private_bytes(b"s" * 32)


def lax_policy(**changes: Any) -> Policy:
    """One that every plan of the tests keeps to."""
    policy = Policy(
        purposes=("bench", "next-interaction"),
        highest_level=Level.CHARACTERS,
        minimum_noise_multiplier=Decimal("0.01"),
        maximum_clip_norm=Decimal(1_000),
        minimum_cohort=2,
        delta=Decimal("1e-6"),
        lifetime_epsilon=Decimal(1_000),
        epoch_epsilon=Decimal(1_000),
        workers_informed="WA-1",
        contact="privacy@example.org",
    )
    return msgspec.structs.replace(policy, **changes)


def genesis(**changes: Any) -> Genesis:
    """Four officers and a lax policy."""
    first = Genesis(
        organisation="Example",
        officers=tuple(Officer(name=n, public_key=public_hex(KEYS[n])) for n in NAMES),
        policy=lax_policy(),
        grant_key=public_hex(GRANT_KEY),
    )
    return msgspec.structs.replace(first, **changes)


@dataclass
class Log:
    """A log as officers write it, entry by entry."""

    entries: list[Entry] = field(default_factory=lambda: [begin(genesis(), at=AT)])

    @property
    def contract(self) -> Contract:
        """What it amounts to."""
        contract: Contract | None = None
        for entry in self.entries:
            contract = advance(contract, entry)
        assert contract is not None
        return contract

    @property
    def lines(self) -> list[bytes]:
        """As it is stored and served."""
        return [entry.to_json() for entry in self.entries]

    def add(self, signer: str, act: Act, *, key: Ed25519PrivateKey | None = None) -> Entry:
        """Append an act whether or not it may be done: `contract` finds out."""
        head = self.entries[-1]
        # `next_entry` needs the length and the head alone, and the contract may be unsound.
        contract = place_in_log(len(self.entries), head.hash)
        entry = next_entry(contract, act, signer=signer, key=key or KEYS[signer], at=AT)
        self.entries.append(entry)
        return entry

    def propose(self, plan: CampaignPlan, *, by: str = "ada") -> str:
        """Propose a plan; the hash of the proposal."""
        return self.add(by, ProposePlan(plan=plan.to_json().decode())).hash

    def start(self, plan: CampaignPlan) -> "Log":
        """Propose, approve twice and start a plan."""
        proposal = self.propose(plan)
        self.add("bea", Approve(proposal=proposal))
        self.add("cyn", Approve(proposal=proposal))
        self.add("dan", Start(plan_hash=plan.hash))
        return self


def grant_for(plan: CampaignPlan, *, key: Ed25519PrivateKey = GRANT_KEY, **changes: Any) -> bytes:
    """A grant as it travels: the plan's own terms from an hour ago on, but for `changes`."""
    now = datetime.now(UTC).replace(microsecond=0)
    honest = issue(plan, key, now=now - timedelta(hours=1), hours=12)
    return sign_grant(msgspec.structs.replace(honest.grant, **changes), key).to_json()


def place_in_log(length: int, head: str) -> Contract:
    """A contract of which only its place in the log is looked at."""
    first = genesis()
    return Contract(
        genesis=head,
        head=head,
        length=length,
        organisation=first.organisation,
        policy=first.policy,
        grant_key=first.grant_key,
        officers={},
    )
