"""Persons as clients: each one's tokens; and public typists, whom a start model may learn from."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from tacitly_common.campaign import Family, Level, TokenPlan
from tacitly_common.events import Event, EventKind
from tacitly_common.vocabulary import VOCABULARY_VERSION, Vocabulary
from tacitly_simulations.datasets import DatasetError, Person
from tacitly_simulations.datasets.synthetic import public_text_person
from tacitly_simulations.words import WordVocabulary

Tokens = NDArray[np.int64]

# What each recording really holds. Typed text has no rhythm of its own, so no pauses either.
FAMILIES: Final = MappingProxyType(
    {
        "adserp_sample": (Family.APPLICATIONS, Family.POINTER),
        "coauthor": (Family.KEYS,),
        "keyboard_field_study": (Family.KEYS,),
        "mousetrap_kh2017": (Family.PAUSES, Family.POINTER),
        "shakespeare_roles": (Family.KEYS,),
        "ubuntu_irc": (Family.KEYS,),
    }
)

# Persons with fewer tokens are left out of a study: one who wrote three words tells nothing
# about a model. AdSERP's recordings are single page visits, which give some ten strokes each.
LEAST_TOKENS: Final = MappingProxyType(
    {
        "adserp_sample": 5,
        "coauthor": 500,
        "keyboard_field_study": 150,
        "mousetrap_kh2017": 50,
        "shakespeare_roles": 2_000,
        "ubuntu_irc": 2_000,
    }
)
# Enough to type most of the public text once; each has habits of their own.
_PUBLIC_TYPISTS: Final = 10
_PUBLIC_EVENTS: Final = 70_000


class Unit(StrEnum):
    """What a token is: one key or action, as on a device; or one typed word."""

    CHARACTERS = "characters"
    WORDS = "words"


class Tokenizer(Protocol):
    """What turns events into tokens."""

    @property
    def size(self) -> int:
        """Number of tokens."""

    def encode(self, events: Iterable[Event]) -> Tokens:
        """Tokens of a person's events: int64[n]."""


@dataclass(frozen=True, slots=True)
class Client:
    """One person's tokens, int64[n] in the order of time."""

    id: str
    tokens: Tokens = field(repr=False)


def token_plan(dataset: str) -> TokenPlan:
    """The tokens a study of this data set predicts, at the level of single characters."""
    return TokenPlan(
        vocabulary_version=VOCABULARY_VERSION, level=Level.CHARACTERS, families=FAMILIES[dataset]
    )


def tokenizer(dataset: str, unit: Unit = Unit.CHARACTERS) -> Tokenizer:
    """What makes tokens of this data set's events."""
    return WordVocabulary() if unit is Unit.WORDS else Vocabulary(token_plan(dataset))


def clients(
    persons: Iterable[Person],
    vocabulary: Tokenizer,
    *,
    at_least_tokens: int,
    at_least_lines: int = 0,
    most: int | None = None,
) -> list[Client]:
    """The first `most` persons with at least so many tokens and lines, in the loader's order.

    A line is what Enter ended.

    Raises:
        DatasetError: fewer than two such persons.
    """
    chosen: list[Client] = []
    for person in persons:
        if at_least_lines and _lines(person) < at_least_lines:
            continue
        stream = vocabulary.encode(person.events)
        if len(stream) >= at_least_tokens:
            chosen.append(Client(person.id, stream))
        if most is not None and len(chosen) == most:
            break
    if len(chosen) < 2:
        raise DatasetError(
            f"{len(chosen)} persons have {at_least_tokens} tokens and {at_least_lines} lines or "
            "more; ask for fewer"
        )
    return chosen


def _lines(person: Person) -> int:
    return sum(event.kind is EventKind.KEY_DOWN and event.key == "Enter" for event in person.events)


def public_stream(vocabulary: Tokenizer) -> Tokens:
    """Ten synthetic typists of text that Python ships, one after the other."""
    typists = (public_text_person(seed, _PUBLIC_EVENTS) for seed in range(_PUBLIC_TYPISTS))
    return np.concatenate([vocabulary.encode(typist.events) for typist in typists])
