"""Consent: what this machine's person has agreed to and withdrawn, and whether it stands.

    consent_stands(home)                 # the receipt that capture rests on; None: capture nothing
    takes_part(home, plan_hash)          # whether consent to that campaign stands
    give(home, asked, now=now)           # durable on return
    withdraw(home, now=now)              # everything; needs no network and nobody's leave

`person/consent.jsonl` holds a receipt a line, each with its hash and that of the one before, so
that damage is noticed; that the file is an older copy of itself is not. There are two kinds: for
capture (no plan; the levels agreed to) and for a campaign (its plan's hash; given by `join`).
Receipts are only added; what was shown is kept beside them, in `notices/`.

| consent does not stand                                                    | since          |
|---------------------------------------------------------------------------|----------------|
| there is no receipt of the kind, or the newest says that it was withdrawn | not given      |
| a line is not what its hash says, or does not follow the one before       | nobody knows   |
| capture: the notice that would be shown now has another hash              | it has changed |
| capture: more is chosen in `content.json` than was agreed to              | it has changed |
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from tacitly_client.choices import Choices, ChoicesFile
from tacitly_client.contract_store import ContractStore
from tacitly_client.files import only_writer, remove, write_whole
from tacitly_client.home import AgentHome
from tacitly_client.notice import Language, NoticeError, notice_hash, notice_text, terms_of
from tacitly_client.redaction import ContentLevel
from tacitly_common.contract.acts import ContractError
from tacitly_common.errors import TacitlyError, ValidationError
from tacitly_common.validation import sha256_hex, utc

RECEIPT_SCHEMA_VERSION: Final = 1
_BEGINNING: Final = "0" * 64
_LEVELS: Final = tuple(ContentLevel)


class ConsentError(TacitlyError):
    """The receipts are damaged: nothing that they said stands."""

    exit_code = 5


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that was agreed to or withdrawn.

    | field          | meaning                                                               |
    |----------------|-----------------------------------------------------------------------|
    | hash           | SHA-256 of this receipt as a line with an empty `hash`                |
    | previous       | the hash of the receipt before; zeros for the first                   |
    | notice_sha256  | SHA-256 of the text that was shown                                    |
    | language       | that text's                                                           |
    | purposes       | what for                                                              |
    | plan_hash      | the campaign's plan; None: capture                                    |
    | level          | capture: the level of applications that are not named; else None      |
    | applications   | capture: the levels of those that are                                 |
    | given_at, withdrawn_at: exactly one of them, UTC                                       |
    """

    schema_version: int = RECEIPT_SCHEMA_VERSION
    hash: str = ""
    previous: str
    notice_sha256: str
    language: Language
    purposes: tuple[str, ...]
    plan_hash: str | None = None
    level: ContentLevel | None = None
    applications: dict[str, ContentLevel] = {}
    given_at: datetime | None = None
    withdrawn_at: datetime | None = None

    def __post_init__(self) -> None:
        sha256_hex(previous=self.previous, notice_sha256=self.notice_sha256)
        at = self.given_at or self.withdrawn_at
        if at is None or (self.given_at and self.withdrawn_at):
            raise ValidationError("a receipt is of one time, when it was given or withdrawn")
        utc(at=at)
        if self.schema_version != RECEIPT_SCHEMA_VERSION:
            raise ValidationError(f"receipt schema {self.schema_version} is not known here")
        if (self.plan_hash is None) != (self.level is not None):
            raise ValidationError("a receipt is for capture at a level, or for a campaign")

    @property
    def stands(self) -> bool:
        """Whether it was the giving of consent."""
        return self.given_at is not None


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody was shown and has agreed to. The fields are those of `Receipt`."""

    text: str
    language: Language
    purposes: tuple[str, ...]
    plan_hash: str | None = None
    level: ContentLevel | None = None
    applications: Mapping[str, ContentLevel] | None = None


@dataclass(frozen=True, slots=True)
class CaptureConsent:
    """Whether consent to capture stands: the receipt, or None and in words why not."""

    receipt: Receipt | None
    why_not: str = ""


def consent_stands(home: AgentHome) -> Receipt | None:
    """The receipt that capture rests on now; None if nothing may be captured. Raises nothing."""
    return capture_consent(home).receipt


def capture_consent(home: AgentHome) -> CaptureConsent:
    """Whether consent to capture stands. Raises nothing: what cannot be read is no consent."""
    try:
        given = _newest(read_receipts(home)).get(None)
        if given is None:
            return CaptureConsent(None, "you have not agreed")
        if not given.stands:
            return CaptureConsent(None, "you have withdrawn it")
        now = notice_text(terms_of(ContractStore(home).load()), given.language)
    except (NoticeError, ConsentError) as error:
        return CaptureConsent(None, str(error))
    except ContractError:
        return CaptureConsent(None, "the officers' log on this machine is unsound; ask an officer")
    except (ValidationError, OSError):
        return CaptureConsent(None, "no agent is enrolled here, or its files cannot be read")
    if notice_hash(now) != given.notice_sha256:
        return CaptureConsent(None, "the notice has changed since you agreed to it")
    if more := _beyond(given, ChoicesFile(home.choices)()):
        return CaptureConsent(None, f"more is chosen than you agreed to: {', '.join(more)}")
    return CaptureConsent(given)


def takes_part(home: AgentHome, plan_hash: str) -> bool:
    """Whether consent to this campaign stands. Raises nothing."""
    try:
        receipt = _newest(read_receipts(home)).get(plan_hash)
    except (ConsentError, OSError):
        return False
    return receipt is not None and receipt.stands


def read_receipts(home: AgentHome) -> list[Receipt]:
    """All receipts, the oldest first.

    Raises:
        ConsentError: the file is damaged; the line.
    """
    try:
        lines = home.consent.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    receipts: list[Receipt] = []
    for number, line in enumerate(lines, start=1):
        try:
            receipt = msgspec.json.decode(line, type=Receipt)
        except (msgspec.MsgspecError, ValidationError, UnicodeDecodeError):
            raise _damaged(home, number) from None
        follows = not receipts or receipt.previous == receipts[-1].hash
        if not follows or line != _line(_sealed(receipt)):
            raise _damaged(home, number)
        receipts.append(receipt)
    return receipts


def give(home: AgentHome, asked: Asked, *, now: datetime) -> Receipt:
    """Record that the person has agreed to what they were shown; durable on return.

    Damaged receipts are set aside first, under a name that holds their hash; the new list begins
    with it.

    Raises:
        OSError: it could not be written; what stood before still does.
    """
    home.create()
    home.notices.mkdir(mode=0o700, exist_ok=True)
    shown = notice_hash(asked.text)
    write_whole(home.notices / f"{shown}.txt", asked.text.encode())
    with only_writer(home.consent):
        receipt = _sealed(
            Receipt(
                previous=_hash_to_follow(home),
                notice_sha256=shown,
                language=asked.language,
                purposes=asked.purposes,
                plan_hash=asked.plan_hash,
                level=asked.level,
                applications=dict(asked.applications or {}),
                given_at=now,
            )
        )
        _append(home, receipt)
    return receipt


def withdraw(home: AgentHome, *, now: datetime, capture: bool = True) -> list[Receipt]:
    """Withdraw consent to every campaign and, unless `capture` is False, to capture; durably.

    Returns what stood until then. Who permits capture looks at the receipts before each
    permission, and the node before each answer, so nothing else need be told. Damaged receipts
    say nothing that could be withdrawn. Where a withdrawal cannot be written down (a full disk) all
    receipts are set aside instead, so that none stands.

    Raises:
        OSError: neither was possible.
    """
    remove(home.plan)
    if not home.consent.exists():
        return []
    try:
        with only_writer(home.consent):
            return _withdraw(home, capture, now)
    except OSError:
        home.consent.replace(home.consent.with_name("consent.withdrawn.jsonl"))
        return []


def _withdraw(home: AgentHome, capture: bool, now: datetime) -> list[Receipt]:
    try:
        newest = _newest(read_receipts(home)).values()
    except ConsentError:
        return []
    standing = [each for each in newest if each.stands and (capture or each.plan_hash)]
    previous = _hash_to_follow(home)
    taken_back: list[Receipt] = []
    for receipt in standing:
        taken_back.append(
            _sealed(
                msgspec.structs.replace(receipt, previous=previous, given_at=None, withdrawn_at=now)
            )
        )
        previous = taken_back[-1].hash
    if taken_back:
        _append(home, *taken_back)
    return standing


def _newest(receipts: list[Receipt]) -> dict[str | None, Receipt]:
    """The last word about each campaign, and (None) about capture."""
    return {receipt.plan_hash: receipt for receipt in receipts}


def _beyond(agreed: Receipt, chosen: Choices) -> list[str]:
    """The applications of which more is chosen than was agreed to; "the default" for that."""
    default = agreed.level or ContentLevel.COUNTS

    def exceeds(level: ContentLevel, limit: ContentLevel) -> bool:
        return _LEVELS.index(level) > _LEVELS.index(limit)

    named = set(chosen.applications) | set(agreed.applications)
    more = [
        app
        for app in sorted(named)
        if exceeds(chosen.level(app), agreed.applications.get(app, default))
    ]
    return more + (["the default"] if exceeds(chosen.default, default) else [])


def _hash_to_follow(home: AgentHome) -> str:
    """What the next receipt names. Sets a damaged file aside. The caller is the only writer."""
    try:
        receipts = read_receipts(home)
    except ConsentError:
        content = _hash(home.consent.read_bytes())
        home.consent.replace(home.consent.with_name(f"consent.damaged-{content}.jsonl"))
        return content
    return receipts[-1].hash if receipts else _BEGINNING


def _append(home: AgentHome, *receipts: Receipt) -> None:
    old = home.consent.read_bytes() if home.consent.exists() else b""
    write_whole(home.consent, old + b"".join(map(_line, receipts)))


def _sealed(receipt: Receipt) -> Receipt:
    """With the hash that it must have."""
    bare = msgspec.structs.replace(receipt, hash="")
    return msgspec.structs.replace(bare, hash=_hash(_line(bare)))


def _line(receipt: Receipt) -> bytes:
    return msgspec.json.encode(receipt, order="sorted") + b"\n"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _damaged(home: AgentHome, line: int) -> ConsentError:
    return ConsentError(
        f"{home.consent}, line {line}, is damaged, so no consent stands; run `tacitly-agent "
        "consent give` and `tacitly-agent join` to agree anew"
    )
