"""Events -> tokens: the only place where content is coarsened for a model.

The table is fixed, public and the same for everybody; nothing in it is learned from anybody's
data. `VOCABULARY_VERSION` names table and rules; either changes only together with it.

    vocabulary = Vocabulary(plan.tokens)
    tokens = vocabulary.encode(events)        # int64[n], each in [0, vocabulary.size)
    vocabulary.name(tokens[1])                # "a", "Control+c", "<pause 4s>"

| event                     | token                                                               |
|---------------------------|---------------------------------------------------------------------|
| a session begins          | `<start>` (also pads windows): the clock went back, or 30 minutes   |
|                           | passed. Context only: not a prediction's target                     |
| key_down, character       | itself (case kept); digits all `<digit>`, other letters `<letter>`, |
|                           | anything else `<symbol>`; at level `classes` only these three       |
| key_down, named key       | `Enter`, `Backspace`, `ArrowLeft` ...; `<function>`, `<input>` (an  |
|                           | input method's), `<key>` (any other)                                |
| key_down with modifiers   | one token, `Control+c`; outside the closed list `Control+<char>` or |
|                           | `Control+<key>`. Meta counts as Control: Command+C is Ctrl+C        |
| key_down, a modifier      | none: it is part of the chord that follows                          |
| key_down by auto-repeat   | none: holding a key is one action                                   |
| key_up, button_up         | none                                                                |
| button_down               | button x cell of a 3 x 3 grid (column,row), `<left 0,2>`            |
| pointer_move              | a stroke's direction x length, `<move NE far>`; a stroke ends with  |
|                           | a turn, a pause or another event's token                            |
| scroll                    | direction; a run in one direction is one token                      |
| focus                     | category of the application, when the application changes           |
| nothing for a second      | `<pause 1s>`, `<pause 4s>` ...: the largest bound not above it      |
| a key that is no key      | `<unk>` (empty or unprintable)                                      |
| a key stored as its class | that class: `<letter>`, `Control+<char>` (see `keys.key_class`)     |

Events of families that the plan leaves out are not seen at all, the table stays the same.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tacitly_common.campaign import Family, Level, TokenPlan
from tacitly_common.errors import ValidationError
from tacitly_common.events import Event, EventKind
from tacitly_common.keys import (
    CHARACTER_CLASSES,
    CHARACTERS,
    CHORDS,
    KEY_CLASSES,
    KEYS,
    UNKNOWN_KEY,
    key_token,
)

VOCABULARY_VERSION: Final = 1
START: Final = 0  # also the padding of windows
UNKNOWN: Final = 1

SESSION_GAP_NS: Final = 30 * 60 * 10**9
_SECOND_NS: Final = 10**9

_BUTTONS: Final = {1: "left", 3: "right"}  # any other: "other"
_BUTTON_NAMES: Final = ("left", "right", "other")
_CELLS: Final = 3  # a side of the grid
_CELL_NAMES: Final = tuple(f"{column},{row}" for row in range(_CELLS) for column in range(_CELLS))
_OCTANTS: Final = ("E", "NE", "N", "NW", "W", "SW", "S", "SE")
_JITTER: Final = 1 / 128  # fractions of the desktop; less is not yet a movement
_LENGTHS: Final = (("far", 1 / 4), ("mid", 1 / 16), ("near", 0.0))
_SCROLLS: Final = ("up", "down", "left", "right")
_PAUSES: Final = ((1024, "17min"), (256, "4min"), (64, "1min"), (16, "16s"), (4, "4s"), (1, "1s"))

_APPLICATIONS: Final = {
    "browser": "brave chrome chromium edge epiphany firefox msedge opera safari vivaldi",
    "editor": "atom code devenv eclipse emacs gedit idea idea64 kate notepad notepad++ nvim "
    "pycharm sublime_text texteditor textedit vim vscode xcode",
    "terminal": "alacritty cmd gnome-terminal iterm2 kitty konsole powershell ptyxis terminal "
    "windowsterminal xterm",
    "mail": "evolution geary kmail mail outlook thunderbird",
    "chat": "discord element hexchat irssi signal slack teams telegram whatsapp zoom",
    "office": "calc excel impress keynote libreoffice numbers onenote pages powerpnt soffice "
    "winword word writer",
    "files": "dolphin explorer files finder nautilus nemo thunar",
    "media": "gimp mpv music photos photoshop spotify totem vlc",
}
_CATEGORY: Final = {app: name for name, apps in _APPLICATIONS.items() for app in apps.split()}

_FAMILY: Final = {
    EventKind.KEY_DOWN: Family.KEYS,
    EventKind.KEY_UP: Family.KEYS,
    EventKind.POINTER_MOVE: Family.POINTER,
    EventKind.BUTTON_DOWN: Family.POINTER,
    EventKind.BUTTON_UP: Family.POINTER,
    EventKind.SCROLL: Family.POINTER,
    EventKind.FOCUS: Family.APPLICATIONS,
}


class Vocabulary:
    """A level's token table and the families that a plan asks for."""

    __slots__ = ("_families", "_level", "_names", "_tokens")

    def __init__(self, plan: TokenPlan) -> None:
        """The vocabulary of `plan`.

        Raises:
            ValidationError: the plan is for another version of the vocabulary.
        """
        if plan.vocabulary_version != VOCABULARY_VERSION:
            raise ValidationError(
                f"vocabulary_version is {plan.vocabulary_version}, this Tacitly has "
                f"{VOCABULARY_VERSION}; use a Tacitly of the plan's version or change the plan"
            )
        self._level = plan.level
        self._families = frozenset(plan.families)
        self._names = _table(plan.level)
        self._tokens = {name: token for token, name in enumerate(self._names)}

    @property
    def size(self) -> int:
        """Number of tokens: a function of the level alone."""
        return len(self._names)

    @property
    def clicks(self) -> tuple[int, ...]:
        """The tokens of a button in a cell of the grid."""
        names = (f"<{button} {cell}>" for button in _BUTTON_NAMES for cell in _CELL_NAMES)
        return tuple(self._tokens[name] for name in names)

    def encode(self, events: Iterable[Event]) -> NDArray[np.int64]:
        """Tokens of a person's events, which come in the order of time: int64[n].

        Never fails on an `Event`. Empty for no events; otherwise the first token is `START`.
        """
        names = _names_of(events, self._families, self._level)
        return np.fromiter((self._tokens[name] for name in names), dtype=np.int64)

    def name(self, token: int) -> str:
        """The readable name of a token.

        Raises:
            ValidationError: not a token of this table.
        """
        if not 0 <= token < self.size:
            raise ValidationError(f"token must lie in [0, {self.size - 1}], got {token}")
        return self._names[token]

    def token(self, name: str) -> int:
        """The inverse of `name`.

        Raises:
            ValidationError: no token has this name.
        """
        if name not in self._tokens:
            raise ValidationError(f"no token is named {name!r:.40}; see tacitly_common.vocabulary")
        return self._tokens[name]


def _table(level: Level) -> tuple[str, ...]:
    """Names of a level's tokens in their order: `table[token]`."""
    return (
        "<start>",
        UNKNOWN_KEY,
        *(CHARACTERS if level is Level.CHARACTERS else ()),
        *CHARACTER_CLASSES,
        *KEYS,
        *KEY_CLASSES,
        *CHORDS,
        *(f"<{button} {cell}>" for button in _BUTTON_NAMES for cell in _CELL_NAMES),
        *(f"<move {octant} {length}>" for octant in _OCTANTS for length, _ in reversed(_LENGTHS)),
        *(f"<scroll {direction}>" for direction in _SCROLLS),
        *(f"<app {category}>" for category in (*_APPLICATIONS, "other")),
        *(f"<pause {bound}>" for _, bound in reversed(_PAUSES)),
    )


def _names_of(events: Iterable[Event], families: frozenset[Family], level: Level) -> Iterator[str]:
    """Names of the tokens of `events`.

    1. A session's first event forgets what was before; a pause ends stroke and scroll.
    2. A pointer movement prolongs the stroke, or ends it with a turn.
    3. Any other event that has a token ends the stroke first.
    """
    previous: Event | None = None
    stroke = _Stroke()
    app = scroll = ""
    for event in events:
        if _FAMILY[event.kind] not in families:
            continue
        if previous is None or _new_session(previous, event):
            yield from stroke.finish()
            yield "<start>"
            stroke, app, scroll = _Stroke(), "", ""
        elif pause := _pause_name(previous, event):
            yield from stroke.finish()
            scroll = ""
            if Family.PAUSES in families:
                yield pause
        previous = event

        if event.kind is EventKind.POINTER_MOVE:
            yield from stroke.move(event.x, event.y)
            continue
        name = _name_of(event, level)
        if event.kind is EventKind.SCROLL and name == scroll:
            continue
        if event.kind is EventKind.FOCUS:
            if event.app == app:
                continue
            app = event.app
        if name:
            yield from stroke.finish()
            yield name
            scroll = name if event.kind is EventKind.SCROLL else ""
        if event.kind is EventKind.BUTTON_DOWN:
            stroke = _Stroke(event.x, event.y)
    yield from stroke.finish()


def _new_session(previous: Event, event: Event) -> bool:
    return (
        event.monotonic_ns < previous.monotonic_ns
        or event.wall_ns - previous.wall_ns >= SESSION_GAP_NS
    )


def _pause_name(previous: Event, event: Event) -> str:
    """The pause's token, "" for less than a second.

    The longer of both clocks counts: a monotonic clock stands still while a machine sleeps.
    """
    gap_ns = max(event.monotonic_ns - previous.monotonic_ns, event.wall_ns - previous.wall_ns)
    return next((f"<pause {name}>" for s, name in _PAUSES if gap_ns >= s * _SECOND_NS), "")


def _name_of(event: Event, level: Level) -> str:
    """The token of an event that is no movement, "" if it has none."""
    match event.kind:
        case EventKind.KEY_DOWN:
            if event.repeat:
                return ""
            characters = level is Level.CHARACTERS
            return key_token(event.key, event.modifiers, characters=characters)
        case EventKind.BUTTON_DOWN:
            column, row = int(_inside(event.x) * _CELLS), int(_inside(event.y) * _CELLS)
            return f"<{_BUTTONS.get(event.button, 'other')} {column},{row}>"
        case EventKind.SCROLL:
            if abs(event.dx) > abs(event.dy):
                return "<scroll right>" if event.dx > 0 else "<scroll left>"
            return "<scroll down>" if event.dy > 0 else "<scroll up>" if event.dy < 0 else ""
        case EventKind.FOCUS:
            return f"<app {application_category(event.app)}>"
        case _:
            return ""


def application_category(app: str) -> str:
    """The category of an application's id: "org.mozilla.firefox", "chrome.exe" -> "browser"."""
    return _CATEGORY.get(app.lower().removesuffix(".exe").rsplit(".", 1)[-1], "other")


def _inside(fraction: float) -> float:
    """`fraction` moved into [0, 1); NaN becomes 0."""
    return min(max(fraction, 0.0), math.nextafter(1.0, 0.0)) if fraction == fraction else 0.0


class _Stroke:
    """A run of pointer movements in about one direction."""

    __slots__ = ("_end", "_start")

    def __init__(self, x: float | None = None, y: float = 0.0) -> None:
        """A stroke that begins at x, y; with its first movement if these are not known."""
        self._start = self._end = None if x is None else (_inside(x), _inside(y))

    def move(self, x: float, y: float) -> Iterator[str]:
        """Prolong the stroke; yields the old one's token if this movement turns away from it."""
        point = (_inside(x), _inside(y))
        if self._start is None or self._end is None:
            self._start = self._end = point
        elif math.dist(self._end, point) >= _JITTER:
            if self._start != self._end:
                turn = (_octant(self._start, self._end) - _octant(self._end, point)) % 8
                if turn not in (0, 1, 7):
                    yield from self.finish()
            self._end = point

    def finish(self) -> Iterator[str]:
        """Yield the stroke's token, if it moved at all; the next begins where it ended."""
        if self._start is not None and self._end is not None and self._start != self._end:
            length = math.dist(self._start, self._end)
            size = next(name for name, least in _LENGTHS if length >= least)
            yield f"<move {_OCTANTS[_octant(self._start, self._end)]} {size}>"
            self._start = self._end


def _octant(start: tuple[float, float], end: tuple[float, float]) -> int:
    """Index into `_OCTANTS` of the direction from start to end; y grows downwards."""
    angle = math.atan2(start[1] - end[1], end[0] - start[0])
    return round(angle / (math.pi / 4)) % 8
