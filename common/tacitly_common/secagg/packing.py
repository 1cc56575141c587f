"""Residues as bytes, `bits` each, the first one's lowest bit first.

Eight residues are `bits` bytes: a whole number, so that all octets of residues are moved at once.
The last octet is filled with zeros and cut to the bytes it needs.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tacitly_common.secagg.terms import SecaggError

_OCTET: Final = 8


def packed_bytes(coordinates: int, bits: int) -> int:
    """How long a packed vector is."""
    return (coordinates * bits + 7) // 8


def pack(vector: NDArray[np.uint32], bits: int) -> bytes:
    """The bytes of uint32[coordinates], each below 2^bits.

    Raises:
        ValueError: a residue is too large.
    """
    if vector.dtype != np.uint32 or vector.ndim != 1 or (vector.size and int(vector.max()) >> bits):
        raise ValueError(f"a vector to pack is uint32[...] below 2^{bits}")
    octets = -(-vector.size // _OCTET)
    padded = np.zeros(octets * _OCTET, dtype=np.uint32)
    padded[: vector.size] = vector
    columns = padded.reshape(octets, _OCTET)
    packed = np.zeros((octets, bits), dtype=np.uint8)
    for column in range(_OCTET):
        first, offset = divmod(column * bits, 8)
        # At most 7 + 32 bits.
        shifted = columns[:, column].astype(np.uint64) << np.uint64(offset)
        for byte in range((offset + bits + 7) // 8):
            packed[:, first + byte] |= (shifted >> np.uint64(8 * byte)).astype(np.uint8)
    return packed.tobytes()[: packed_bytes(vector.size, bits)]


def unpack(packed: bytes, coordinates: int, bits: int) -> NDArray[np.uint32]:
    """The inverse: uint32[coordinates].

    Raises:
        SecaggError: another length, or bits behind the last residue.
    """
    length = packed_bytes(coordinates, bits)
    spare = 8 * length - coordinates * bits
    if len(packed) != length or (spare and packed[-1] >> (8 - spare)):
        raise SecaggError("a packed vector has another length, or more than its residues")
    octets = -(-coordinates // _OCTET)
    padded = np.zeros(octets * bits, dtype=np.uint8)
    padded[:length] = np.frombuffer(packed, dtype=np.uint8)
    rows = padded.reshape(octets, bits)
    vector = np.empty((octets, _OCTET), dtype=np.uint32)
    cut = np.uint64((1 << bits) - 1)
    for column in range(_OCTET):
        first, offset = divmod(column * bits, 8)
        gathered = np.zeros(octets, dtype=np.uint64)
        for byte in range((offset + bits + 7) // 8):
            gathered |= rows[:, first + byte].astype(np.uint64) << np.uint64(8 * byte)
        vector[:, column] = (gathered >> np.uint64(offset)) & cut
    return vector.reshape(-1)[:coordinates]
