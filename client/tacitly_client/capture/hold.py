"""The hold-back: no key is stored before two seconds have passed without a contradiction.

Whether a secret field had the focus may be told late: the longest that was measured is 0.8 s
(a script moves the focus while the browser is busy). So every key waits here, and what happened
after it, to keep the order. If a secret field turns out to have had the focus, the keys of the
last seconds are gone; if the focus was somewhere unknown, their characters are.

The characters themselves wait in one block of memory that is locked where the system allows it,
and are wiped when they leave. Elsewhere they exist one at a time, and as a run of text only in the
process that judges it (`apart.py`). Neither leaves dumps (`processes.forbid_dumps`).
"""

import ctypes
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from tacitly_client.capture.gate import Place, Reread
from tacitly_client.redaction import ContentLevel, Redacted
from tacitly_common.errors import ValidationError
from tacitly_common.events import Event

LEAST_HOLD_SECONDS: Final = 2.0
_CAPACITY: Final = 4_096
_CELL_BYTES: Final = 4


class LockedCharacters:
    """Characters as code points in a block that is not swapped out."""

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._block = bytearray(capacity * _CELL_BYTES)
        where = (ctypes.c_char * len(self._block)).from_buffer(self._block)
        library = ctypes.CDLL(None)
        # May fail by a limit; the block is then as safe as any memory.
        self.locked = hasattr(library, "mlock") and not library.mlock(where, len(self._block))
        self._points = memoryview(self._block).cast("I")
        self._free = list(range(capacity))

    def put(self, character: str) -> int | None:
        """The cell that holds it now; None if all are taken."""
        if not self._free:
            return None
        cell = self._free.pop()
        self._points[cell] = ord(character)
        return cell

    def get(self, cell: int) -> str:
        """The character in a cell."""
        return chr(self._points[cell])

    def wipe(self, cell: int) -> None:
        """Forget a cell's character."""
        self._points[cell] = 0
        self._free.append(cell)


class Held:
    """Something that waits. `event` has no content; `cell` has what may become its content."""

    __slots__ = ("cell", "event", "is_key", "run", "since_ns")

    def __init__(self, event: Event | None, since_ns: int, *, is_key: bool) -> None:
        self.event = event
        self.since_ns = since_ns
        self.is_key = is_key
        self.cell: int | None = None
        self.run: Run | None = None


class Run:
    """Characters typed in one field with nothing else between. Judged as one, when it ended."""

    __slots__ = ("begins", "ended", "ends", "held", "left", "level", "place", "reread")

    def __init__(self, place: Place, level: ContentLevel, *, begins: bool) -> None:
        self.place = place
        self.level = level
        self.begins = begins  # its first word was seen from the start
        self.ended = self.ends = False  # `ends`: with a complete word
        self.left = False  # since then the focus may have been moved on purpose
        self.held: list[Held] = []
        self.reread: Reread | None = None

    def end(self, *, complete: bool) -> None:
        """Nothing more belongs to it. Once its end was not complete it stays so."""
        self.ends = complete and (self.ends or not self.ended)
        self.ended = True


class Hold:
    """The queue of what waits."""

    def __init__(self, seconds: float = LEAST_HOLD_SECONDS) -> None:
        """`seconds`: how long a key waits.

        Raises:
            ValidationError: less than `LEAST_HOLD_SECONDS`.
        """
        if seconds < LEAST_HOLD_SECONDS:
            raise ValidationError(
                f"a hold-back of {seconds} s is less than {LEAST_HOLD_SECONDS} s, within which "
                "applications tell of their secret fields; hold longer"
            )
        self.nanoseconds = round(seconds * 1e9)
        self._queue: deque[Held] = deque()
        self._characters = LockedCharacters()

    def add(self, event: Event, now_ns: int, *, is_key: bool) -> None:
        """Something without content."""
        self._queue.append(Held(event, now_ns, is_key=is_key))

    def add_character(self, run: Run, character: str, event: Event | None, now_ns: int) -> None:
        """A character of a run; `event` is what is stored if it is not kept, if anything is."""
        held = Held(event, now_ns, is_key=True)
        held.cell = self._characters.put(character)
        if held.cell is None:
            run.end(complete=False)
        else:
            held.run = run
            run.held.append(held)
        self._queue.append(held)

    def is_due(self, run: Run, now_ns: int) -> bool:
        """Whether the last key of a run has waited long enough."""
        return not run.held or now_ns - run.held[-1].since_ns >= self.nanoseconds

    def text(self, run: Run) -> list[str]:
        """A run's characters."""
        return [self._characters.get(held.cell) for held in run.held if held.cell is not None]

    def settle(self, run: Run, redacted: Redacted | None) -> None:
        """Decide on a run: what redaction left of it, or (None) no character at all."""
        kept = redacted.kept if redacted else ("",) * len(run.held)
        for held, key in zip(run.held, kept, strict=True):
            if key is None:
                held.event = None
            elif key and held.event is not None:
                held.event = msgspec.structs.replace(held.event, key=key)
            self._let_go(held)
        run.held.clear()

    def drop_run(self, run: Run) -> int:
        """Its keys never happened; their number."""
        count = len(run.held)
        for held in run.held:
            held.event = None
            self._let_go(held)
        run.held.clear()
        return count

    def forget_since(self, run: Run, since_ns: int, unknown: Callable[[Event], Event]) -> int:
        """The characters of a run's keys that came since are gone; their number. `unknown` makes
        of a class what is stored of an unknown field's."""
        recent = [held for held in run.held if held.since_ns >= since_ns]
        for held in recent:
            if held.event is not None:
                held.event = unknown(held.event)
            run.held.remove(held)
            self._let_go(held)
        if recent:
            run.end(complete=False)
        return len(recent)

    def drop_since(self, since_ns: int) -> int:
        """The keys that came since never happened; their number. What is left of a run is cut."""
        recent = [held for held in self._queue if held.is_key and held.since_ns >= since_ns]
        count = sum(held.event is not None for held in recent)
        for held in recent:
            held.event = None
            if held.run is not None:
                held.run.held.remove(held)
                held.run.end(complete=False)
                self._let_go(held)
        return count

    def release(self, now_ns: int) -> list[Event]:
        """What need not wait any longer, in order."""
        released = []
        while self._queue:
            first = self._queue[0]
            waits = first.is_key and now_ns - first.since_ns < self.nanoseconds
            if first.run is not None or (waits and first.event is not None):
                break
            self._queue.popleft()
            if first.event is not None:
                released.append(first.event)
        return released

    def clear(self) -> None:
        """Forget everything."""
        for held in self._queue:
            self._let_go(held)
        self._queue.clear()

    def _let_go(self, held: Held) -> None:
        if held.cell is not None:
            self._characters.wipe(held.cell)
            held.cell = None
        held.run = None
