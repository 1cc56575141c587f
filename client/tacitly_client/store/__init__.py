"""The encrypted event store: append, read by time, count, erase, expire.

store.py      the store as the rest of the client sees it
segment.py    one file: a sealed key and authenticated frames of events
days.py       the segments by day
layout.py     what the store says about itself; spans of events; the store with its keys
keys.py       where the private key is kept: keyring or file
erasure.py    erasing so that nobody can open what was erased
retention.py  how long events are kept, and by which clock
expiry.py     removing what is kept no longer
dropped.py    what was not kept, counted
scan.py       proof of an erasure
migration.py  from the first layout
disk.py       locks, durable names, overwriting
"""

from tacitly_client.store.erasure import Erased
from tacitly_client.store.expiry import expire, mark_trained
from tacitly_client.store.layout import Span
from tacitly_client.store.retention import Instant, RetentionPolicy
from tacitly_client.store.segment import Damage, StoreError
from tacitly_client.store.store import EventStore

__all__ = [
    "Damage",
    "Erased",
    "EventStore",
    "Instant",
    "RetentionPolicy",
    "Span",
    "StoreError",
    "expire",
    "mark_trained",
]
