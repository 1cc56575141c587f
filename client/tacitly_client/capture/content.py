"""What may be kept of an event: the interface of the filter, and the filter that keeps no content.

Capture stores what its filter returns and nothing else. A filter may hold observations back and
return them later, or never.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, Protocol

from tacitly_client.capture.normaliser import Observation
from tacitly_common.events import Event, EventKind
from tacitly_common.keys import key_class

# A multiple of the vocabulary's three columns and rows; 160 x 90 pixels of a full HD screen.
_CELLS: Final = 12
# Finer times between two keys would tell which keys, and whose hands. Pauses count from 1 s.
_TIME_STEP_NS: Final = 250 * 10**6


class ContentFilter(Protocol):
    """Decides what is stored."""

    def accept(self, observations: Sequence[Observation]) -> list[Event]:
        """What may be stored now, in the order it happened, of these and of earlier ones.

        Called after every read, and each quarter of a second for a while after, then with none.
        """

    def discard(self) -> None:
        """Forget everything held back: capture was paused, or is no longer allowed."""


class NoContent:
    """Level `classes`, the safe default: what kind of key, in which part of the desktop, when
    to a quarter of a second.

    | event                  | stored                                                          |
    |------------------------|-----------------------------------------------------------------|
    | key pressed            | its class (`keys.key_class`): no character but in a shortcut     |
    | button pressed         | the button, the cell of a 12 x 12 grid                           |
    | pointer moved          | the cell, when it is another one                                 |
    | wheel turned           | the notches                                                      |
    | focus                  | the application's id                                             |
    | anything released, a   | nothing                                                          |
    | repeat, a modifier     |                                                                  |

    Holds nothing back.
    """

    def __init__(self) -> None:
        self._cell = (-1.0, -1.0)

    def accept(self, observations: Sequence[Observation]) -> list[Event]:
        kept = (self._reduced(observation.event) for observation in observations)
        return [event for event in kept if event is not None]

    def discard(self) -> None:
        self._cell = (-1.0, -1.0)

    def _reduced(self, event: Event) -> Event | None:
        match event.kind:
            case EventKind.POINTER_MOVE:
                cell = _middle(event.x), _middle(event.y)
                if cell == self._cell:
                    return None
                self._cell = cell
                return _coarse(event, x=cell[0], y=cell[1])
            case EventKind.KEY_DOWN:
                named = None if event.repeat else key_class(event.key, event.modifiers)
                return _coarse(event, key=named[0], modifiers=named[1]) if named else None
            case EventKind.BUTTON_DOWN:
                return _coarse(event, button=event.button, x=_middle(event.x), y=_middle(event.y))
            case EventKind.SCROLL:
                return _coarse(event, dx=event.dx, dy=event.dy)
            case EventKind.FOCUS:
                return _coarse(event)
            case _:
                return None


def _coarse(event: Event, **kept: Any) -> Event:
    """A new event of this kind, application and rough time; it has what is named, no more."""
    monotonic_ns = event.monotonic_ns - event.monotonic_ns % _TIME_STEP_NS
    wall_ns = event.wall_ns - event.wall_ns % _TIME_STEP_NS
    return Event(event.kind, monotonic_ns, wall_ns, app=event.app, **kept)


def _middle(fraction: float) -> float:
    """The middle of the cell that holds a fraction of the desktop."""
    inside = min(max(fraction, 0.0), math.nextafter(1.0, 0.0))
    return (int(inside * _CELLS) + 0.5) / _CELLS
