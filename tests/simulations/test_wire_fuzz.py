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
    rng = random.Random(7)
    for _ in range(INPUTS):
        name, parts = rng.choice(message_examples())
        part = rng.choice(sorted(parts))
        assert try_message(name, parts | {part: mutated(parts[part], rng)}) >= 0


@pytest.mark.parametrize("document", document_examples(), ids=["plan", "policy", "entry", "grant"])
def test_changed_documents_are_taken_or_refused(document: bytes) -> None:
    rng = random.Random(7)
    for _ in range(INPUTS):
        assert try_document(mutated(document, rng)) >= 0


@pytest.mark.parametrize("document", [b'{"name":"\xfe"}', b'{"name":' + b"[" * 100_000])
def test_what_is_no_text_or_has_no_end_is_refused_by_every_parser(document: bytes) -> None:
    assert try_document(document) == 0
