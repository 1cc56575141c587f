"""Ed25519 signatures over canonical JSON, each under the name of what it is for.

    signature = sign(key, "grant", payload)             # 128 hex digits
    verify(public_key, "grant", payload, signature)     # SignatureError if not

The purpose is part of what is signed, so that a signature made for one kind of document says
nothing about another. Keys are 64 hex digits (RFC 8032, raw).
"""

import re
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tacitly_common.errors import TacitlyError, ValidationError

_PREFIX: Final = b"tacitly "
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{128}")


class SignatureError(TacitlyError):
    """A signature is not that key's for that content."""

    exit_code = 5


def sign(key: Ed25519PrivateKey, purpose: str, payload: bytes) -> str:
    """The signature of `payload` for `purpose`, 128 hex digits."""
    return key.sign(_message(purpose, payload)).hex()


def verify(public_key: str, purpose: str, payload: bytes, signature: str) -> None:
    """Return if `signature` is `public_key`'s for exactly this payload and purpose.

    Raises:
        SignatureError: it is not, or key or signature are malformed.
    """
    if not _KEY.fullmatch(public_key) or not _SIGNATURE.fullmatch(signature):
        raise SignatureError(f"the {purpose} is not signed with an Ed25519 key")
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(
            bytes.fromhex(signature), _message(purpose, payload)
        )
    except InvalidSignature:
        raise SignatureError(
            f"the {purpose} is not what {public_key[:16]}... has signed; ask who sent it"
        ) from None


def public_hex(key: Ed25519PrivateKey) -> str:
    """The public half, 64 hex digits."""
    return key.public_key().public_bytes_raw().hex()


def public_key_hex(**values: str) -> None:
    """Each value is an Ed25519 public key: 64 lower-case hex digits.

    Raises:
        ValidationError: it is not.
    """
    for name, value in values.items():
        if not _KEY.fullmatch(value):
            raise ValidationError(
                f"{name} must be an Ed25519 public key, 64 lower-case hex digits, got {value!r:.80}"
            )


def private_pem(key: Ed25519PrivateKey, passphrase: bytes | None = None) -> bytes:
    """The key as PKCS #8 PEM, encrypted if there is a passphrase."""
    protection = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
    )


def read_private_pem(
    document: bytes, *, source: str | Path, passphrase: bytes | None = None
) -> Ed25519PrivateKey:
    """The inverse of `private_pem`.

    Raises:
        ValidationError: no Ed25519 key, or not this passphrase. Its content is never shown.
    """
    try:
        key = serialization.load_pem_private_key(document, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValidationError(
            f"{source} is no Ed25519 private key, or its passphrase is another; "
            "give the file that `tacitly-officer key new` made"
        )
    return key


def _message(purpose: str, payload: bytes) -> bytes:
    return _PREFIX + purpose.encode() + b"\0" + payload
