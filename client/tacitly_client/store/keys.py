"""Where the store's private key is kept.

That key is the store's key-encryption key: the key of every segment is sealed to it, so when it
is gone, so is what was sealed to it alone. There is one, and for the length of an erasure two.

| custody | protects against                             | does not protect against              |
|---------|----------------------------------------------|---------------------------------------|
| KEYRING | other users; a stolen disk, as far as the    | programs of the same user while the   |
|         | login password does                          | keyring is open; old copies of the    |
|         |                                              | keyring's own file                    |
| FILE    | other users                                  | programs of the same user; a stolen   |
|         |                                              | disk without disk encryption; old     |
|         |                                              | blocks of the key's file              |

A keyring is used only if it is there and open when the store is made: no prompt is waited for.
"""

import base64
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tacitly_client.files import PARTIAL_SUFFIX, write_whole
from tacitly_client.store.disk import shred
from tacitly_client.store.segment import StoreError, key_id

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

_KEY_BYTES: Final = 32
_SERVICE: Final = "tacitly"
# Of what `keyring` offers, those that ask the operating system; others keep plain files.
_BACKENDS: Final = {
    "linux": "keyring.backends.SecretService.Keyring",
    "darwin": "keyring.backends.macOS.Keyring",
    "win32": "keyring.backends.Windows.WinVaultKeyring",
}


class Custody(StrEnum):
    """Who keeps the private key."""

    KEYRING = "keyring"
    FILE = "file"


class KeyCustody(Protocol):
    """Keeps private keys, by the eight bytes of `key_id`."""

    def keep(self, key: X25519PrivateKey) -> None:
        """Keep a key, durably.

        Raises:
            StoreError: it cannot be reached.
        """

    def find(self, named: bytes) -> X25519PrivateKey | None:
        """A key; None if it has none of that name.

        Raises:
            StoreError: it cannot be reached, or has something else under that name.
        """

    def destroy(self, named: bytes) -> None:
        """Let go of a key for ever; nothing if there is none.

        Raises:
            StoreError: it cannot be reached.
        """

    def place(self, named: bytes) -> str:
        """Where that key is to be found, for people."""


@dataclass(frozen=True, slots=True)
class FileKeys:
    """Raw X25519 keys in files of mode 0600, `<id>.key`, in a directory."""

    directory: Path

    def keep(self, key: X25519PrivateKey) -> None:
        write_whole(self._path(key_id(key.public_key())), key.private_bytes_raw())

    def find(self, named: bytes) -> X25519PrivateKey | None:
        path = self._path(named)
        try:
            return _checked(path.read_bytes(), named, self.place(named))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}; make it readable to you alone") from error

    def destroy(self, named: bytes) -> None:
        path = self._path(named)
        # Also what a kill left of writing it.
        for each in (path, path.with_name(path.name + PARTIAL_SUFFIX)):
            shred(each)

    def place(self, named: bytes) -> str:
        return str(self._path(named))

    def _path(self, named: bytes) -> Path:
        return self.directory / f"{named.hex()}.key"


@dataclass(frozen=True, slots=True)
class KeyringKeys:
    """Keys in the operating system's keyring, as items of the service "tacitly".

    `store_id` keeps the stores of one person apart.
    """

    store_id: str

    def keep(self, key: X25519PrivateKey) -> None:
        secret = base64.b64encode(key.private_bytes_raw()).decode()
        with _keyring() as keyring:
            keyring.set_password(_SERVICE, self._name(key_id(key.public_key())), secret)

    def find(self, named: bytes) -> X25519PrivateKey | None:
        with _keyring() as keyring:
            secret = keyring.get_password(_SERVICE, self._name(named))
        if secret is None:
            return None
        with suppress(ValueError):
            return _checked(base64.b64decode(secret, validate=True), named, self.place(named))
        raise StoreError(f"{self.place(named)} holds no key; put the right one back")

    def destroy(self, named: bytes) -> None:
        from keyring.errors import PasswordDeleteError

        with _keyring() as keyring, suppress(PasswordDeleteError):
            keyring.delete_password(_SERVICE, self._name(named))

    def place(self, named: bytes) -> str:
        return f'the item "{self._name(named)}" of the service "{_SERVICE}" in your keyring'

    def _name(self, named: bytes) -> str:
        return f"{self.store_id}/{named.hex()}"


def custody_for(kind: Custody, directory: Path, store_id: str) -> KeyCustody:
    """The custody that a store names."""
    return KeyringKeys(store_id) if kind is Custody.KEYRING else FileKeys(directory)


def best_custody() -> Custody:
    """The keyring if one is there and open, else a file."""
    try:
        with _keyring():
            return Custody.KEYRING
    except StoreError:
        return Custody.FILE


def _checked(raw: bytes, named: bytes, place: str) -> X25519PrivateKey:
    if len(raw) == _KEY_BYTES:
        key = X25519PrivateKey.from_private_bytes(raw)
        if key_id(key.public_key()) == named:
            return key
    raise StoreError(f"{place} is not the key {named.hex()}; put the right key back")


@contextmanager
def _keyring() -> Iterator["KeyringBackend"]:
    """The system's keyring, open.

    Raises:
        StoreError: there is none, it is locked, or it did not do what it was asked.
    """
    from keyring.core import load_keyring
    from keyring.errors import KeyringError, PasswordDeleteError

    try:
        if sys.platform == "linux":
            _require_open_secret_service()
        yield load_keyring(_BACKENDS.get(sys.platform, "keyring.backends.fail.Keyring"))
    except (PasswordDeleteError, StoreError):
        raise
    except (KeyringError, OSError, RuntimeError) as error:
        raise StoreError(
            f"the keyring did not answer ({type(error).__name__}); log in to your desktop and try "
            "again"
        ) from error


def _require_open_secret_service() -> None:
    """Refuse where `keyring` would show a prompt and wait for the person."""
    import secretstorage
    from jeepney import DBusErrorResponse
    from secretstorage.exceptions import SecretStorageException

    if "DBUS_SESSION_BUS_ADDRESS" not in os.environ:
        raise StoreError("no session bus, so no keyring; run this in your desktop session")
    try:
        with closing(secretstorage.dbus_init()) as bus:
            locked = (
                not secretstorage.check_service_availability(bus)
                or secretstorage.Collection(bus).is_locked()
            )
    except (SecretStorageException, DBusErrorResponse, OSError) as error:
        raise StoreError(
            f"no keyring answers ({type(error).__name__}); run this in your desktop session"
        ) from error
    if locked:
        raise StoreError("your login keyring is locked; unlock it and try again")
