"""Who takes part: ephemeral keys, signed with a key that the enrolment authority has certified.

Devices and server look at an advert, and at a roster, with the same functions; a server leaves
out who does not pass, and a device takes no part where somebody did not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID

from tacitly_common.accounting.masked_sums import LARGEST_GROUP
from tacitly_common.secagg.keys import agree
from tacitly_common.secagg.messages import Advert, Roster, to_bitmap
from tacitly_common.secagg.terms import GroupTerms, SecaggError, digest

_ADVERT: Final = b"tacitly masking advert\0"
_SURVIVORS: Final = b"tacitly masking survivors\0"


class NotCertifiedError(SecaggError):
    """A certificate is none, another authority's, or out of its dates."""


class BadSignatureError(SecaggError):
    """A signature is not that member's for that content."""


class DuplicateMemberError(SecaggError):
    """A node or a key stands in a roster twice, or not in its place."""


@dataclass(frozen=True, slots=True)
class Member:
    """A certified member with its checked advert."""

    node_id: int
    signing_key: Ed25519PublicKey
    advert: Advert


@dataclass(frozen=True, slots=True)
class Identity:
    """What a device signs with: its certificate (DER), the key of it, and the authority's."""

    certificate: bytes
    signing_key: Ed25519PrivateKey
    authority: x509.Certificate

    def __repr__(self) -> str:
        return "Identity()"


def make_advert(
    identity: Identity, context: bytes, seal_key: bytes, mask_key: bytes, self_commitment: bytes
) -> Advert:
    """A signed advert."""
    signed = _ADVERT + digest(context, seal_key, mask_key, self_commitment)
    return Advert(
        context=context,
        seal_key=seal_key,
        mask_key=mask_key,
        self_commitment=self_commitment,
        certificate=identity.certificate,
        signature=identity.signing_key.sign(signed),
    )


def check_advert(
    advert: Advert, terms: GroupTerms, authority: x509.Certificate, *, now: datetime
) -> Member:
    """The member whose advert this is.

    Raises:
        NotCertifiedError, BadSignatureError: as they say.
        SecaggError: of another context.
    """
    if advert.context != terms.context:
        raise SecaggError("an advert is for another group")
    node_id, signing_key = _certified(advert.certificate, authority, now)
    signed = _ADVERT + digest(
        advert.context, advert.seal_key, advert.mask_key, advert.self_commitment
    )
    _verify(signing_key, signed, advert.signature)
    return Member(node_id, signing_key, advert)


def check_usable(advert: Advert) -> None:
    """Return if keys can be agreed upon with it, as its neighbours will find out.

    Raises:
        SecaggError: a public key is of small order.
    """
    probe = X25519PrivateKey.generate()
    agree(probe, advert.seal_key)
    agree(probe, advert.mask_key)


def check_different(members: Sequence[Member]) -> None:
    """By ascending node id, and no key is there twice, be it in another role.

    Raises:
        DuplicateMemberError: not so.
    """
    nodes = [member.node_id for member in members]
    keys = [
        key
        for member in members
        for key in (
            member.signing_key.public_bytes_raw(),
            member.advert.seal_key,
            member.advert.mask_key,
            member.advert.self_commitment,
        )
    ]
    if nodes != sorted(set(nodes)) or len(set(keys)) != len(keys):
        raise DuplicateMemberError("a roster has a member or a key twice, or in disorder")


def session_of(roster: Roster) -> bytes:
    """The hash of the terms and of everything in a roster: what all that follows is bound to."""
    return digest(
        b"tacitly masking session",
        roster.context,
        *(
            part
            for each in roster.members
            for part in (
                each.seal_key,
                each.mask_key,
                each.self_commitment,
                each.certificate,
                each.signature,
            )
        ),
    )


def sign_survivors(
    key: Ed25519PrivateKey,
    session: bytes,
    sharers: frozenset[int],
    survivors: frozenset[int],
    size: int,
) -> bytes:
    """A member's word for both sets."""
    return key.sign(_sets(session, sharers, survivors, size))


def verify_survivors(
    member: Member,
    session: bytes,
    sharers: frozenset[int],
    survivors: frozenset[int],
    size: int,
    signature: bytes,
) -> None:
    """Return if it is this member's word for exactly these sets.

    Raises:
        BadSignatureError: it is not.
    """
    _verify(member.signing_key, _sets(session, sharers, survivors, size), signature)


def _sets(session: bytes, sharers: frozenset[int], survivors: frozenset[int], size: int) -> bytes:
    return _SURVIVORS + digest(session, to_bitmap(sharers, size), to_bitmap(survivors, size))


def _certified(
    document: bytes, authority: x509.Certificate, now: datetime
) -> tuple[int, Ed25519PublicKey]:
    node_id, key, begins, ends = read_certificate(document, authority)
    if not begins <= now <= ends:
        raise NotCertifiedError("a certificate is out of its dates")
    return node_id, key


# Checking an authority's signature takes a millisecond, and the same devices meet again.
@lru_cache(maxsize=2 * LARGEST_GROUP)
def read_certificate(
    document: bytes, authority: x509.Certificate
) -> tuple[int, Ed25519PublicKey, datetime, datetime]:
    """The node id, the key, and between when it is good, of a certificate of that authority.

    Raises:
        NotCertifiedError: it is none, or for no Ed25519 key.
    """
    try:
        certificate = x509.load_der_x509_certificate(document)
        certificate.verify_directly_issued_by(authority)
        key = certificate.public_key()
        (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        node_id = int(name.value)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion):
        raise NotCertifiedError("a certificate is not of this enrolment authority") from None
    if not isinstance(key, Ed25519PublicKey):
        raise NotCertifiedError("a certificate is not for an Ed25519 key")
    return node_id, key, certificate.not_valid_before_utc, certificate.not_valid_after_utc


def _verify(key: Ed25519PublicKey, signed: bytes, signature: bytes) -> None:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        raise BadSignatureError("a signature is not its member's") from None
