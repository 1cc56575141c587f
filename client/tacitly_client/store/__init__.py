"""The encrypted event store: append, read by time, count, erase.

keys.py      whose key opens the store (a 0600 file; keyrings fit behind the same interface)
segment.py   one file: a sealed key and authenticated frames of events
store.py     the directory of segments, as the rest of the client sees it
"""

from tacitly_client.store.segment import Damage, StoreError
from tacitly_client.store.store import EventStore

__all__ = ["Damage", "EventStore", "StoreError"]
