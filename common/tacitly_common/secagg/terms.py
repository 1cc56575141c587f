"""What a group of devices and its server agree upon before a masked round begins.

Both sides compute it from the plan that each of them holds; only the numbers of the round, the
attempt and the group come from a message. Whoever computes other terms has another `context`,
and so nothing in common: no signature verifies and no key agrees.
"""

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Final

from tacitly_common.accounting.masked_sums import LARGEST_GROUP, LARGEST_SHARE
from tacitly_common.errors import TacitlyError
from tacitly_common.validation import in_range, sha256_hex

LARGEST_FIELD_BITS: Final = 32
_PROTOCOL: Final = b"tacitly secure aggregation 1"


class SecaggError(TacitlyError, ValueError):
    """Root of what can be wrong with what somebody sent. Holds no value from the wire."""


class GroupTooSmallError(SecaggError):
    """No neighbourhood in a group of this size keeps what the plan promises."""


@dataclass(frozen=True)
class GroupTerms:
    """The terms of one group in one attempt.

    Fields:
        plan_hash: 64 hex digits.
        round, attempt, group: which; a cohort is split into groups that know nothing of each
            other.
        minimum: how many members a roster, and a sum, must have.
        coordinates: the length of a vector.
        field_bits: residues are integers mod 2^field_bits, 1 to 32.
        dropout, corruption: the largest fractions of a group that are expected to vanish after
            the roster is fixed, and assumed to collude with the server.
        failure_bits: the assumptions' luck may fail with probability 2^-failure_bits.
    """

    plan_hash: str
    round: int
    attempt: int
    group: int
    minimum: int
    coordinates: int
    field_bits: int
    dropout: Decimal
    corruption: Decimal
    failure_bits: int

    def __post_init__(self) -> None:
        sha256_hex(plan_hash=self.plan_hash)
        in_range(0, 2**31 - 1, round=self.round, attempt=self.attempt, group=self.group)
        in_range(2, LARGEST_GROUP, minimum=self.minimum)
        in_range(1, 2**31 - 1, coordinates=self.coordinates)
        in_range(1, LARGEST_FIELD_BITS, field_bits=self.field_bits)
        in_range(0, LARGEST_SHARE, dropout=self.dropout, corruption=self.corruption)
        in_range(1, 128, failure_bits=self.failure_bits)

    @cached_property
    def context(self) -> bytes:
        """SHA-256 of all of it: what every message, signature and key is bound to."""
        fields = (
            self.plan_hash,
            self.round,
            self.attempt,
            self.group,
            self.minimum,
            self.coordinates,
            self.field_bits,
            # Normalised: 0.10 and 0.1 are the same bound.
            f"{self.dropout.normalize():f}",
            f"{self.corruption.normalize():f}",
            self.failure_bits,
        )
        return digest(_PROTOCOL, *(str(field).encode() for field in fields))


def digest(*parts: bytes) -> bytes:
    """SHA-256 of the parts, each with its length before it: no two lists run together."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(len(part).to_bytes(8, "big"))
        hashed.update(part)
    return hashed.digest()
