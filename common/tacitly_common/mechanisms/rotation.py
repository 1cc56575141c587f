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
from functools import cache, reduce
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

from tacitly_common.mechanisms.field import flattened_over

SEED_BYTES: Final = 32
_NONCE: Final = bytes(16)  # a seed has one stream
_MATRIX_BITS: Final = 6


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
    stream = Cipher(ChaCha20(seed, _NONCE), mode=None).encryptor().update(bytes(-(-length // 4)))
    bits = np.unpackbits(np.frombuffer(stream, np.uint8), bitorder="little")
    signs = np.where(bits[: 2 * length] == 1, np.float64(-1), np.float64(1))
    return signs[:length], signs[length:]


def _hadamard(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """The orthonormal Walsh-Hadamard transform of 2^k values, its own inverse.

    It is a Kronecker product of small ones: each step transforms the first axis of what is seen
    as a table, and makes it the last. When all axes had their turn they stand as before.
    """
    values, bits_left = vector, len(vector).bit_length() - 1
    while bits_left:
        bits = min(bits_left, _MATRIX_BITS)
        values = (_matrix(bits) @ values.reshape(1 << bits, -1)).T.reshape(-1)
        bits_left -= bits
    return values / math.sqrt(len(values))


@cache
def _matrix(bits: int) -> NDArray[np.float64]:
    """The Hadamard matrix of 2^bits rows, entries +1 and -1."""
    return reduce(np.kron, [np.array([[1.0, 1.0], [1.0, -1.0]])] * bits)
