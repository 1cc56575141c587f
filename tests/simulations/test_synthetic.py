"""Synthetic persons: deterministic, sized, ordered, with habits; public texts kept apart."""

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from tacitly_common.campaign import Family, Level, TokenPlan
from tacitly_common.errors import ValidationError
from tacitly_common.events import EventKind
from tacitly_common.vocabulary import START, Vocabulary
from tacitly_simulations.datasets import Person
from tacitly_simulations.datasets.public_text import docstrings, reference_manual
from tacitly_simulations.datasets.synthetic import public_text_person, synthetic_person
from tacitly_simulations.ngram import pooled_ngram

VOCABULARY = Vocabulary(
    TokenPlan(vocabulary_version=1, level=Level.CHARACTERS, families=tuple(sorted(Family)))
)


@pytest.mark.parametrize("make", [synthetic_person, public_text_person])
def test_a_seed_names_a_person(make: Callable[..., Person]) -> None:
    assert make(seed=3, events=3_000) == make(seed=3, events=3_000)
    assert make(seed=3, events=3_000).sessions != make(seed=4, events=3_000).sessions


@pytest.mark.parametrize("events", [1, 2, 4_000, 9_001])
def test_a_person_has_exactly_the_events_asked_for(events: int) -> None:
    assert len(list(synthetic_person(seed=1, events=events).events)) == events


def test_fewer_events_are_the_beginning_of_more() -> None:
    few = list(synthetic_person(seed=1, events=500).events)
    many = list(synthetic_person(seed=1, events=6_000).events)
    assert many[:500] == few


def test_no_events_cannot_be_asked_for() -> None:
    with pytest.raises(ValidationError, match="events must be > 0, got 0"):
        synthetic_person(seed=1, events=0)


@pytest.mark.parametrize("seed", range(5))
def test_events_are_as_a_capture_would_record_them(seed: int) -> None:
    person = synthetic_person(seed, events=12_000)
    walls = [event.wall_ns for event in person.events]
    assert walls == sorted(walls)
    for session in person.sessions:
        clock = [event.monotonic_ns for event in session]
        assert clock == sorted(clock)
        assert session[0].kind is EventKind.FOCUS
        down: Counter[str] = Counter()
        for event in session:
            assert 0 <= event.x <= 1
            assert 0 <= event.y <= 1
            if event.kind is EventKind.KEY_DOWN:
                down[event.key] += 1
            elif event.kind is EventKind.KEY_UP:
                down[event.key] -= 1
            assert set(down.values()) <= {0, 1}
    tokens = VOCABULARY.encode(person.events)
    assert (tokens == START).sum() == len(person.sessions)


def test_every_family_of_tokens_occurs() -> None:
    people = [synthetic_person(seed, events=6_000) for seed in range(6)]
    names = {
        VOCABULARY.name(int(token))
        for person in people
        for token in np.unique(VOCABULARY.encode(person.events))
    }
    assert {"e", "T", "Space", "Backspace", "Enter", "Control+s", "Control+v", "Alt+Tab"} <= names
    for family in ("<left ", "<move ", "<scroll ", "<app ", "<pause "):
        assert any(name.startswith(family) for name in names), family
    assert "<unk>" not in names


def test_habits_differ_between_persons() -> None:
    def rate(seed: int, key: str) -> float:
        pressed = [
            event.key
            for event in synthetic_person(seed, events=8_000).events
            if event.kind is EventKind.KEY_DOWN
        ]
        return pressed.count(key) / len(pressed)

    erased = [rate(seed, "Backspace") for seed in range(6)]
    assert max(erased) > 3 * min(erased)


def test_there_is_something_to_learn() -> None:
    streams = [VOCABULARY.encode(synthetic_person(s, events=10_000).events) for s in range(8)]
    unigram, trigram = (pooled_ngram(streams, order) for order in (1, 3))
    assert trigram.top1 > unigram.top1 + 0.15


def test_public_and_private_typists_share_no_text() -> None:
    def paragraphs(texts: Mapping[str, tuple[str, ...]]) -> set[str]:
        return {paragraph for of_topic in texts.values() for paragraph in of_topic}

    private, public = paragraphs(reference_manual()), paragraphs(docstrings())
    assert not private & public
    assert sum(map(len, private)) > 150_000
    assert sum(map(len, public)) > 200_000
