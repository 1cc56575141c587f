"""Where the store's key pair is kept.

Writing needs the public key alone, so a process that only captures cannot read its history.
`KeyCustody` is what the store asks for; `FileKey` is the plain answer, a file of mode 0600. It
protects against other users and not against the person's own processes or a stolen disk
without disk encryption.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from tacitly_client.store.segment import StoreError


class KeyCustody(Protocol):
    """Gives the store's keys to whoever may have them."""

    def public_key(self) -> X25519PublicKey:
        """The key events are sealed to."""

    def private_key(self) -> X25519PrivateKey:
        """The key that opens them.

        Raises:
            StoreError: missing or unusable.
        """


@dataclass(frozen=True, slots=True)
class FileKey:
    """Raw X25519 keys in `store.key` (0600) and `store.pub` of a directory."""

    directory: Path

    @property
    def _private_path(self) -> Path:
        return self.directory / "store.key"

    @property
    def _public_path(self) -> Path:
        return self.directory / "store.pub"

    def create(self) -> None:
        """Make and write a fresh key pair.

        Raises:
            StoreError: a key is there already; replacing it would lose every event.
        """
        private = X25519PrivateKey.generate()
        try:
            descriptor = os.open(self._private_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise StoreError(
                f"{self._private_path} exists already; open the store instead of creating it"
            ) from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(private.private_bytes_raw())
            file.flush()
            os.fsync(file.fileno())
        with self._public_path.open("wb") as file:
            file.write(private.public_key().public_bytes_raw())
            file.flush()
            os.fsync(file.fileno())

    def public_key(self) -> X25519PublicKey:
        return X25519PublicKey.from_public_bytes(_read_key(self._public_path))

    def private_key(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(_read_key(self._private_path))


@dataclass(frozen=True, slots=True)
class SealingKey:
    """The public key of a directory alone: seals events and can open none."""

    directory: Path

    def public_key(self) -> X25519PublicKey:
        return X25519PublicKey.from_public_bytes(_read_key(self.directory / "store.pub"))

    def private_key(self) -> X25519PrivateKey:
        raise StoreError(
            "this process may only add events; read them with `tacitly-agent status` or the trainer"
        )


def _read_key(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; restore it from your backup") from error
    if len(data) != 32:
        raise StoreError(f"{path} has {len(data)} bytes instead of 32; restore it from your backup")
    return data
