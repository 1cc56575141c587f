"""Writes down what was not kept, by rule: `dropped.json` in the store, for the person to see."""

import logging
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from tacitly_client.capture.clock import Clock
from tacitly_client.capture.normaliser import Normaliser
from tacitly_client.store.dropped import add_dropped

log = logging.getLogger(__name__)


class Unkept:
    """Takes the content filter's counts, and adds those of what did not come so far."""

    def __init__(self, store: Path, normaliser: Normaliser, clock: Clock) -> None:
        self._store = store
        self._normaliser = normaliser
        self._clock = clock
        self._told: Counter[str] = Counter()

    def __call__(self, counts: Mapping[str, int]) -> None:
        """Add to today's counts. What cannot be written is not counted; nobody waits for it."""
        dropped = Counter({rule.value: count for rule, count in self._normaliser.dropped.items()})
        new = dropped - self._told + Counter(counts)
        self._told = dropped
        if not new:
            return
        today = datetime.fromtimestamp(self._clock.wall_ns() / 1e9).astimezone().date()
        try:
            add_dropped(self._store, today, new)
        except OSError as error:
            log.error("what was not kept could not be counted: %s", error.strerror)
