"""Shamir's secret sharing of 32 bytes (CACM 22(11), 1979) over the integers mod 2^256 + 297.

    shares = split(secret, points=(1, 2, 3), threshold=2)
    secret == combine({1: shares[0], 3: shares[2]})

Fewer than `threshold` shares say nothing. The work depends on the numbers of shares and of the
threshold alone, not on the secret (as far as Python's integers have no timing of their own).
Nothing here notices a wrong share: whoever combines checks the secret against its public half.
"""

import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from tacitly_common.secagg.terms import SecaggError

# The smallest prime above 2^256, so that every 32 bytes are an element.
PRIME: Final = 2**256 + 297
SECRET_BYTES: Final = 32
SHARE_BYTES: Final = 33


def split(secret: bytes, points: Sequence[int], threshold: int) -> list[bytes]:
    """A share for each point: the values there of a random polynomial of degree threshold - 1.

    `points` are different and not zero; 1 <= threshold <= len(points).
    """
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= len(points):
        raise ValueError("a secret has 32 bytes and a threshold at most as many as points")
    coefficients = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    coefficients.append(int.from_bytes(secret, "big"))
    shares = []
    for point in points:
        value = 0
        for coefficient in coefficients:  # Horner, from the highest
            value = (value * point + coefficient) % PRIME
        shares.append(value.to_bytes(SHARE_BYTES, "big"))
    return shares


def combine(shares: Mapping[int, bytes]) -> bytes:
    """The secret of exactly `threshold` shares by their points.

    Raises:
        SecaggError: they are no 33-byte shares of any 32 bytes.
    """
    total = _value_at(0, shares)
    if total >> 256:
        raise SecaggError("the shares are not of one secret")
    return total.to_bytes(SECRET_BYTES, "big")


def fits(shares: Mapping[int, bytes], point: int, share: bytes) -> bool:
    """Whether `share` at `point` is of the same polynomial as exactly `threshold` good shares."""
    return int.from_bytes(share, "big") == _value_at(point, shares)


def _value_at(where: int, shares: Mapping[int, bytes]) -> int:
    points = tuple(sorted(shares))
    total = 0
    for point, weight in zip(points, _weights(points, where), strict=True):
        value = int.from_bytes(shares[point], "big")
        if len(shares[point]) != SHARE_BYTES or value >= PRIME:
            raise SecaggError("a share is not an element of the field")
        total = (total + weight * value) % PRIME
    return total


# The same neighbours answer for many devices.
@lru_cache(maxsize=256)
def _weights(points: tuple[int, ...], where: int) -> tuple[int, ...]:
    """Lagrange's coefficients: the product over others of (where - other) / (point - other)."""
    weights = []
    for point in points:
        above = below = 1
        for other in points:
            if other != point:
                above = above * (where - other) % PRIME
                below = below * (point - other) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)
