"""SYNTHETIC typists and pointer users: made up, seeded, for demos and tests. Nobody real.

    person = synthetic_person(seed=7, events=20_000)      # stands for a private person
    person = public_text_person(seed=7, events=20_000)    # for public pretraining

Both type prose that Python ships (`public_text`; the two share none of it), with habits drawn
from the seed: speed, typing errors and their correction, shortcuts, favourite places to click,
applications, pauses. The same seed gives the same person on the same Python version (the texts
are that version's).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from random import Random
from typing import Final

from tacitly_common.events import Event, EventKind
from tacitly_common.validation import positive
from tacitly_simulations.datasets.person import SECOND, Person
from tacitly_simulations.datasets.public_text import Texts, docstrings, reference_manual

_FIRST_MORNING_NS: Final = 1_767_600_000 * SECOND  # 2026-01-05 08:00 UTC
_DAY_NS: Final = 86_400 * SECOND
_SESSION_EVENTS: Final = 4_000
_FRAME_SECONDS: Final = 1 / 60  # between two pointer positions
_LETTERS: Final = "etaoinshrdlucmfwypvbgk"
_SHIFTED: Final = frozenset('ABCDEFGHIJKLMNOPQRSTUVWXYZ!"#$%&()*+:<>?@^_{|}~')


@dataclass(frozen=True, slots=True)
class Habits:
    """How one synthetic person works. Times are medians in seconds, rates are probabilities."""

    press_seconds: float
    gap_seconds: float
    think_seconds: float
    typo_rate: float  # a character
    save_rate: float  # a sentence
    rework_rate: float  # a sentence
    side_trip_rate: float  # a paragraph
    switches_by_keyboard: bool
    editor: str
    elsewhere: tuple[str, ...]
    click_places: tuple[tuple[float, float], ...]
    scroll_notches: int

    @staticmethod
    def of(random: Random) -> "Habits":
        """Habits drawn at random."""
        return Habits(
            press_seconds=random.uniform(0.06, 0.12),
            gap_seconds=random.uniform(0.05, 0.25),
            think_seconds=random.uniform(0.8, 4.0),
            typo_rate=random.uniform(0.005, 0.06),
            save_rate=random.choice((0.0, 0.2, 0.9)),
            rework_rate=random.uniform(0.0, 0.2),
            side_trip_rate=random.uniform(0.2, 0.8),
            switches_by_keyboard=random.random() < 0.5,
            editor=random.choice(("code", "writer", "gedit", "emacs")),
            elsewhere=tuple(random.sample(("firefox", "thunderbird", "slack", "nautilus"), 2)),
            click_places=tuple((random.random(), random.random()) for _ in range(3)),
            scroll_notches=random.randint(1, 12),
        )


def synthetic_person(seed: int, events: int) -> Person:
    """A synthetic person of exactly `events` events over the language reference."""
    return _person(f"synthetic-{seed}", events, reference_manual())


def public_text_person(seed: int, events: int) -> Person:
    """A synthetic person of exactly `events` events over the library's docstrings."""
    return _person(f"public-{seed}", events, docstrings())


def _person(name: str, events: int, texts: Texts) -> Person:
    positive(events=events)
    random = Random(name)  # noqa: S311 (makes up a person, hides nothing)
    habits = Habits.of(random)
    paragraphs = cycle(_reading_list(texts, random))
    sessions: list[tuple[Event, ...]] = []
    while (left := events - sum(map(len, sessions))) > 0:
        morning_ns = _FIRST_MORNING_NS + len(sessions) * _DAY_NS
        desk = _Desk(random, habits, morning_ns + int(random.uniform(0, 4 * 3600)) * SECOND)
        desk.switch(habits.editor)
        while len(desk.events) < min(left, _SESSION_EVENTS):
            _write(desk, next(paragraphs))
        sessions.append(tuple(desk.events[:left]))
    return Person(name, tuple(sessions))


def _reading_list(texts: Texts, random: Random) -> list[str]:
    """All paragraphs, a person's preferred topics first."""
    topics = random.sample(sorted(texts), len(texts))
    return [paragraph for topic in topics for paragraph in texts[topic]]


def _write(desk: "_Desk", paragraph: str) -> None:
    """Type a paragraph and do what one does between sentences and paragraphs."""
    random, habits = desk.random, desk.habits
    for character in paragraph:
        if character.isalpha() and random.random() < habits.typo_rate:
            desk.press(random.choice(_LETTERS))
            desk.press("Backspace")
        desk.press(character)
        if character in ".:":
            if random.random() < habits.rework_rate:
                _rework(desk)
            if random.random() < habits.save_rate:
                desk.press("s", "Control")
            desk.wait(habits.think_seconds)
    desk.press("Enter")
    if random.random() < habits.side_trip_rate:
        random.choice(_SIDE_TRIPS)(desk)


def _rework(desk: "_Desk") -> None:
    """Go back over some words, take one out, think better of it."""
    for _ in range(desk.random.randint(1, 4)):
        desk.press("ArrowLeft", "Control")
    desk.press("Delete", "Control")
    desk.wait(desk.habits.think_seconds)
    desk.press("z", "Control")
    desk.press("End")


def _look_up(desk: "_Desk") -> None:
    """Read something elsewhere, come back with a click."""
    desk.switch(desk.habits.elsewhere[0])
    desk.click(desk.habits.click_places[0])
    desk.scroll(desk.habits.scroll_notches)
    desk.wait(3 * desk.habits.think_seconds)
    desk.scroll(-1)
    desk.switch(desk.habits.editor)
    desk.click(desk.habits.click_places[1])


def _pass_on(desk: "_Desk") -> None:
    """Copy what was written and send it."""
    desk.press("ArrowUp", "Shift")
    desk.press("c", "Control")
    desk.switch(desk.habits.elsewhere[1])
    desk.click(desk.habits.click_places[2])
    desk.press("v", "Control")
    desk.press("Enter", "Control")
    desk.switch(desk.habits.editor)
    desk.press("End")


_SIDE_TRIPS: Final[tuple[Callable[["_Desk"], None], ...]] = (_look_up, _pass_on)


class _Desk:
    """One session: hands, clock and focus. Every method appends what a capture would record."""

    def __init__(self, random: Random, habits: Habits, started_ns: int) -> None:
        self.random, self.habits = random, habits
        self.events: list[Event] = []
        self._started_ns = self._now_ns = started_ns
        self._app = ""
        self._x, self._y = 0.5, 0.5

    def wait(self, median_seconds: float) -> None:
        """Let time pass: lognormal about the median, as intervals between keys are."""
        factor = math.exp(0.4 * self.random.gauss(0.0, 1.0))
        self._now_ns += int(median_seconds * factor * SECOND)

    def press(self, key: str, modifier: str = "") -> None:
        """Press and release a key, with Shift where its character needs it."""
        held = modifier or ("Shift" if key in _SHIFTED else "")
        modifiers = (modifier,) if modifier else ()
        if held:
            self._key(EventKind.KEY_DOWN, held)
        self._key(EventKind.KEY_DOWN, key, modifiers)
        self.wait(self.habits.press_seconds)
        self._key(EventKind.KEY_UP, key, modifiers)
        if held:
            self._key(EventKind.KEY_UP, held)
        self.wait(self.habits.gap_seconds)

    def click(self, place: tuple[float, float]) -> None:
        """Go near a place, press and release the left button."""
        for x, y in self._way(place):
            self._x, self._y = x, y
            self._pointer(EventKind.POINTER_MOVE)
            self._now_ns += int(_FRAME_SECONDS * SECOND)
        self._pointer(EventKind.BUTTON_DOWN, button=1)
        self.wait(self.habits.press_seconds)
        self._pointer(EventKind.BUTTON_UP, button=1)
        self.wait(self.habits.think_seconds / 4)

    def scroll(self, notches: int) -> None:
        """Turn the wheel, downwards if positive."""
        for _ in range(abs(notches)):
            self._pointer(EventKind.SCROLL, dy=math.copysign(1.0, notches))
            self.wait(0.1)

    def switch(self, app: str) -> None:
        """Give another application the focus, by Alt+Tab or by a click on the task bar."""
        if self._app:
            if self.habits.switches_by_keyboard:
                self.press("Tab", "Alt")
            else:
                self.click((0.2, 0.99))
        self._app = app
        self.events.append(Event(EventKind.FOCUS, *self._clocks(), app=app))
        self.wait(self.habits.think_seconds / 2)

    def _way(self, place: tuple[float, float]) -> Iterator[tuple[float, float]]:
        """Positions from here to near a place, faster in the middle."""
        from_x, from_y = self._x, self._y
        to_x, to_y = (min(max(at + self.random.gauss(0, 0.02), 0.0), 1.0) for at in place)
        steps = self.random.randint(8, 20)
        for step in range(1, steps + 1):
            done = (1 - math.cos(math.pi * step / steps)) / 2
            yield from_x + done * (to_x - from_x), from_y + done * (to_y - from_y)

    def _key(self, kind: EventKind, key: str, modifiers: tuple[str, ...] = ()) -> None:
        self.events.append(Event(kind, *self._clocks(), key, modifiers, app=self._app))

    def _pointer(self, kind: EventKind, *, button: int = 0, dy: float = 0.0) -> None:
        self.events.append(
            Event(kind, *self._clocks(), button=button, x=self._x, y=self._y, dy=dy, app=self._app)
        )

    def _clocks(self) -> tuple[int, int]:
        return self._now_ns - self._started_ns, self._now_ns
