"""What a store says about itself, `store.json`, and the two ways in.

Only the public key is in it, so `Layout` is all that a process needs that only appends.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from tacitly_client.files import write_whole
from tacitly_client.store.keys import Custody, KeyCustody, custody_for
from tacitly_client.store.retention import RetentionPolicy
from tacitly_client.store.segment import StoreError
from tacitly_common.errors import UNDECODABLE
from tacitly_common.events import Event

LAYOUT_VERSION: Final = 2
LAYOUT_FILE: Final = "store.json"


class Span(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Events with since_ns <= wall_ns < until_ns and, if `app` is not None, of that application."""

    since_ns: int | None = None
    until_ns: int | None = None
    app: str | None = None

    def holds(self, event: Event) -> bool:
        """Whether an event is one of them."""
        return self.holds_at(event.wall_ns, event.app)

    def holds_at(self, wall_ns: int, app: str) -> bool:
        """Whether an event of that time and application is one of them."""
        return (
            (self.since_ns is None or self.since_ns <= wall_ns)
            and (self.until_ns is None or wall_ns < self.until_ns)
            and (self.app is None or self.app == app)
        )

    def overlaps(self, since_ns: int, until_ns: int) -> bool:
        """Whether some of them may be of that time, its end excluded."""
        return (self.until_ns is None or since_ns < self.until_ns) and (
            self.since_ns is None or self.since_ns < until_ns
        )

    def covers(self, since_ns: int, until_ns: int) -> bool:
        """Whether every event of that time is one of them."""
        first, last = self.holds_at(since_ns, ""), self.holds_at(until_ns - 1, "")
        return self.app is None and first and last


class Layout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`store.json`.

    | field         | meaning                                                                 |
    |---------------|-------------------------------------------------------------------------|
    | version       | of this layout                                                          |
    | store_id      | random; tells this store's keys from others in one keyring              |
    | custody       | who keeps the private key                                               |
    | public_key    | raw X25519: what events are sealed to                                   |
    | retention     | how long events are kept                                                |
    | lately_erased | what was erased last, of the 20 minutes before each: events of it that  |
    |               | a capture process still held back are not stored afterwards             |
    """

    version: int = LAYOUT_VERSION
    store_id: str
    custody: Custody
    public_key: bytes
    retention: RetentionPolicy
    lately_erased: tuple[Span, ...] = ()

    def sealing_key(self) -> X25519PublicKey:
        """The key that events are sealed to."""
        return X25519PublicKey.from_public_bytes(self.public_key)


def read_layout(store: Path) -> Layout:
    """What a store says about itself.

    Raises:
        StoreError: no store there, one of another version, or `store.json` is damaged.
    """
    path = store / LAYOUT_FILE
    try:
        content = path.read_bytes()
        version = msgspec.json.decode(content, type=_Version).version
        if version != LAYOUT_VERSION:
            raise StoreError(
                f"{path} is of version {version}, this program knows {LAYOUT_VERSION}; update it"
            )
        return msgspec.json.decode(content, type=Layout)
    except FileNotFoundError:
        raise StoreError(
            f"{store} holds no event store; `tacitly-agent enrol INVITATION` makes one, and "
            "`tacitly-agent status` brings one of an earlier version up to date"
        ) from None
    except UNDECODABLE as error:
        raise StoreError(f"{path} is damaged: {error}") from None


def write_layout(store: Path, layout: Layout) -> None:
    """Change what a store says about itself: all or nothing, durable on return."""
    write_whole(store / LAYOUT_FILE, msgspec.json.encode(layout))


@dataclass(frozen=True, slots=True)
class Vault:
    """A store with the keys that open it."""

    directory: Path
    layout: Layout
    custody: KeyCustody
    # A keyring is asked once for each key.
    _found: dict[bytes, X25519PrivateKey] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, store: Path) -> Self:
        """The vault of a store. Asks the custody for nothing yet."""
        layout = read_layout(store)
        return cls(store, layout, custody_for(layout.custody, store, layout.store_id))

    def find(self, named: bytes) -> X25519PrivateKey | None:
        """A private key; None, and errors, as of the custody's `find`."""
        if named not in self._found:
            key = self.custody.find(named)
            if key is None:
                return None
            self._found[named] = key
        return self._found[named]

    def key(self, named: bytes) -> X25519PrivateKey:
        """A private key.

        Raises:
            StoreError: the custody has none of that name, or cannot be reached.
        """
        key = self.find(named)
        if key is None:
            raise StoreError(
                f"events are sealed to the key {named.hex()}, which is not there; put "
                f"{self.custody.place(named)} back"
            )
        return key


class _Version(msgspec.Struct, frozen=True):
    version: int
