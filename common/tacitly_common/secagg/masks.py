"""A mask: the residues that a key expands to, added to or taken from a vector.

AES-256 in counter mode over zeros, read as little-endian 32-bit words. A word modulo 2^bits is
uniform because 2^bits divides 2^32, so that words are added as they are and cut once, at the end.
"""

import sys
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

# Fits into a processor's second cache with the part of the vector that it is added to.
_CHUNK_WORDS: Final = 1 << 15
_ZEROS: Final = bytes(4 * _CHUNK_WORDS)
# A key expands to one stream.
_COUNTER: Final = bytes(16)


class Mask(NamedTuple):
    """A key of 32 bytes, and whether its stream is added or subtracted."""

    key: bytes
    sign: Literal[1, -1]


def pair_sign(member: int, other: int) -> Literal[1, -1]:
    """What `member` does with the mask it shares with `other`: the two cancel."""
    return 1 if member < other else -1


def apply_masks(vector: NDArray[np.uint32], masks: Iterable[Mask]) -> None:
    """Add every mask to `vector`, uint32[coordinates], in place, modulo 2^32."""
    buffer = np.empty(_CHUNK_WORDS, dtype=np.uint32)
    for mask in masks:
        stream = Cipher(AES256(mask.key), CTR(_COUNTER)).encryptor()
        operation = np.add if mask.sign == 1 else np.subtract
        for begin in range(0, vector.size, _CHUNK_WORDS):
            part = vector[begin : begin + _CHUNK_WORDS]
            words = buffer[: part.size]
            stream.update_into(memoryview(_ZEROS)[: 4 * part.size], words.view(np.uint8).data)
            operation(part, words if _LITTLE_ENDIAN else words.byteswap(), out=part)


def reduce_to_field(vector: NDArray[np.uint32], field_bits: int) -> None:
    """Cut every word to its residue modulo 2^field_bits, in place."""
    np.bitwise_and(vector, np.uint32((1 << field_bits) - 1), out=vector)


_LITTLE_ENDIAN: Final = sys.byteorder == "little"
