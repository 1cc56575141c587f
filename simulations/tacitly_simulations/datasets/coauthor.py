"""CoAuthor writing sessions (Lee, Liang, Yang 2022): typing and suggestion-list events.

Every row of the source `user` becomes one key_down, in the recorded order, so that a token
stream of the family `keys` has one token a row. The recording holds effects, not devices: a
caret move does not say whether mouse or arrow key made it, and no row has a key_up or a
position. Each effect is therefore written as the key that has it in the editor:

| row                          | key_down                                                     |
|------------------------------|--------------------------------------------------------------|
| text-insert of one character | the character; Enter for a line's end                        |
| text-insert of several       | Control+v (a paste, or an input method)                      |
| text-delete                  | Backspace                                                    |
| suggestion-get, -reopen      | Tab, Shift+Tab                                               |
| suggestion-up, -down         | ArrowUp, ArrowDown                                           |
| suggestion-hover             | Alt+ArrowDown, a stand-in: a pointer event would need a place|
| suggestion-select            | Control+Enter (Enter alone is a typed line's end)            |
| suggestion-close             | Escape                                                       |
| cursor-forward, -backward    | ArrowRight, ArrowLeft                                        |
| cursor-select                | Shift+ArrowRight (the row does not tell the direction)       |

A typed character that replaces a selection is the character. Rows of the source `api` are the
editor's own doing and left out.
"""

import csv
import lzma
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from tacitly_common.events import Event, EventKind
from tacitly_simulations.datasets.person import MS, Person, reading

_ACTIONS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "text-delete": ("Backspace", ()),
    "suggestion-get": ("Tab", ()),
    "suggestion-reopen": ("Tab", ("Shift",)),
    "suggestion-up": ("ArrowUp", ()),
    "suggestion-down": ("ArrowDown", ()),
    "suggestion-hover": ("ArrowDown", ("Alt",)),
    "suggestion-select": ("Enter", ("Control",)),
    "suggestion-close": ("Escape", ()),
    "cursor-forward": ("ArrowRight", ()),
    "cursor-backward": ("ArrowLeft", ()),
    "cursor-select": ("ArrowRight", ("Shift",)),
}


class _Operation(msgspec.Struct):
    insert: str = ""


class _Delta(msgspec.Struct):
    ops: list[_Operation]


class _Row(msgspec.Struct, rename="camel"):
    event_name: str
    event_source: str
    event_timestamp: int  # Unix ms
    text_delta: _Delta | str


_DECODER: Final = msgspec.json.Decoder(_Row)


def load(directory: Path) -> Iterator[Person]:
    """37 writers by name."""
    index = directory / "sessions.csv"
    sessions: dict[str, list[tuple[int, str]]] = defaultdict(list)
    with reading(index), index.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            sessions[row["writer"]].append((int(row["start_ms"]), row["session_id"]))
    for writer in sorted(sessions):
        paths = [directory / "sessions" / f"{id_}.jsonl.xz" for _, id_ in sorted(sessions[writer])]
        yield Person(writer, tuple(_session(path) for path in paths))


def _session(path: Path) -> tuple[Event, ...]:
    with reading(path):
        rows = _DECODER.decode_lines(lzma.decompress(path.read_bytes()))
        own = [row for row in rows if row.event_source == "user"]
        return tuple(_event(row, since_ms=own[0].event_timestamp) for row in own)


def _event(row: _Row, *, since_ms: int) -> Event:
    if row.event_name == "text-insert":
        key, modifiers = _inserted(row.text_delta)
    else:
        key, modifiers = _ACTIONS[row.event_name]
    return Event(
        EventKind.KEY_DOWN,
        (row.event_timestamp - since_ms) * MS,
        row.event_timestamp * MS,
        key,
        modifiers,
    )


def _inserted(delta: _Delta | str) -> tuple[str, tuple[str, ...]]:
    if isinstance(delta, str):
        raise TypeError("an insertion without its text")
    text = "".join(operation.insert for operation in delta.ops)
    if len(text) != 1:
        return "v", ("Control",)
    return ("Enter" if text == "\n" else text), ()
