"""What is sent, and the strict parsers of it.

    device -> server                     server -> device
    Advert        signed keys            Roster         everybody's adverts
    Shares        for each neighbour     Delivery       who shared, and the shares for this device
    (the packed masked vector)           Survivors      whose vectors are in the sum
    Confirmation  signed survivors       Confirmations  the neighbours' signatures
    Unmasking     a share of each

All but the vector are msgpack arrays that begin with their kind and the context or session that
they belong to. A parser takes bytes of any kind and length, and gives a message or a `SecaggError`;
it looks at no more bytes than the largest such message has, and takes only the one encoding that
`encode` gives. Sets of members are bitmaps, member i the bit i % 8 of byte i // 8.
"""

from collections.abc import Iterable
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from tacitly_common.accounting.masked_sums import LARGEST_GROUP
from tacitly_common.secagg.keys import KEY_BYTES, SEAL_BYTES
from tacitly_common.secagg.sharing import SHARE_BYTES
from tacitly_common.secagg.terms import SecaggError

SHARE_PAIR_BYTES: Final = 2 * SHARE_BYTES
_SEALED: Final = SHARE_PAIR_BYTES + SEAL_BYTES
_LARGEST_CERTIFICATE: Final = 2_048
_LARGEST_MEMBER: Final = _LARGEST_CERTIFICATE + 512

Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
PublicKey = Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
Certificate = Annotated[bytes, Meta(min_length=1, max_length=_LARGEST_CERTIFICATE)]
Number = Annotated[int, Meta(ge=0, lt=LARGEST_GROUP)]
Bitmap = Annotated[bytes, Meta(min_length=1, max_length=LARGEST_GROUP // 8)]
Sealed = Annotated[bytes, Meta(min_length=_SEALED, max_length=_SEALED)]
# Empty: the neighbour's share never came, or was not one.
Share = Annotated[bytes, Meta(max_length=SHARE_BYTES)]


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Fields in their order, and no others."""


class Advert(_Message, frozen=True, tag="advert"):
    """A device's ephemeral keys, signed with the key that its certificate (DER) is for.

    `seal_key` and `mask_key` are X25519 public keys, `self_commitment` the digest of the secret
    that the device's own mask is made from.
    """

    context: Digest
    seal_key: PublicKey
    mask_key: PublicKey
    self_commitment: Digest
    certificate: Certificate
    signature: Signature


class Roster(_Message, frozen=True, tag="roster"):
    """Everybody's adverts, by ascending node id. A member's number is its place here."""

    context: Digest
    members: Annotated[tuple[Advert, ...], Meta(min_length=1, max_length=LARGEST_GROUP)]


class Shares(_Message, frozen=True, tag="shares"):
    """Both secrets' shares for each neighbour, ascending, sealed for it alone."""

    session: Digest
    sealed: Annotated[tuple[Sealed, ...], Meta(max_length=LARGEST_GROUP)]


class Delivery(_Message, frozen=True, tag="delivery"):
    """Who has shared, and the shares that those of the device's neighbours sealed for it."""

    session: Digest
    sharers: Bitmap
    sealed: Annotated[tuple[Sealed, ...], Meta(max_length=LARGEST_GROUP)]


class Survivors(_Message, frozen=True, tag="survivors"):
    """Whose masked vectors are in the sum."""

    session: Digest
    survivors: Bitmap


class Confirmation(_Message, frozen=True, tag="confirmation"):
    """A device's signature of both sets, as it was told of them."""

    session: Digest
    signature: Signature


class Confirmations(_Message, frozen=True, tag="confirmations"):
    """The confirmations of a device's surviving neighbours, ascending; some may be missing."""

    session: Digest
    signatures: Annotated[tuple[tuple[Number, Signature], ...], Meta(max_length=LARGEST_GROUP)]


class Unmasking(_Message, frozen=True, tag="unmasking"):
    """One share for each neighbour who has shared, ascending.

    Of a survivor's own mask, or of the masking key of one who vanished.
    """

    session: Digest
    shares: Annotated[tuple[Share, ...], Meta(max_length=LARGEST_GROUP)]


_M = TypeVar("_M", bound=_Message)

# Kind, digest, and msgpack's own bytes.
_FRAME: Final = 128
_LARGEST: Final[dict[type[_Message], int]] = {
    Advert: _LARGEST_MEMBER,
    Roster: _FRAME + LARGEST_GROUP * _LARGEST_MEMBER,
    Shares: _FRAME + LARGEST_GROUP * (_SEALED + 8),
    Delivery: _FRAME + LARGEST_GROUP * (_SEALED + 9),
    Survivors: _FRAME + LARGEST_GROUP // 8,
    Confirmation: _FRAME + 64,
    Confirmations: _FRAME + LARGEST_GROUP * (64 + 16),
    Unmasking: _FRAME + LARGEST_GROUP * (SHARE_BYTES + 8),
}
MESSAGES: Final = tuple(_LARGEST)


def encode(message: _Message) -> bytes:
    """The bytes of a message."""
    return msgspec.msgpack.encode(message)


def parse(kind: type[_M], data: bytes) -> _M:
    """The message of that kind whose `encode` is exactly `data`.

    Raises:
        SecaggError: there is none.
    """
    if len(data) > _LARGEST[kind]:
        raise SecaggError(f"more bytes than any {kind.__name__} has")
    try:
        message = msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise SecaggError(f"these bytes are no {kind.__name__}") from None
    if msgspec.msgpack.encode(message) != data:
        raise SecaggError(f"another encoding of a {kind.__name__} than the one there is")
    return message


def to_bitmap(members: Iterable[int], size: int) -> bytes:
    """A set of member numbers below `size`."""
    bits = sum(1 << member for member in set(members))
    return bits.to_bytes(-(-size // 8), "little")


def from_bitmap(bitmap: bytes, size: int) -> frozenset[int]:
    """The inverse.

    Raises:
        SecaggError: another length, or a member that there is not.
    """
    bits = int.from_bytes(bitmap, "little")
    if len(bitmap) != -(-size // 8) or bits >> size:
        raise SecaggError("a set of members has another size than the roster")
    return frozenset(member for member in range(size) if bits >> member & 1)
