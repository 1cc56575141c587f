"""The event schema: what capture writes, the store keeps and training reads.

An `Event` is the only form in which a person's interactions exist inside Tacitly, and it
exists only on that person's machine. `to_json_line` and `from_json_line` are its one
serialised form (the store seals those lines; exports show them).
"""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec

from tacitly_common.errors import ValidationError

EVENT_SCHEMA_VERSION: Final = 1


class EventKind(StrEnum):
    """What happened."""

    KEY_DOWN = "key_down"
    KEY_UP = "key_up"
    POINTER_MOVE = "pointer_move"
    BUTTON_DOWN = "button_down"
    BUTTON_UP = "button_up"
    SCROLL = "scroll"
    FOCUS = "focus"


class Event(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One interaction.

    | field        | meaning                                                                   |
    |--------------|---------------------------------------------------------------------------|
    | kind         | what happened                                                             |
    | monotonic_ns | nanoseconds of a clock that never goes back within one session            |
    | wall_ns      | nanoseconds since 1970-01-01 UTC: orders sessions, names the data epoch   |
    | key          | W3C UI Events `key` value ("a", "Enter", "Backspace"); key events only    |
    | modifiers    | held, sorted, of "Alt", "Control", "Meta", "Shift"; Shift that only makes |
    |              | a capital or symbol is part of `key` and not listed                       |
    | repeat       | a key_down made by auto-repeat                                            |
    | button       | 1 left, 2 middle, 3 right; button events only, else 0                     |
    | x, y         | position as a fraction of the desktop, [0, 1], y grows downwards          |
    | dx, dy       | wheel notches, right and down positive; scroll events only                |
    | app          | short id of the application with the focus, "" if unknown                 |
    """

    kind: EventKind
    monotonic_ns: int
    wall_ns: int
    key: str = ""
    modifiers: tuple[str, ...] = ()
    repeat: bool = False
    button: int = 0
    x: float = 0.0
    y: float = 0.0
    dx: float = 0.0
    dy: float = 0.0
    app: str = ""

    def __repr__(self) -> str:
        """Show the kind alone: a repr ends up in logs and tracebacks, content must not."""
        return f"Event({self.kind.value})"


def data_epoch(event: Event) -> str:
    """The calendar month (UTC) of an event, "2026-11": what its use is charged to."""
    return f"{datetime.fromtimestamp(event.wall_ns // 10**9, UTC):%Y-%m}"


def data_epochs(events: Iterable[Event]) -> tuple[str, ...]:
    """Every month that occurs, sorted."""
    return tuple(sorted({data_epoch(event) for event in events}))


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Event)


def to_json_line(event: Event) -> bytes:
    """One UTF-8 JSON object without line breaks; fields at their default are left out.

    Raises:
        ValidationError: JSON cannot say the event: NaN, infinity, half of a surrogate pair.
    """
    try:
        if math.isfinite(event.x + event.y + event.dx + event.dy):
            return _ENCODER.encode(event)
    except UnicodeEncodeError:
        pass
    raise ValidationError("an event holds NaN, infinity or text that is no Unicode; leave it out")


def from_json_line(line: bytes) -> Event:
    """The inverse of `to_json_line`.

    Raises:
        ValidationError: not JSON, an unknown or missing field. The text itself is not quoted.
    """
    try:
        return _DECODER.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # `from None`: the cause may quote the line.
        raise ValidationError(
            f"not an event of schema version {EVENT_SCHEMA_VERSION} (line of {len(line)} bytes)"
        ) from None
