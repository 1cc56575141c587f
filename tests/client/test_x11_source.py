"""The X11 source on a real X server: nothing lost, nothing too much, nothing while paused."""

import subprocess
import time
from collections.abc import Iterator

import pytest
import xcffib
import xcffib.res

from tacitly_client.capture.clock import SystemClock
from tacitly_client.capture.source import Anchor, Focus, Health, RawEvent, UnsupportedError
from tacitly_client.capture.x11 import X11Source
from tacitly_client.capture.x11.listener import anchor_of
from tacitly_common.events import EventKind
from x_display import (
    BUTTON_DOWN,
    BUTTON_UP,
    CODES,
    HEIGHT,
    KEY_DOWN,
    KEY_UP,
    MOTION,
    WIDTH,
    Person,
    Server,
    need,
    server,
    wait_for,
)

TICK = 0.02
# A millisecond of the server's clock, and what the answer to the anchor's question took.
ANCHOR_NS = 20 * 10**6


@pytest.fixture(scope="module")
def display() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture
def person(display: Server) -> Iterator[Person]:
    somebody = Person(display.name)
    somebody.focus(0)
    yield somebody
    somebody.close()


@pytest.fixture
def source(display: Server) -> Iterator[X11Source]:
    yield from started(display)


@pytest.fixture
def still_source(display: Server) -> Iterator[X11Source]:
    """One that does not ask for motion."""
    yield from started(display, motion=False)


def started(display: Server, *, motion: bool = True) -> Iterator[X11Source]:
    listening = X11Source(display.name, SystemClock(), motion=motion, tick_seconds=TICK)
    listening.start()
    until_quiet(listening)
    yield listening
    listening.close()


def until_quiet(source: X11Source, quiet_seconds: float = 0.15) -> list[RawEvent]:
    """Everything until nothing came for a while, however late this process is."""
    events: list[RawEvent] = []
    quiet_reads = 0
    while quiet_reads < 3:
        more = source.poll(quiet_seconds / 3)
        events += more
        quiet_reads = 0 if more else quiet_reads + 1
    return events


def of(events: list[RawEvent], *kinds: EventKind) -> list[RawEvent]:
    return [event for event in events if event.kind in kinds]


def pressed(source: X11Source) -> list[str]:
    return [event.key for event in of(until_quiet(source), EventKind.KEY_DOWN)]


def test_ten_thousand_events_arrive_once_and_in_order_at_a_thousand_a_second(
    source: X11Source, person: Person
) -> None:
    # 8 motions, then a key or a button that says where in the sequence we are: 10 an iteration.
    keys = "qwertyuiop"
    expected: list[tuple[EventKind, str | int]] = []
    received: list[tuple[EventKind, str | int]] = []
    began = time.monotonic()
    for step in range(1_000):
        for move in range(8):
            person.fake(MOTION, 0, (step * 8 + move) % WIDTH, step % HEIGHT)
            expected.append((EventKind.POINTER_MOVE, ""))
        if step % 2:
            key = keys[step // 2 % 10]
            person.fake(KEY_DOWN, CODES[key])
            person.fake(KEY_UP, CODES[key])
            expected += [(EventKind.KEY_DOWN, key), (EventKind.KEY_UP, key)]
        else:
            button = step // 2 % 3 + 1
            person.fake(BUTTON_DOWN, button)
            person.fake(BUTTON_UP, button)
            expected += [(EventKind.BUTTON_DOWN, button), (EventKind.BUTTON_UP, button)]
        person.flush()
        ahead = (step + 1) / 100 - (time.monotonic() - began)
        if step % 5 == 4:
            received += shapes(source.poll(max(ahead, 0)))
        elif ahead > 0:
            time.sleep(ahead)
    received += shapes(until_quiet(source))
    assert len(expected) == 10_000
    assert received == expected


def shapes(events: list[RawEvent]) -> list[tuple[EventKind, str | int]]:
    return [(e.kind, e.key or e.button or "") for e in events if e.kind is not EventKind.FOCUS]


def test_times_are_the_servers_and_do_not_wait_for_the_tick(
    source: X11Source, person: Person
) -> None:
    anchor = source.anchor()
    moments = []
    for key in "abc":
        before = time.monotonic_ns()
        person.press(key)
        moments.append((before, time.monotonic_ns()))
        time.sleep(0.007)
    time.sleep(0.2)
    downs = of(until_quiet(source), EventKind.KEY_DOWN)
    for (before, after), event in zip(moments, downs, strict=True):
        told = anchor.monotonic_ns + (event.server_ms - anchor.server_ms) * 10**6
        assert before - ANCHOR_NS < told < after + ANCHOR_NS
    assert downs[0].server_ms < downs[1].server_ms < downs[2].server_ms


def test_events_made_by_programs_are_told(source: X11Source, person: Person) -> None:
    person.press("a")
    person.move(20, 20)
    person.click()
    events = until_quiet(source)
    assert len(events) >= 5
    assert all(event.injected for event in events if event.kind is not EventKind.FOCUS)


def test_motion_that_is_not_wanted_is_not_even_sent(
    still_source: X11Source, person: Person
) -> None:
    """The process does not wake up: it is what motion that is off costs."""
    before = time.process_time()
    for step in range(500):
        person.move(step, step)
    spent_sending = time.process_time() - before
    began, before = time.monotonic(), time.process_time()
    assert still_source.poll(0.5) == []
    assert time.monotonic() - began >= 0.5
    assert time.process_time() - before < max(0.02, spent_sending)
    person.move(WIDTH // 2, HEIGHT // 4)
    person.click()
    (click,) = of(until_quiet(still_source), EventKind.BUTTON_DOWN)
    assert (click.x, click.y) == (pytest.approx(0.5, abs=1e-3), pytest.approx(0.25, abs=1e-3))


def test_a_pause_deselects_and_what_happens_in_it_is_never_told(
    source: X11Source, person: Person
) -> None:
    assert source.selected() != 0
    person.press("a")
    source.stop()
    assert source.selected() == 0
    assert source.health() is Health.STOPPED
    person.type("secret")
    assert source.poll(0.1) == []
    source.start()
    assert source.selected() != 0
    person.press("b")
    assert pressed(source) == ["b"]


def test_closing_leaves_the_server(display: Server, person: Person) -> None:
    def clients() -> int:
        return int(person.x(xcffib.res.key).QueryClients().reply().num_clients)

    before = clients()
    listening = X11Source(display.name, SystemClock(), motion=True)
    assert clients() == before
    listening.start()
    assert clients() == before + 1
    listening.close()
    wait_for(lambda: clients() == before)


class InterruptedClock(SystemClock):
    """Each look at it takes 0.2 s, as where the machine does other things meanwhile."""

    def monotonic_ns(self) -> int:
        time.sleep(0.2)
        return super().monotonic_ns()


def test_two_processes_tell_the_same_times_however_late_they_are_answered(display: Server) -> None:
    ties = []
    for clock in (SystemClock(), InterruptedClock()):
        source = X11Source(display.name, clock, motion=False)
        source.start()
        anchor = source.anchor()
        ties.append((anchor.monotonic_ns // 10**6 - anchor.server_ms) % 2**32)
        source.close()
    assert ties == [0, 0]


def test_a_server_with_a_clock_of_its_own_is_tied_to_when_it_answered() -> None:
    assert anchor_of(5, 10**15, 10**15 + 10**6) == Anchor(5, 10**15 + 10**6)


def test_the_backlog_of_a_stalled_source_keeps_its_own_times(
    source: X11Source, person: Person
) -> None:
    person.press("a")
    time.sleep(0.4)
    person.press("b")
    first, second = of(until_quiet(source), EventKind.KEY_DOWN)
    assert second.server_ms - first.server_ms >= 350


def test_a_key_belongs_to_the_window_that_had_the_focus_or_to_none(
    source: X11Source, person: Person
) -> None:
    """However fast the focus changes, no key is told of the wrong application."""
    keys = {"editor": "e", "bank": "b", "mail": "m"}
    windows = {app: person.window(app) for app in keys}
    apps = {key: app for app, key in keys.items()}
    steps = list(keys) * 20
    until_quiet(source)
    told: list[RawEvent] = []
    for step, app in enumerate(steps):
        # The source reads this a tick later, when the focus may have moved on several times.
        person.focus(windows[app])
        person.press(keys[app])
        if step % 4 == 0:
            told += until_quiet(source, 0.05)
            person.press(keys[app])
    told += until_quiet(source)
    downs = of(told, EventKind.KEY_DOWN)
    known = [event for event in downs if event.focus is not None]
    assert len(downs) == 75
    assert len(known) >= 15
    assert all(event.focus is not None and event.focus.app == apps[event.key] for event in known)


def test_a_focus_that_comes_back_to_its_window_is_known_at_once(
    source: X11Source, person: Person
) -> None:
    """As window managers take and return it at each click."""
    editor, manager = person.window("editor"), person.window("manager")
    person.focus(editor)
    until_quiet(source)
    for key in "abcdefgh":
        person.focus(manager)
        person.press("Tab")
        person.focus(editor)
        person.press(key)
    told = of(until_quiet(source), EventKind.KEY_DOWN)
    apps = {event.key: event.focus.app if event.focus else None for event in told}
    assert apps.pop("Tab") is None
    assert apps == dict.fromkeys("abcdefgh", "editor")


def test_the_focus_names_the_application_the_window_and_the_process(
    source: X11Source, person: Person
) -> None:
    window = person.window("Some App/2")
    person.focus(window)
    (change,) = of(until_quiet(source), EventKind.FOCUS)
    assert change.focus is not None
    assert (change.focus.app, change.focus.window) == ("some-app-2", window)
    assert change.focus.pid is not None
    person.focus(0)
    (change,) = of(until_quiet(source), EventKind.FOCUS)
    assert change.focus == Focus()


def test_a_child_window_is_its_applications(source: X11Source, person: Person) -> None:
    parent = person.window("editor")
    child = person.window()
    person.x.core.ReparentWindow(child, parent, 0, 0)
    person.focus(child)
    (change,) = of(until_quiet(source), EventKind.FOCUS)
    assert change.focus is not None
    assert (change.focus.app, change.focus.window) == ("editor", child)


def test_a_window_that_is_destroyed_is_no_trouble(source: X11Source, person: Person) -> None:
    for _ in range(20):
        window = person.window("brief")
        person.focus(window)
        person.press("x")
        person.x.core.DestroyWindow(window)
        person.flush()
        until_quiet(source, 0.03)
    person.press("y")
    assert pressed(source) == ["y"]


@pytest.mark.parametrize("where", ["own focused window", "another window", "root", "no focus"])
def test_keys_of_a_grabbed_keyboard_are_marked(
    source: X11Source, person: Person, where: str
) -> None:
    window, other = person.window("editor"), person.window("pinentry")
    person.focus(0 if where == "no focus" else window)
    until_quiet(source)
    grabbing = {"own focused window": window, "another window": other}.get(where, person.root)
    person.press("a")
    person.grab(grabbing)
    person.type("secret")
    until = until_quiet(source)
    person.type("more")
    until += until_quiet(source)
    person.ungrab()
    person.press("b")
    until += until_quiet(source)
    person.press("c")
    until += until_quiet(source)
    free = [event.key for event in of(until, EventKind.KEY_DOWN) if not event.grabbed]
    # Without a focused window nobody tells of the grab, and keys beside it are marked as well.
    assert free in (["a", "b", "c"], ["c"])
    assert where == "no focus" or free == ["a", "b", "c"]


def test_a_grab_from_before_the_start_is_noticed(display: Server, person: Person) -> None:
    window = person.window("locker")
    person.grab(window)
    (source,) = [X11Source(display.name, SystemClock(), motion=False, tick_seconds=TICK)]
    source.start()
    person.type("secret")
    events = of(until_quiet(source), EventKind.KEY_DOWN)
    assert len(events) == 6
    assert all(event.grabbed for event in events)
    person.ungrab()
    source.close()


def test_a_held_key_is_told_once(source: X11Source, person: Person) -> None:
    person.fake(KEY_DOWN, CODES["a"])
    person.flush()
    time.sleep(1.0)  # the server repeats after 0.66 s
    person.fake(KEY_UP, CODES["a"])
    person.flush()
    assert [e.kind for e in until_quiet(source) if e.key] == [EventKind.KEY_DOWN, EventKind.KEY_UP]


def test_the_wheel_is_buttons_four_to_seven(still_source: X11Source, person: Person) -> None:
    for button in (4, 5, 6, 7):
        person.click(button)
    downs = of(until_quiet(still_source), EventKind.BUTTON_DOWN)
    assert [event.button for event in downs] == [4, 5, 6, 7]


def test_places_are_fractions_of_the_desktop_over_all_monitors() -> None:
    """Two monitors side by side, told to the server by RandR; then one is taken away."""
    need("xrandr")
    with server(screen="2000x500x24") as display:

        def xrandr(*arguments: str) -> str:
            return subprocess.run(
                ["xrandr", "--display", display.name, *arguments],
                check=True,
                capture_output=True,
                text=True,
            ).stdout

        xrandr("--setmonitor", "left", "1000/200x500/100+0+0", "screen")
        xrandr("--setmonitor", "right", "1000/200x500/100+1000+0", "none")
        assert "Monitors: 2" in xrandr("--listmonitors")
        person = Person(display.name)
        source = X11Source(display.name, SystemClock(), motion=True, tick_seconds=TICK)
        source.start()
        person.move(1500, 250)
        (move,) = of(until_quiet(source), EventKind.POINTER_MOVE)
        assert (move.x, move.y) == (pytest.approx(0.75, abs=1e-3), pytest.approx(0.5, abs=2e-3))
        timings = ["31.5", "1000", "1020", "1050", "1100", "500", "510", "520", "530"]
        xrandr("--newmode", "one", *timings)
        xrandr("--addmode", "screen", "one")
        xrandr("--output", "screen", "--mode", "one", "--fb", "1000x500")
        person.move(250, 250)
        *_, move = of(until_quiet(source), EventKind.POINTER_MOVE)
        assert move.x == pytest.approx(0.25, abs=1e-3)
        source.close()
        person.close()


def test_a_server_that_dies_and_returns_is_found_again() -> None:
    with server() as first:
        source = X11Source(first.name, SystemClock(), motion=True, tick_seconds=TICK)
        source.start()
        assert source.health() is Health.RECEIVING
        first.kill()
        source.poll(0.1)
        assert source.health() is Health.NOT_RECEIVING
        assert source.poll(0.1) == []
        with server(name=first.name) as second:
            wait_for(lambda: source.poll(0.1) == [] and source.health() is Health.RECEIVING)
            person = Person(second.name)
            until_quiet(source)
            person.press("a")
            assert pressed(source) == ["a"]
            person.close()
            source.close()


@pytest.mark.parametrize("name", ["otherhost:0", "localhost:10.0", "tcp/localhost:0", ""])
def test_another_machines_display_is_refused(name: str) -> None:
    source = X11Source(name, SystemClock(), motion=False)
    with pytest.raises(UnsupportedError, match="this machine's"):
        source.start()


def test_a_display_that_is_not_there_is_waited_for() -> None:
    need("Xvfb")
    source = X11Source(":9999", SystemClock(), motion=False)
    source.start()
    assert source.health() is Health.NOT_RECEIVING
    began = time.process_time()
    for _ in range(5):
        source.poll(0.1)
    assert time.process_time() - began < 0.2
    assert source.health() is Health.NOT_RECEIVING


def test_no_repr_shows_what_was_typed(source: X11Source, person: Person) -> None:
    person.press("q")
    events = until_quiet(source)
    assert "RawEvent(key_down)" in repr(events)
    assert "q'" not in repr(events)
