"""What is never stored, whatever field it was typed into: a typing run -> what may be kept of it.

| level      | kept of a run                                                                    |
|------------|----------------------------------------------------------------------------------|
| counts     | nothing: there is no sequence                                                    |
| classes    | no character (the default)                                                       |
| words      | lower-case letters of words of a closed public list without names                |
| characters | characters                                                                       |

and at no level:

    a digit, and a letter in one word with it              their class alone
    what was deleted again, a word that was seen in part   their class alone
    identifiers with a checksum, however grouped           not even their class
    what has the shape of a secret: addresses, keys,       not even their class
    tokens, passwords of mixed characters

A run is judged as the text it became and as it was typed. No rule knows a passphrase of public
words, or a short password of one kind of characters: the gate alone keeps those. Titles, addresses
of pages, the clipboard and names of files are not looked at: nothing here or in capture reads them.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import import_module, resources
from typing import Final

BACKSPACE: Final = "\b"
DELETED: Final = "\x7f"  # a Backspace that was held: everything before it may be gone

_EDITS: Final = (BACKSPACE, DELETED)
_MIXED_LENGTH, _MIXED_KINDS = 8, 3
_LEAST_DIGITS, _MOST_CHARACTERS = 7, 34  # an Italian tax code, an IBAN
_LEAST_CARD: Final = 12
_GROUPING: Final = re.compile(r"[-./_]")
_EDGES: Final = "\"'`.,;:!?()[]{}<>*"
_SHAPES: Final = re.compile(
    r"@|://|^www\."  # addresses, whole or in part
    r"|\b(?:gh[pousr]_|github_pat_|glpat-|xox[a-z]-|AKIA|ASIA|AIza|ya29\.|[sprw]k[-_]|npm_|pypi-)"
    r"|\beyJ|-----|^ssh-"  # JWT, PEM, public keys
    r"|[0-9a-fA-F]{16,}|[A-Za-z0-9+/_=-]{20,}"
)
_STANDARDS: Final = ("iban", "us.ssn", "de.idnr", "es.nif", "fr.nir", "it.codicefiscale")


class ContentLevel(StrEnum):
    """How much is stored of what a person does in an application."""

    COUNTS = "counts"
    CLASSES = "classes"
    WORDS = "words"
    CHARACTERS = "characters"

    @property
    def keeps_content(self) -> bool:
        """Whether any character can be stored."""
        return self in (ContentLevel.WORDS, ContentLevel.CHARACTERS)


class Rule(StrEnum):
    """Why a character was not kept."""

    NOT_PUBLIC = "not a public word"
    DIGIT = "digit, or letter beside one"
    DELETED = "deleted again"
    PARTIAL = "part of a word"
    SHAPE = "shape of a secret"
    IDENTIFIER = "identifier"


_DROPPED: Final = (Rule.SHAPE, Rule.IDENTIFIER)


@dataclass(frozen=True, slots=True)
class Redacted:
    """A run after redaction.

    `kept` has for each key what is stored in its place: a character, "" for its class alone, None
    for nothing. `rules` counts the characters that are not kept, by reason.
    """

    kept: tuple[str | None, ...]
    rules: Counter[Rule]


@dataclass(slots=True)
class _Word:
    """What stands between two spaces: the indices of all its keys, and of those that stayed."""

    typed: list[int]
    stayed: list[int]


def redact(
    keys: Sequence[str], level: ContentLevel, *, begins: bool = True, ends: bool = True
) -> Redacted:
    """Judge a run; a later reason overrides an earlier one.

    Args:
        keys: what was typed in one field with nothing else between: single characters,
            `BACKSPACE` and `DELETED`.
        level: the application's.
        begins: whether the beginning of the first word was seen.
        ends: whether the last word is complete.
    """
    if not level.keeps_content:
        return Redacted(("",) * len(keys), Counter())
    words = _words(keys)
    reasons: dict[int, Rule] = {}
    for word in words:
        reasons |= _masked(word, keys, level)
        reasons |= dict.fromkeys(set(word.typed) - set(word.stayed), Rule.DELETED)
    for word, whole in ((words[0], begins), (words[-1], ends)):
        if not whole:
            reasons |= dict.fromkeys(word.typed, Rule.PARTIAL)
    for word in words:
        raw = [index for index in word.typed if keys[index] not in _EDITS]
        if _is_secret(_text(raw, keys)) or _is_secret(_text(word.stayed, keys)):
            reasons |= dict.fromkeys(word.typed, Rule.SHAPE)
    reasons |= dict.fromkeys(_identifiers(words, keys), Rule.IDENTIFIER)

    def stored(index: int, key: str) -> str | None:
        if reasons.get(index) in _DROPPED:
            return None
        if index in reasons or key in _EDITS:
            return ""
        return key.lower() if level is ContentLevel.WORDS else key

    counted = Counter(rule for index, rule in reasons.items() if keys[index] not in _EDITS)
    return Redacted(tuple(stored(index, key) for index, key in enumerate(keys)), counted)


@cache
def public_words() -> frozenset[str]:
    """The closed list of the level `words`, the same for everybody; its file says whence it is."""
    text = resources.files("tacitly_client").joinpath("public_words.txt").read_text("ascii")
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))


def _words(keys: Sequence[str]) -> list[_Word]:
    """The words of the text that a run became, at least one. Spaces that stayed part them; beside
    one that is the first or last key, or another's neighbour, is an empty word."""
    text: list[int] = []
    for index, key in enumerate(keys):
        if key == BACKSPACE:
            del text[-1:]
        elif key == DELETED:
            text.clear()
        else:
            text.append(index)
    stayed = set(text)
    words = [_Word([], [])]
    for index, key in enumerate(keys):
        if key == " " and index in stayed:
            words.append(_Word([], []))
        else:
            words[-1].typed.append(index)
            words[-1].stayed += [index] if index in stayed else []
    return words


def _text(indices: Iterable[int], keys: Sequence[str]) -> str:
    return "".join(keys[index] for index in indices)


def _masked(word: _Word, keys: Sequence[str], level: ContentLevel) -> dict[int, Rule]:
    """What the level does not keep of a word that is no secret."""
    text = _text(word.stayed, keys)
    if any(character.isnumeric() for character in text):
        return dict.fromkeys(word.stayed, Rule.DIGIT)
    if level is ContentLevel.CHARACTERS:
        return {}
    core = text.strip(_EDGES)
    start = text.index(core)
    if core.lower() not in public_words():
        core = ""
    around = word.stayed[:start] + word.stayed[start + len(core) :]
    return dict.fromkeys(around, Rule.NOT_PUBLIC)


def _is_secret(text: str) -> bool:
    """Whether a word has the shape of one."""
    if _SHAPES.search(text):
        return True
    core = text.strip(_EDGES)
    kinds = (
        any(character.islower() for character in core),
        any(character.isupper() for character in core),
        any(character.isnumeric() for character in text),
        any(not character.isalnum() for character in core),
    )
    return len(text) >= _MIXED_LENGTH and sum(kinds) >= _MIXED_KINDS


def _identifiers(words: Sequence[_Word], keys: Sequence[str]) -> set[int]:
    """The keys of numbers whose checksum is right, in one word or several."""
    texts = [_GROUPING.sub("", _text(word.stayed, keys).strip(_EDGES)) for word in words]
    found: set[int] = set()
    for first in range(len(words)):
        joined = ""
        for last in range(first, len(words)):
            joined += texts[last]
            if not (joined.isascii() and joined.isalnum()) or len(joined) > _MOST_CHARACTERS:
                break
            if _is_identifier(joined):
                found.update(index for word in words[first : last + 1] for index in word.typed)
    return found


def _is_identifier(text: str) -> bool:
    if sum(character.isdigit() for character in text) < _LEAST_DIGITS:
        return False
    card, *others = _checks()
    return (len(text) >= _LEAST_CARD and card(text)) or any(valid(text) for valid in others)


@cache
def _checks() -> tuple[Callable[[str], bool], ...]:
    """Luhn's, then the standards' own."""
    return tuple(import_module(f"stdnum.{name}").is_valid for name in ("luhn", *_STANDARDS))
