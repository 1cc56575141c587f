"""Rubbish for what comes over the wire: nothing but deliberate errors comes out.

The long run is `python -m tacitly_simulations.bench.wire_fuzz`.
"""

import random

import pytest

from tacitly_simulations.bench.parser_fuzz import mutated
from tacitly_simulations.bench.wire_fuzz import (
    document_examples,
    message_examples,
    try_document,
    try_message,
)

INPUTS = 300


def test_real_ones_are_taken() -> None:
    assert [try_message(*example) for example in message_examples()] == [2, 2, 2, 1, 3, 1, 1]
    assert [try_document(document) for document in document_examples()] == [1, 1, 1, 1]


def test_changed_messages_are_taken_or_refused() -> None:
    """By a `WireError`: any other error ends the test."""
    rng, refused = random.Random(7), 0
    for _ in range(INPUTS):
        name, parts = rng.choice(message_examples())
        part = rng.choice(sorted(parts))
        refused += not try_message(name, parts | {part: mutated(parts[part], rng)})
    assert INPUTS / 2 < refused < INPUTS


@pytest.mark.parametrize("document", document_examples(), ids=["plan", "policy", "entry", "grant"])
def test_changed_documents_are_taken_or_refused(document: bytes) -> None:
    """By a deliberate error: any other ends the test."""
    rng = random.Random(7)
    refused = sum(not try_document(mutated(document, rng)) for _ in range(INPUTS))
    assert INPUTS / 2 < refused <= INPUTS


@pytest.mark.parametrize("document", [b'{"name":"\xfe"}', b'{"name":' + b"[" * 100_000])
def test_what_is_no_text_or_has_no_end_is_refused_by_every_parser(document: bytes) -> None:
    assert try_document(document) == 0
