"""What officers sign: acts, each in a statement that becomes an entry of the officers' log.

`log.py` says what each act does and who may do it.
"""

import hashlib
from datetime import datetime
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tacitly_common.contract.policy import Policy
from tacitly_common.contract.signatures import public_hex, public_key_hex, sign, verify
from tacitly_common.errors import UNDECODABLE, TacitlyError, ValidationError
from tacitly_common.validation import in_range, sha256_hex, short_name, utc
from tacitly_common.wire.codes import ReplyCode

APPROVALS_NEEDED: Final = 2
LOG_SCHEMA_VERSION: Final = 1
NO_HASH: Final = "0" * 64
_ENTRY, _ROTATION = "officers' log entry", "key rotation"
_MOST_REASON: Final = 400


class ContractError(TacitlyError):
    """An entry contradicts the log, or a signature its key. `code` is what a device answers."""

    exit_code = 5

    def __init__(self, code: ReplyCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class NotAuthorisedError(ContractError):
    """Signed by somebody who may not."""

    exit_code = 8


class ApprovalNeededError(ContractError):
    """Too few officers have approved."""

    exit_code = 4


class OutsidePolicyError(ContractError):
    """A plan is not what the policy lets plans be: only another policy would do."""

    exit_code = 4


class ConflictError(ContractError):
    """Another entry came first, or the act was done before."""

    exit_code = 6


class _Act(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="act"):
    pass


class Officer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person who signs: a name that is never given to anybody else, and a key."""

    name: str
    public_key: str

    def __post_init__(self) -> None:
        short_name(name=self.name)
        public_key_hex(public_key=self.public_key)


class Genesis(_Act, frozen=True, kw_only=True, tag="genesis"):
    """How it begins. At least three officers, or nothing could ever be approved."""

    schema_version: int = LOG_SCHEMA_VERSION
    organisation: str
    officers: tuple[Officer, ...]
    policy: Policy
    grant_key: str

    def __post_init__(self) -> None:
        in_range(LOG_SCHEMA_VERSION, LOG_SCHEMA_VERSION, schema_version=self.schema_version)
        in_range(1, 200, organisation=len(self.organisation))
        public_key_hex(grant_key=self.grant_key)
        if len(self.officers) < 1 + APPROVALS_NEEDED:
            raise ValidationError(
                f"{len(self.officers)} officers cannot approve anything: a plan needs a proposer "
                f"and {APPROVALS_NEEDED} others; name at least {1 + APPROVALS_NEEDED}"
            )
        names = {officer.name for officer in self.officers}
        keys = {officer.public_key for officer in self.officers}
        if len(names) < len(self.officers) or len(keys) < len(self.officers):
            raise ValidationError("two officers share a name or a key; give each their own")


class ProposePlan(_Act, frozen=True, kw_only=True, tag="propose_plan"):
    """The plan's canonical JSON: its SHA-256 is the plan's name."""

    plan: str


class ProposeChange(_Act, frozen=True, kw_only=True, tag="propose_change"):
    """Exactly one of the three."""

    officer: Officer | None = None
    policy: Policy | None = None
    grant_key: str | None = None

    def __post_init__(self) -> None:
        if sum(part is not None for part in (self.officer, self.policy, self.grant_key)) != 1:
            raise ValidationError("a change names one of officer, policy and grant_key")
        if self.grant_key is not None:
            public_key_hex(grant_key=self.grant_key)


class Approve(_Act, frozen=True, kw_only=True, tag="approve"):
    """`proposal` is the hash of the proposing entry."""

    proposal: str

    def __post_init__(self) -> None:
        sha256_hex(proposal=self.proposal)


class Start(_Act, frozen=True, kw_only=True, tag="start"):
    """Let the server give grants for a plan."""

    plan_hash: str


class Limit(_Act, frozen=True, kw_only=True, tag="limit"):
    """Nothing after `last_round`. The lowest one holds."""

    plan_hash: str
    last_round: int
    reason: str

    def __post_init__(self) -> None:
        in_range(0, 1_000_000, last_round=self.last_round)
        in_range(1, _MOST_REASON, length_of_reason=len(self.reason))


class Rotate(_Act, frozen=True, kw_only=True, tag="rotate"):
    """The signer's new key; `proof` is its signature of the signer's name."""

    public_key: str
    proof: str

    def __post_init__(self) -> None:
        public_key_hex(public_key=self.public_key)


class Revoke(_Act, frozen=True, kw_only=True, tag="revoke"):
    """`officer` signs no more."""

    officer: str
    reason: str

    def __post_init__(self) -> None:
        in_range(1, _MOST_REASON, length_of_reason=len(self.reason))


Act = Genesis | ProposePlan | ProposeChange | Approve | Start | Limit | Rotate | Revoke


class Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is signed: an act, by whom, when by the signer's own clock, and after which entry."""

    sequence: int
    previous: str
    signer: str
    at: datetime
    act: Act

    def __post_init__(self) -> None:
        utc(at=self.at)

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return msgspec.json.encode(self, order="sorted")


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A statement and its signature, "" in the first."""

    statement: Statement
    signature: str

    @property
    def hash(self) -> str:
        """SHA-256, hex, of `to_json`: what the next entry names."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def to_json(self) -> bytes:
        """Canonical JSON, one line."""
        return msgspec.json.encode(self, order="sorted")


def begin(genesis: Genesis, *, at: datetime) -> Entry:
    """The first entry. Its hash is what invitations carry."""
    statement = Statement(sequence=0, previous=NO_HASH, signer="", at=at, act=genesis)
    return Entry(statement=statement, signature="")


def signed(statement: Statement, key: Ed25519PrivateKey) -> Entry:
    """The statement as an entry."""
    return Entry(statement=statement, signature=sign(key, _ENTRY, statement.to_json()))


def check_signature(entry: Entry, public_key: str) -> None:
    """Return if the entry is signed with this key.

    Raises:
        SignatureError: it is not.
    """
    verify(public_key, _ENTRY, entry.statement.to_json(), entry.signature)


def rotation(signer: str, new_key: Ed25519PrivateKey) -> Rotate:
    """The act that gives `signer` a new key, with the proof that its holder agrees."""
    return Rotate(public_key=public_hex(new_key), proof=sign(new_key, _ROTATION, signer.encode()))


def check_rotation(rotate: Rotate, signer: str) -> None:
    """Return if the new key's holder agrees to be `signer`.

    Raises:
        SignatureError: the proof is not.
    """
    verify(rotate.public_key, _ROTATION, signer.encode(), rotate.proof)


def parse_entry(line: bytes) -> Entry:
    """An entry from its JSON.

    Raises:
        ContractError: not one, or not in canonical form (its hash would not be its own).
    """
    try:
        entry = msgspec.json.decode(line, type=Entry)
    except UNDECODABLE as error:
        raise ContractError(ReplyCode.LOG_FORGED, f"not a log entry: {error}") from None
    if entry.to_json() != line:
        raise ContractError(ReplyCode.LOG_FORGED, "the entry is not in canonical form")
    return entry
