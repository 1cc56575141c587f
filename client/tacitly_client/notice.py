"""The notice: what a person is told before they are asked for consent to capture.

    terms = terms_of(contract)              # NoticeError: the organisation has yet to say something
    text = notice_text(terms, Language.DE)  # a function of terms and language alone
    notice_hash(text)                       # what a receipt names

The texts are `notices/notice.LANGUAGE.txt`. Whatever changes in them, or in what the officers
agreed on that they state, is another text with another hash: nobody has agreed to that one yet.
"""

import hashlib
import re
import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from importlib import resources
from typing import Final

import msgspec

from tacitly_client.store.retention import RetentionPolicy
from tacitly_common.campaign import Level
from tacitly_common.contract.log import Contract
from tacitly_common.errors import TacitlyError
from tacitly_common.purposes import Purpose

_INDENT: Final = "  - "
_COLUMNS: Final = 78
# After the indent, and after a list's dash or a table's first column.
_TEXT_BEGINS: Final = re.compile(r" *(?:- |\w+ {2,})?")
# In the order in which they count for messages (POSIX, "Internationalization Variables").
_LOCALE: Final = ("LC_ALL", "LC_MESSAGES", "LANG")


class NoticeError(TacitlyError):
    """The organisation has not said what people must be told: nobody can be asked yet."""

    exit_code = 4


class Language(StrEnum):
    """The languages that there are notices in."""

    EN = "en"
    DE = "de"


class TrayWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the indicator and its menu say.

    `reasons`: what the agent's processes tell in English, in this language; what is not in it is
    shown as it is told.
    """

    capturing: str
    capturing_and_training: str
    training: str
    paused: str
    paused_until: str
    not_receiving: str
    off: str
    pause_hour: str
    pause: str
    resume: str
    show: str
    ask: str
    withdraw: str
    stored: str
    close: str
    reasons: dict[str, str]


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said around a notice: `notices/words.toml`."""

    title: str
    chosen: str
    chosen_for: str
    question: str
    read: str
    agree: str
    refuse: str
    yes: tuple[str, ...]
    agreed: str
    refused: str
    purposes: dict[Purpose, str]
    tray: TrayWords


@dataclass(frozen=True, slots=True)
class Terms:
    """What a notice states of an organisation and of what its officers agreed on."""

    organisation: str
    purposes: tuple[Purpose, ...]
    highest_level: Level
    minimum_cohort: int
    lifetime_epsilon: Decimal
    month_epsilon: Decimal
    delta: Decimal
    workers_informed: str
    contact: str


def terms_of(contract: Contract) -> Terms:
    """What the officers' log says now.

    Raises:
        NoticeError: it does not say by what workers and their representatives were informed, or
            whom a person can ask.
    """
    policy = contract.policy
    for name in ("workers_informed", "contact"):
        if not getattr(policy, name):
            raise NoticeError(
                f"{contract.organisation} has not yet stated `{name}` in its policy, so nobody may "
                "be asked for consent; an officer can propose a policy that states it"
            )
    return Terms(
        organisation=contract.organisation,
        purposes=tuple(map(Purpose, policy.purposes)),
        highest_level=policy.highest_level,
        minimum_cohort=policy.minimum_cohort,
        lifetime_epsilon=policy.lifetime_epsilon,
        month_epsilon=min(policy.lifetime_epsilon, policy.epoch_epsilon),
        delta=policy.delta,
        workers_informed=policy.workers_informed,
        contact=policy.contact,
    )


def notice_text(terms: Terms, language: Language) -> str:
    """The whole notice."""
    named = words(language).purposes
    text = _read(f"notice.{language}.txt").format(
        organisation=terms.organisation,
        purposes="\n".join(_INDENT + named[purpose] for purpose in terms.purposes),
        highest_level=terms.highest_level,
        minimum_cohort=terms.minimum_cohort,
        lifetime_epsilon=f"{terms.lifetime_epsilon:f}",
        month_epsilon=f"{terms.month_epsilon:f}",
        delta=f"{terms.delta:f}",
        workers_informed=terms.workers_informed,
        contact=terms.contact,
        retention_days=RetentionPolicy().cap_days,
    )
    return "".join(f"{_wrapped(line)}\n" for line in text.splitlines())


def notice_hash(text: str) -> str:
    """SHA-256, hex, of what was shown."""
    return hashlib.sha256(text.encode()).hexdigest()


def template_hash(language: Language) -> str:
    """SHA-256, hex, of a notice's text before anything of an organisation stands in it."""
    return notice_hash(_read(f"notice.{language}.txt"))


def words(language: Language) -> Words:
    """What is said around the notice."""
    return msgspec.convert(tomllib.loads(_read("words.toml"))[language], Words)


def desktop_language(environ: Mapping[str, str]) -> Language:
    """The language of the person's desktop, English where there is no notice in it."""
    told = next((v for name in _LOCALE if (v := environ.get(name))), "")
    found = told.partition("_")[0].partition(".")[0].lower()
    return Language(found) if found in set(Language) else Language.EN


def _wrapped(line: str) -> str:
    """A paragraph in a terminal's width; what follows hangs under where its text begins."""
    begins = _TEXT_BEGINS.match(line)
    hang = " " * (begins.end() if begins else 0)
    return textwrap.fill(line, _COLUMNS, subsequent_indent=hang, break_long_words=False)


def _read(name: str) -> str:
    return resources.files("tacitly_client").joinpath("notices", name).read_text("utf-8")
