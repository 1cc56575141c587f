"""Shares, masks, packed residues and keys, each against something simpler."""

from decimal import Decimal
from itertools import combinations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tacitly_common.errors import ValidationError
from tacitly_common.secagg.keys import agree, pair_mask_key, seal, self_mask_key, unseal
from tacitly_common.secagg.masks import Mask, apply_masks, pair_sign, reduce_to_field
from tacitly_common.secagg.packing import pack, packed_bytes, unpack
from tacitly_common.secagg.sharing import PRIME, combine, fits, split
from tacitly_common.secagg.terms import SecaggError, digest
from tacitly_simulations.bench.masked_group import make_terms

secrets_32 = st.binary(min_size=32, max_size=32)


@settings(max_examples=60, deadline=None)
@given(secret=secrets_32, count=st.integers(1, 12), data=st.data())
def test_any_threshold_of_the_shares_are_the_secret(secret, count, data):
    threshold = data.draw(st.integers(1, count))
    points = data.draw(st.lists(st.integers(1, 1_024), min_size=count, max_size=count, unique=True))
    shares = dict(zip(points, split(secret, points, threshold), strict=True))
    chosen = data.draw(st.permutations(points))[:threshold]
    assert combine({point: shares[point] for point in chosen}) == secret
    good = {point: shares[point] for point in chosen}
    assert all(fits(good, point, share) for point, share in shares.items())


def test_the_largest_and_the_smallest_secret_are_shared():
    for secret in (bytes(32), b"\xff" * 32):
        shares = split(secret, (1, 2, 3), 2)
        assert combine({1: shares[0], 3: shares[2]}) == secret


def test_one_share_less_than_the_threshold_fits_every_secret():
    """For whatever secret there is a last share that makes it: nothing is known of it."""
    first, second, _ = split(b"s" * 32, (1, 2, 3), 3)
    for other in (bytes(32), b"x" * 32, b"\xff" * 32):
        wanted = int.from_bytes(other, "big")
        # Lagrange at 0 through the points 1, 2, 3: 3·f(1) - 3·f(2) + f(3).
        known = 3 * int.from_bytes(first, "big") - 3 * int.from_bytes(second, "big")
        third = ((wanted - known) % PRIME).to_bytes(33, "big")
        assert combine({1: first, 2: second, 3: third}) == other


def test_a_polynomial_has_fresh_coefficients():
    assert split(b"s" * 32, (1, 2), 2) != split(b"s" * 32, (1, 2), 2)


@pytest.mark.parametrize("share", [b"", b"\xff" * 33, bytes(32)])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(SecaggError):
        combine({1: share})


def test_shares_of_different_secrets_are_found_out():
    one, other = split(b"a" * 32, (1, 2, 3), 2), split(b"b" * 32, (1, 2, 3), 2)
    assert not fits({1: one[0], 2: one[1]}, 3, other[2])


@pytest.mark.parametrize(("secret", "points", "threshold"), [(b"", (1,), 1), (b"s" * 32, (1,), 2)])
def test_a_threshold_beyond_the_points_is_refused(secret, points, threshold):
    with pytest.raises(ValueError, match="threshold"):
        split(secret, points, threshold)


def test_a_stream_is_aes_256_in_counter_mode():
    """NIST's zero-plaintext vector for AES-256: the first block of the all-zero key."""
    vector = np.zeros(4, dtype=np.uint32)
    apply_masks(vector, [Mask(bytes(32), 1)])
    assert vector.tobytes().hex() == "dc95c078a2408989ad48a21492842087"


def test_every_bit_of_a_key_changes_the_stream():
    """Flower's SecAgg+ folds a seed to 28 bits: here none is without use."""

    def stream(key: bytes) -> bytes:
        vector = np.zeros(8, dtype=np.uint32)
        apply_masks(vector, [Mask(key, 1)])
        return vector.tobytes()

    keys = [bytes(32), *((1 << bit).to_bytes(32, "big") for bit in range(256))]
    assert len({stream(key) for key in keys}) == len(keys)


@settings(max_examples=25, deadline=None)
@given(st.lists(secrets_32, min_size=1, max_size=4), st.integers(1, 70_000), st.integers(1, 32))
def test_masks_come_off_as_they_went_on(keys, coordinates, bits):
    rng = np.random.default_rng(0)
    vector = rng.integers(0, 2**32, coordinates, dtype=np.uint64).astype(np.uint32)
    reduce_to_field(vector, bits)
    masked = vector.copy()
    apply_masks(masked, [Mask(key, 1) for key in keys])
    reduce_to_field(masked, bits)
    apply_masks(masked, [Mask(key, -1) for key in reversed(keys)])
    reduce_to_field(masked, bits)
    assert np.array_equal(masked, vector)


def test_the_two_signs_of_a_pair_cancel():
    assert all(pair_sign(i, j) == -pair_sign(j, i) for i, j in combinations(range(4), 2))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 32), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_packing_is_the_bits_one_after_the_other(bits, coordinates, seed):
    rng = np.random.default_rng(seed)
    vector = rng.integers(0, 1 << bits, coordinates, dtype=np.uint64).astype(np.uint32)
    packed = pack(vector, bits)
    whole = sum(int(value) << (bits * place) for place, value in enumerate(vector))
    assert packed == whole.to_bytes(packed_bytes(coordinates, bits), "little")
    assert np.array_equal(unpack(packed, coordinates, bits), vector)


def test_bits_behind_the_last_residue_are_refused():
    packed = bytearray(pack(np.zeros(3, dtype=np.uint32), 5))
    packed[-1] |= 0x80
    with pytest.raises(SecaggError):
        unpack(bytes(packed), 3, 5)
    with pytest.raises(SecaggError):
        unpack(bytes(packed[:-1]), 3, 5)


def test_a_residue_beyond_the_field_is_not_packed():
    with pytest.raises(ValueError, match="below"):
        pack(np.array([32], dtype=np.uint32), 5)


def test_derived_keys_differ_by_purpose_session_and_members():
    secret, session = b"k" * 32, b"s" * 32
    keys = {
        pair_mask_key(secret, session, 1, 2),
        pair_mask_key(secret, session, 1, 3),
        pair_mask_key(secret, b"t" * 32, 1, 2),
        self_mask_key(secret, session, 1),
        self_mask_key(secret, session, 2),
    }
    assert len(keys) == 5
    assert pair_mask_key(secret, session, 2, 1) in keys


def test_what_is_sealed_opens_for_nobody_else():
    secret, session = b"k" * 32, b"s" * 32
    sealed = seal(secret, session, 1, 2, b"shares")
    assert unseal(secret, session, 1, 2, sealed) == b"shares"
    for wrong in (
        (b"l" * 32, session, 1, 2, sealed),
        (secret, b"t" * 32, 1, 2, sealed),
        (secret, session, 2, 1, sealed),
        (secret, session, 1, 3, sealed),
        (secret, session, 1, 2, sealed[:-1] + bytes([sealed[-1] ^ 1])),
    ):
        with pytest.raises(SecaggError):
            unseal(*wrong)


def test_a_key_of_small_order_is_refused():
    for public in (bytes(32), bytes([1]) + bytes(31)):
        with pytest.raises(SecaggError):
            agree(X25519PrivateKey.generate(), public)


def test_digests_of_lists_do_not_run_together():
    assert digest(b"ab", b"c") != digest(b"a", b"bc") != digest(b"abc")


def test_each_of_the_terms_is_in_the_context():
    changed = [
        make_terms(),
        make_terms(plan_hash="cd" * 32),
        make_terms(round=4),
        make_terms(attempt=2),
        make_terms(group=1),
        make_terms(minimum=3),
        make_terms(coordinates=51),
        make_terms(field_bits=21),
        make_terms(dropout=Decimal("0.2")),
        make_terms(corruption=Decimal("0.2")),
        make_terms(failure_bits=41),
    ]
    assert len({terms.context for terms in changed}) == len(changed)
    assert make_terms(dropout=Decimal("0.30")).context == make_terms().context


@pytest.mark.parametrize(
    "field", [{"minimum": 1}, {"field_bits": 33}, {"coordinates": 0}, {"corruption": Decimal(1)}]
)
def test_terms_out_of_bounds_are_refused(field):
    with pytest.raises(ValidationError):
        make_terms(**field)
