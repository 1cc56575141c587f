"""The parsers of masked rounds take what `encode` gives and survive everything else."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacitly_common.secagg.messages import (
    MESSAGES,
    Confirmations,
    Roster,
    Shares,
    Survivors,
    Unmasking,
    encode,
    from_bitmap,
    parse,
    to_bitmap,
)
from tacitly_common.secagg.terms import SecaggError
from tacitly_simulations.bench.parser_fuzz import examples, mutated, try_every_parser

EXAMPLES = examples()


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda each: type(each).__name__)
def test_each_message_is_read_as_it_was_written(message):
    assert parse(type(message), encode(message)) == message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda each: type(each).__name__)
def test_no_message_is_taken_for_another_kind(message):
    for kind in MESSAGES:
        if kind is not type(message):
            with pytest.raises(SecaggError):
                parse(kind, encode(message))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_refused_in_words(data):
    try_every_parser(data)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(EXAMPLES), st.randoms(use_true_random=False))
def test_a_broken_message_is_refused_in_words(message, random):
    try_every_parser(mutated(encode(message), random))


def test_a_second_encoding_is_refused():
    document = encode(Survivors(bytes(32), b"\x01"))
    # The same array with a 16-bit length.
    longer = b"\xdc\x00" + bytes([document[0] & 0x0F]) + document[1:]
    assert msgspec.msgpack.decode(longer, type=Survivors) == Survivors(bytes(32), b"\x01")
    with pytest.raises(SecaggError, match="another encoding"):
        parse(Survivors, longer)


def test_a_declared_length_beyond_the_bytes_costs_nothing():
    for head in (b"\xdd\xff\xff\xff\xff", b"\x94\xa6shares\xdd\xff\xff\xff\xff"):
        with pytest.raises(SecaggError):
            parse(Shares, head)


def test_too_many_bytes_are_not_looked_at():
    with pytest.raises(SecaggError, match="more bytes"):
        parse(Survivors, bytes(10_000))


def test_deep_nesting_is_refused():
    with pytest.raises(SecaggError):
        parse(Roster, b"\x91" * 100_000)


@pytest.mark.parametrize(
    "message",
    [
        Survivors(bytes(31), b"\x01"),
        Survivors(bytes(32), b""),
        Shares(bytes(32), (b"short",)),
        Unmasking(bytes(32), (bytes(34),)),
        Confirmations(bytes(32), ((1_024, bytes(64)),)),
    ],
)
def test_a_field_out_of_its_bounds_is_refused(message):
    with pytest.raises(SecaggError):
        parse(type(message), encode(message))


@given(st.integers(1, 1_024), st.data())
def test_a_set_of_members_is_a_bitmap(size, data):
    members = data.draw(st.frozensets(st.integers(0, size - 1)))
    assert from_bitmap(to_bitmap(members, size), size) == members


def test_members_that_there_are_not_are_refused():
    for bitmap in (b"\x20", b"\x01\x00", b""):
        with pytest.raises(SecaggError):
            from_bitmap(bitmap, 5)
