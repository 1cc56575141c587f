"""Raw events -> events: clocks, wheels, repeats, and what is dropped by which rule."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hand_clock import SECOND, HandClock
from tacitly_client.capture.normaliser import Normaliser, Rule
from tacitly_client.capture.source import Anchor, Focus, RawEvent
from tacitly_common.events import Event, EventKind

START_MS = 5_000
MS = 10**6


class Setting:
    """A normaliser, its clock, and a server whose clock shows START_MS at the beginning."""

    def __init__(self, **options: Any) -> None:
        self.clock = HandClock()
        self.normaliser = Normaliser(self.clock, **options)
        self.anchor = Anchor(START_MS, self.clock.monotonic)
        self.first_ns = self.clock.monotonic
        self.first_wall_ns = self.clock.wall

    def events(self, *raw: RawEvent, since_ns: int = 0) -> list[Event]:
        seen = self.normaliser.normalise(list(raw), self.anchor, since_ns=since_ns)
        return [observation.event for observation in seen]


def key(name: str, ms: int = 0, **fields: Any) -> RawEvent:
    return RawEvent(EventKind.KEY_DOWN, (START_MS + ms) % 2**32, key=name, **fields)


def test_times_are_the_servers_on_this_machines_clocks() -> None:
    setting = Setting()
    setting.clock.pass_(3)
    first, second = setting.events(key("a", 1_000), key("b", 2_999))
    assert first.monotonic_ns == setting.first_ns + SECOND
    assert first.wall_ns == setting.first_wall_ns + SECOND
    assert second.monotonic_ns == setting.first_ns + 2_999 * MS


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_the_servers_clock_may_start_anywhere_and_wrap(gaps: list[int], start: int) -> None:
    setting = Setting()
    setting.anchor = Anchor(start, setting.clock.monotonic)
    passed = 0
    for gap in gaps:
        setting.clock.pass_(gap / 1_000)
        passed += gap
        raw = RawEvent(EventKind.KEY_DOWN, (start + passed) % 2**32, key="a")
        (event,) = setting.events(raw)
        assert event.monotonic_ns == setting.first_ns + passed * MS


def test_a_session_longer_than_the_servers_clock_keeps_its_time() -> None:
    setting = Setting()
    days = 120
    setting.clock.pass_(days * 86_400)
    (event,) = setting.events(key("a", days * 86_400_000 - 40))
    assert event.monotonic_ns == setting.clock.monotonic - 40 * MS


def test_a_trembling_wall_clock_does_not_exchange_events() -> None:
    setting = Setting()
    setting.clock.pass_(1)
    walls = []
    for tremble in (0, -30 * MS, 40 * MS, -90 * MS):
        setting.clock.pass_(0.001)
        setting.clock.wall += tremble
        walls += [event.wall_ns for event in setting.events(key("a", 900), key("b", 900))]
        setting.clock.wall -= tremble
    assert walls == sorted(walls)


def test_a_slewed_wall_clock_is_followed_without_going_back() -> None:
    setting = Setting()
    walls = []
    for step in range(1, 50):
        setting.clock.pass_(0.01)
        setting.clock.wall -= 9 * MS
        walls += [event.wall_ns for event in setting.events(key("a", step * 10))]
    assert walls == sorted(walls)
    assert abs(walls[-1] - setting.clock.wall) < 200 * MS


@pytest.mark.parametrize("seconds", [3_600, -3_600])
def test_a_wall_clock_that_is_set_counts_at_once(seconds: int) -> None:
    setting = Setting()
    (before,) = setting.events(key("a"))
    setting.clock.pass_(1)
    setting.clock.wall += seconds * SECOND
    (after,) = setting.events(key("b", 1_000))
    assert after.wall_ns - before.wall_ns == (seconds + 1) * SECOND
    assert after.monotonic_ns - before.monotonic_ns == SECOND


def test_injected_events_are_dropped_and_counted() -> None:
    setting = Setting()
    events = setting.events(key("a"), key("p", injected=True))
    assert [event.key for event in events] == ["a"]
    assert setting.normaliser.dropped == {Rule.INJECTED: 1}


def test_injected_events_are_kept_where_no_person_has_a_keyboard() -> None:
    setting = Setting(keep_injected=True)
    assert len(setting.events(key("a", injected=True))) == 1


def test_keys_of_a_grabbed_keyboard_are_dropped_and_clicks_are_not() -> None:
    setting = Setting()
    click = RawEvent(EventKind.BUTTON_DOWN, START_MS, grabbed=True, button=1)
    released = RawEvent(EventKind.KEY_UP, START_MS, grabbed=True, key="p")
    events = setting.events(key("p", grabbed=True), released, click)
    assert [event.kind for event in events] == [EventKind.BUTTON_DOWN]
    assert setting.normaliser.dropped == {Rule.GRABBED: 2}


def test_what_is_older_than_the_permission_never_counts() -> None:
    """A process that was stopped while the person paused finds all of it when it goes on."""
    setting = Setting()
    setting.clock.pass_(10)
    raw = [key("a", 1_000), key("s", 4_000), key("t", 4_999), key("b", 5_000), key("c", 9_000)]
    events = setting.events(*raw, since_ns=setting.first_ns + 5 * SECOND)
    assert [event.key for event in events] == ["b", "c"]
    assert setting.normaliser.dropped == {Rule.EARLY: 3}


def test_a_key_that_is_down_already_repeats() -> None:
    setting = Setting()
    up = RawEvent(EventKind.KEY_UP, START_MS, key="a", code=38)
    events = setting.events(key("a", code=38), key("a", code=38), up, key("a", code=38))
    assert [event.repeat for event in events] == [False, True, False, False]
    setting.normaliser.forget()
    assert [event.repeat for event in setting.events(key("a", code=38))] == [False]


@pytest.mark.parametrize(
    ("button", "notches"), [(4, (0, -1)), (5, (0, 1)), (6, (-1, 0)), (7, (1, 0))]
)
def test_the_wheels_buttons_are_notches(button: int, notches: tuple[int, int]) -> None:
    setting = Setting()
    raw = [
        RawEvent(kind, START_MS, button=button)
        for kind in (EventKind.BUTTON_DOWN, EventKind.BUTTON_UP)
    ]
    (event,) = setting.events(*raw)
    assert (event.kind, event.button) == (EventKind.SCROLL, 0)
    assert (event.dx, event.dy) == notches


def test_other_buttons_and_places_stay() -> None:
    setting = Setting()
    raw = [
        RawEvent(kind, START_MS, button=8, x=0.25, y=0.75)
        for kind in (EventKind.BUTTON_DOWN, EventKind.BUTTON_UP)
    ]
    down, up = setting.events(*raw)
    assert (down.kind, down.button, down.x, down.y) == (EventKind.BUTTON_DOWN, 8, 0.25, 0.75)
    assert up.kind is EventKind.BUTTON_UP


@pytest.mark.parametrize(
    ("name", "held", "listed"),
    [
        ("A", ("Shift",), ()),
        ("!", ("Shift",), ()),
        ("Tab", ("Shift",), ("Shift",)),
        ("Z", ("Control", "Shift"), ("Control", "Shift")),
        ("c", ("Control",), ("Control",)),
    ],
)
def test_shift_that_only_chooses_a_character_is_not_listed(
    name: str, held: tuple[str, ...], listed: tuple[str, ...]
) -> None:
    (event,) = Setting().events(key(name, modifiers=held))
    assert event.modifiers == listed


def test_the_focus_goes_along_and_names_the_application() -> None:
    setting = Setting()
    focus = Focus("editor", 7, 42)
    seen = setting.normaliser.normalise([key("a", focus=focus), key("b")], setting.anchor)
    assert [observation.focus for observation in seen] == [focus, None]
    assert [observation.event.app for observation in seen] == ["editor", ""]
    assert repr(seen[0]) == "Observation(key_down)"


def test_nothing_gives_nothing() -> None:
    assert Setting().events() == []
