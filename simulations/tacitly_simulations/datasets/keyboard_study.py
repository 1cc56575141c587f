"""Freihaut & Goeritz (2022): key_down and key_up of a fixed phrase on people's own computers.

Every recorded event becomes one event. A key_down of a key that is already down is auto-repeat.
Shift counts as a modifier of named keys only: with a character it is part of the character.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from tacitly_common.events import Event, EventKind
from tacitly_simulations.datasets.person import MS, Person, reading


class _Key(msgspec.Struct, rename="camel"):
    event_type: Literal["KeyDown", "KeyUp"]
    key: str
    code: str  # the physical key
    shift_pressed: bool
    ctrl_pressed: bool
    time: int  # Unix ms


class _Grabbed(msgspec.Struct, rename="camel"):
    typing_data: list[_Key] | dict[str, _Key]


class _Session(msgspec.Struct, rename="camel"):
    grabbed_data: _Grabbed


_DECODER: Final = msgspec.json.Decoder(dict[str, dict[str, _Session]])


def load(directory: Path) -> Iterator[Person]:
    """36 participants by pseudonym."""
    path = directory / "typing.json.gz"
    with reading(path), gzip.open(path, "rb") as file:
        participants = _DECODER.decode(file.read())
    for participant in sorted(participants):
        with reading(path):
            sessions = [_events(session) for session in participants[participant].values()]
        yield Person(participant, tuple(sorted(sessions, key=lambda events: events[0].wall_ns)))


def _events(session: _Session) -> tuple[Event, ...]:
    keys = session.grabbed_data.typing_data
    if isinstance(keys, dict):  # its names are the places in the list: "0", "1", ...
        keys = [keys[place] for place in sorted(keys, key=int)]
    down: set[str] = set()
    events: list[Event] = []
    for key in keys:
        is_down = key.event_type == "KeyDown"
        events.append(
            Event(
                EventKind.KEY_DOWN if is_down else EventKind.KEY_UP,
                (key.time - keys[0].time) * MS,
                key.time * MS,
                key.key,
                _modifiers(key),
                repeat=is_down and key.code in down,
            )
        )
        if is_down:
            down.add(key.code)
        else:
            down.discard(key.code)
    return tuple(events)


def _modifiers(key: _Key) -> tuple[str, ...]:
    is_named = len(key.key) > 1
    held = (("Control", key.ctrl_pressed), ("Shift", key.shift_pressed and is_named))
    return tuple(name for name, pressed in held if pressed and name != key.key)
