"""Heartbeats from a thread of their own: training takes longer than the server's patience."""

import logging
import random
import threading
from collections.abc import Callable
from typing import Final

from tacitly_client.node.backoff import Backoff, Pause, Trouble, Wake
from tacitly_client.node.flower_port import HEARTBEAT_CALL_TIMEOUT
from tacitly_client.node.transport import FleetError

# The server misses a node after two intervals; early beats leave room for one that is lost.
_EARLY: Final = (0.7, 0.9)

log = logging.getLogger(__name__)


class Heartbeat:
    """Calls `beat` a little more often than every `seconds`, until closed. Never raises."""

    def __init__(
        self,
        beat: Callable[[], None],
        seconds: float,
        *,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._beat = beat
        self._seconds = seconds
        self._uniform = uniform
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; a beat on its way is waited for."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        pause = Pause.on(self._stop)
        backoff = Backoff(self._uniform)
        wait = self._interval()
        # After the machine slept the server has given us up: beat at once (RESUMED).
        while pause.for_seconds(wait) is not Wake.STOPPED:
            try:
                self._beat()
                backoff.reset()
                wait = self._interval()
            except FleetError as error:
                wait = backoff.wait_after(error.trouble, error.retry_after_seconds)
            except Exception as error:
                # Its text could hold anything; its type cannot.
                log.warning("heartbeat: %s", type(error).__name__)
                wait = backoff.wait_after(Trouble.UNKNOWN)

    def _interval(self) -> float:
        return (self._seconds - HEARTBEAT_CALL_TIMEOUT) * self._uniform(*_EARLY)
