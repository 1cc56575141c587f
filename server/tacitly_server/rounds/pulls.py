"""Pull replies so that no reply holds up another.

SuperLink announces a reply before its arrays are uploaded, and Flower's Grid then waits for
them, up to minutes: a device that dies in the middle of its upload would stop the whole round.
So each pull has a thread of its own, and only the first quarter second is waited for.

One pull takes one message: SuperLink hands a reply out once, so a malformed reply, on which
Flower raises, would take the others of its batch with it.
"""

import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Final

from flwr.app import Message
from flwr.serverapp import Grid

_PATIENCE_SECONDS: Final = 0.25

# What a pull gave: no reply yet, the replies, or None if Flower could not read them.
Pulled = list[Message] | None


class Pulls:
    """The pulls of one attempt. What is still running when it is dropped ends by itself."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._running: set[str] = set()
        self._done: SimpleQueue[tuple[str, Pulled]] = SimpleQueue()

    def pull(self, message_id: str) -> Iterator[tuple[str, Pulled]]:
        """Begin to pull the reply to `message_id`, unless that is still going on.

        Yields what came of this pull, if it is quick, and of earlier ones that were not: the
        id of the message and its result. Never raises what a reply caused.
        """
        if message_id not in self._running:
            self._running.add(message_id)
            threading.Thread(target=self._run, args=(message_id,), daemon=True).start()
            patience = _PATIENCE_SECONDS
        else:
            patience = 0.0
        try:
            while True:
                finished, pulled = self._done.get(timeout=patience)
                self._running.discard(finished)
                if finished == message_id:
                    patience = 0.0
                yield finished, pulled
        except Empty:
            return

    def _run(self, message_id: str) -> None:
        try:
            pulled: Pulled = list(self._grid.pull_messages([message_id]))
        except Exception:
            # Flower raises on content it cannot parse. Were it the connection instead, the
            # next request outside of this guard raises too and ends the run.
            pulled = None
        self._done.put((message_id, pulled))
