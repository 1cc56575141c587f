"""Key agreement, derivation and sealing: X25519, HKDF-SHA256, ChaCha20-Poly1305.

Every derived key is bound to the session (the hash of the terms and of everybody's signed keys),
to what it is for, and to whom: a key of one round, group, pair or direction is no other's.
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tacitly_common.secagg.terms import SecaggError

KEY_BYTES: Final = 32
SEAL_BYTES: Final = 16
# A sealing key seals one message.
_NONCE: Final = bytes(12)


def agree(private: X25519PrivateKey, public: bytes) -> bytes:
    """The shared secret, 32 bytes.

    Raises:
        SecaggError: a public key of small order, with which everybody would agree on zero.
    """
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise SecaggError("a public key is of small order") from None


def pair_mask_key(secret: bytes, session: bytes, one: int, other: int) -> bytes:
    """The key of the mask that two members have in common, the same on both sides."""
    return _derive(secret, session, b"pair mask", min(one, other), max(one, other))


def self_mask_key(secret: bytes, session: bytes, member: int) -> bytes:
    """The key of a member's own mask."""
    return _derive(secret, session, b"self mask", member)


def seal(secret: bytes, session: bytes, sender: int, receiver: int, content: bytes) -> bytes:
    """`content` for one receiver from one sender. Only once for each session and pair."""
    key = _derive(secret, session, b"share", sender, receiver)
    return ChaCha20Poly1305(key).encrypt(_NONCE, content, session)


def unseal(secret: bytes, session: bytes, sender: int, receiver: int, sealed: bytes) -> bytes:
    """The inverse.

    Raises:
        SecaggError: not what that sender sealed for that receiver in that session.
    """
    key = _derive(secret, session, b"share", sender, receiver)
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, sealed, session)
    except InvalidTag:
        raise SecaggError("a sealed share is not its sender's") from None


def _derive(secret: bytes, session: bytes, purpose: bytes, *members: int) -> bytes:
    info = b"tacitly " + purpose + b"\0" + b"".join(each.to_bytes(4, "big") for each in members)
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=session, info=info).derive(secret)
