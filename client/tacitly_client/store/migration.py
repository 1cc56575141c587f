"""From the first layout, `store.key` and `store.pub`, to this one, in place.

    1. Keep the key where keys are kept now.
    2. Write down that it shall be replaced, then `store.json`: from here on it is this layout.
    3. Overwrite and remove `store.key` and `store.pub`.
    4. Replace the key: every segment of the first version is written anew on the way.

A crash before `store.json` is there begins again at 1; after it, the next opening goes on at 3.
"""

import secrets
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tacitly_client.store.days import SEGMENTS
from tacitly_client.store.disk import shred
from tacitly_client.store.erasure import plan_key_change
from tacitly_client.store.keys import best_custody, custody_for
from tacitly_client.store.layout import LAYOUT_FILE, Layout, write_layout
from tacitly_client.store.retention import RetentionPolicy
from tacitly_client.store.segment import StoreError, key_id

_KEY_FILE: Final = "store.key"
_PUBLIC_FILE: Final = "store.pub"
_KEY_BYTES: Final = 32


def migrate(store: Path) -> None:
    """Steps 1 to 3; nothing if there is nothing to do. The caller holds the store's lock alone.

    Raises:
        StoreError: the old key is damaged, or the custody cannot be reached.
    """
    old = store / _KEY_FILE
    if not old.exists() or not (store / SEGMENTS).is_dir():
        return
    if not (store / LAYOUT_FILE).exists():
        raw = old.read_bytes()
        if len(raw) != _KEY_BYTES:
            raise StoreError(f"{old} has {len(raw)} bytes instead of {_KEY_BYTES}; put it back")
        key = X25519PrivateKey.from_private_bytes(raw)
        layout = Layout(
            store_id=secrets.token_hex(8),
            custody=best_custody(),
            public_key=key.public_key().public_bytes_raw(),
            retention=RetentionPolicy(),
        )
        custody_for(layout.custody, store, layout.store_id).keep(key)
        plan_key_change(store, key_id(key.public_key()))
        write_layout(store, layout)
    for name in (_KEY_FILE, _PUBLIC_FILE):
        shred(store / name)
