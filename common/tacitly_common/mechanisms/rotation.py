"""A public random rotation that spreads an update evenly over its coordinates, and its inverse.

The randomised Hadamard transform (Suresh et al. 2017, section 3) works on a power of two, to which
others pad: up to twice the bytes. Here it runs twice instead, over the first and over the last
2^k <= d < 2^(k+1) coordinates, which overlap: an orthonormal map of exactly d coordinates, each
of whose outputs is a sum with random signs of weights at most 2^(-k/2).

    rotated = rotate(update, seed)          # float64[d], the same L2 norm
    unrotate(rotated, seed)                 # the update, to rounding

The signs come from ChaCha20 under `seed` (32 bytes, public: both sides compute it from the plan and
the round). They protect nobody; they make coordinates small.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from randomgen import ChaCha

from tacitly_common.mechanisms.field import flattened_over

SEED_BYTES: Final = 32


def rotate(vector: NDArray[np.float64], seed: bytes) -> NDArray[np.float64]:
    """The rotated vector: float64[d], d >= 1."""
    rotated = vector.astype(np.float64)
    length = flattened_over(len(rotated))
    first, last = _signs(seed, length)
    rotated[:length] = _hadamard(rotated[:length] * first)
    if length < len(rotated):
        rotated[-length:] = _hadamard(rotated[-length:] * last)
    return rotated


def unrotate(rotated: NDArray[np.float64], seed: bytes) -> NDArray[np.float64]:
    """The inverse of `rotate`."""
    vector = rotated.astype(np.float64)
    length = flattened_over(len(vector))
    first, last = _signs(seed, length)
    if length < len(vector):
        vector[-length:] = _hadamard(vector[-length:]) * last
    vector[:length] = _hadamard(vector[:length]) * first
    return vector


def _signs(seed: bytes, length: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two rows of +1 and -1, float64[length] each."""
    raw = ChaCha(key=int.from_bytes(seed, "little"), rounds=20).random_raw(-(-2 * length // 64))
    bits = np.unpackbits(np.atleast_1d(raw).astype("<u8").view(np.uint8), bitorder="little")
    signs = np.where(bits[: 2 * length] == 1, np.float64(-1), np.float64(1))
    return signs[:length], signs[length:]


def _hadamard(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """The orthonormal Walsh-Hadamard transform of 2^k values, its own inverse."""
    values, half = vector.copy(), 1
    while half < len(values):
        pairs = values.reshape(-1, 2, half)
        values = np.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), axis=1).ravel()
        half *= 2
    return values / math.sqrt(len(values))
