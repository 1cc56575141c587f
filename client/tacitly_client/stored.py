"""What is stored of a person, for that person: counted by day and application, and event by event.

Days are those of the person's own calendar. Nothing here leaves the machine.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from tacitly_client.store import Damage, EventStore, RetentionPolicy, Span, StoreError
from tacitly_client.store.days import local_bounds_ns
from tacitly_client.store.dropped import read_dropped
from tacitly_common.errors import ValidationError
from tacitly_common.events import EVENT_SCHEMA_VERSION, Event, EventKind, to_json_line

_SECOND_NS: Final = 10**9


class OfApplication(msgspec.Struct, frozen=True):
    """What is stored of one application on one day. `app` is "" where it is not known."""

    app: str
    events: int
    keys: int


class OfDay(msgspec.Struct, frozen=True):
    """One day: what is stored, and what was not kept, by rule."""

    day: date
    applications: tuple[OfApplication, ...]
    not_kept: dict[str, int]


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `key` says where the key is and what that protects against."""

    days: tuple[OfDay, ...]
    events: int
    size_bytes: int
    key: str
    retention: RetentionPolicy


def count_stored(store: EventStore, span: Span, on_damage: Callable[[Damage], None]) -> Stored:
    """What is stored of a span, and what of its days was not kept."""
    events: Counter[tuple[date, str]] = Counter()
    keys: Counter[tuple[date, str]] = Counter()
    for event in of_span(store, span, on_damage):
        place = local_day(event.wall_ns), event.app
        events[place] += 1
        keys[place] += event.kind is EventKind.KEY_DOWN
    dropped = {
        day: rules
        for day, rules in read_dropped(store.directory).items()
        if span.overlaps(*local_bounds_ns(day)) and span.app is None
    }
    return Stored(
        days=tuple(
            OfDay(
                day,
                tuple(
                    OfApplication(app, count, keys[each, app])
                    for (each, app), count in sorted(events.items())
                    if each == day
                ),
                dropped.get(day, {}),
            )
            for day in sorted({*dropped, *(day for day, _ in events)})
        ),
        events=events.total(),
        size_bytes=store.size_bytes(),
        key=store.protection,
        retention=store.retention,
    )


def of_span(store: EventStore, span: Span, on_damage: Callable[[Damage], None]) -> Iterator[Event]:
    """The events of a span in order of time."""
    found = store.events(span.since_ns, span.until_ns, on_damage=on_damage)
    return (event for event in found if span.holds(event))


def local_day(wall_ns: int) -> date:
    """The day of a time in the person's own calendar."""
    return datetime.fromtimestamp(wall_ns // _SECOND_NS, UTC).astimezone().date()


def line_of(event: Event) -> str:
    """One event as stored, in a line for a terminal: time, application, kind, everything else.

    Places on the screen are rounded to a thousandth of it. What a terminal might take for a
    command is escaped.
    """
    seconds, rest_ns = divmod(event.wall_ns, _SECOND_NS)
    at = datetime.fromtimestamp(seconds, UTC).astimezone()
    rest: dict[str, Any] = msgspec.to_builtins(event)
    for shown in ("wall_ns", "monotonic_ns", "kind", "app"):
        rest.pop(shown, None)
    rest = {name: round(v, 3) if isinstance(v, float) else v for name, v in rest.items()}
    content = msgspec.json.encode(rest).decode() if rest else ""
    moment = f"{at:%Y-%m-%d %H:%M:%S}.{rest_ns // 10**6:03}"
    return printable(f"{moment}  {event.app or '?'}  {event.kind.value}  {content}".rstrip())


def printable(text: str) -> str:
    """The same with everything escaped that is no visible character."""
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in text)


def export(events: Iterable[Event], path: Path) -> int:
    """Write events as JSON lines, and beside them their JSON schema; how many there were.

    Both files are new and for their owner alone. `events.jsonl` gets `events.schema.json`.

    Raises:
        ValidationError: one of them is there already, or their directory is not.
        StoreError, OSError: could not be written or read; neither file is left behind.
    """
    schema_path = path.with_suffix(".schema.json")
    count = 0
    lines = _new_private(path)
    try:
        with os.fdopen(lines, "wb") as file:
            for event in events:
                file.write(to_json_line(event) + b"\n")
                count += 1
        with os.fdopen(_new_private(schema_path), "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(event_schema())) + b"\n")
    except BaseException:
        path.unlink()
        raise
    return count


def event_schema() -> dict[str, Any]:
    """The JSON schema of a line."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"Tacitly event, schema version {EVENT_SCHEMA_VERSION}; one in a line",
        **msgspec.json.schema(Event),
    }


def _new_private(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ValidationError(f"{path} is there already; give a new name") from None
    except FileNotFoundError:
        raise ValidationError(f"{path.parent} is no directory; make it first") from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; give another place") from error
