"""The tray as it ships, on a real X server with a window manager: what is seen is permitted."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import xcffib.xproto

from stock_flower import eventually
from tacitly_client.asking import agree, capture_asked
from tacitly_client.capture.clock import SystemClock
from tacitly_client.capture.state import CaptureState, Doing
from tacitly_client.consent import capture_consent, consent_stands, read_receipts, withdraw
from tacitly_client.home import AgentHome
from tacitly_client.live_file import LiveFile
from tacitly_client.notice import Language
from tacitly_client.pause import pause, read_pause, resume
from tacitly_client.redaction import ContentLevel
from tacitly_client.tray.indicator import Indicator
from tacitly_client.tray.screen import Screen, ScreenError
from tacitly_client.tray.shown import Showing
from tray import (
    choose,
    desktop,
    fresh,
    only_window,
    permission,
    permitted,
    programs_without,
    tray,
    windows,
)
from x_display import HEIGHT, WIDTH, Person, Server, need, server

CLOCK = SystemClock()
# The menu's entries where consent stands, below the one that shows what is stored.
SHOW, PAUSE_HOUR, PAUSE, WITHDRAW = range(4)
RESUME, ASK = 1, 1


@pytest.fixture(scope="module")
def display() -> Iterator[Server]:
    with server() as running, desktop(running):
        yield running


@pytest.fixture
def person(display: Server) -> Iterator[Person]:
    somebody = Person(display.name)
    yield somebody
    somebody.close()


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    return fresh(tmp_path / "home")


@pytest.fixture
def willing(home: AgentHome) -> AgentHome:
    """A home whose person has agreed."""
    agree(home, capture_asked(home, Language.EN), now=datetime.now(UTC))
    return home


def soon(value: object) -> object:
    return eventually(value, within_seconds=60)  # type: ignore[arg-type]


def test_capture_is_permitted_while_the_indicator_is_seen_and_consent_stands(
    willing: AgentHome, display: Server, person: Person
) -> None:
    with tray(willing, display) as process:
        granted = permitted(willing)
        assert granted.capturing
        assert granted.motion
        assert len(windows(person, "tacitly")) == 1
        withdraw(willing, now=datetime.now(UTC))  # as the command does
        soon(lambda: permission(willing) is None)
        assert len(windows(person, "tacitly")) == 1  # it is never hidden
        agree(willing, capture_asked(willing, Language.EN), now=datetime.now(UTC))
        again = permitted(willing)
        assert again.since_ns > granted.since_ns
        process.terminate()
        assert process.wait(60) == 0
    assert not willing.capture_permit.exists()


def test_of_counts_no_motion_is_asked_for(home: AgentHome, display: Server) -> None:
    asked = capture_asked(home, Language.EN, level=ContentLevel.COUNTS)
    agree(home, asked, now=datetime.now(UTC))
    with tray(home, display):
        assert not permitted(home).motion


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_tray_that_is_killed_or_stopped_permits_nothing(
    willing: AgentHome, display: Server, how: signal.Signals
) -> None:
    with tray(willing, display) as process:
        permitted(willing)
        process.send_signal(how)
        soon(lambda: permission(willing) is None)


def test_pausing_and_resuming_by_its_menu(
    willing: AgentHome, display: Server, person: Person
) -> None:
    with tray(willing, display):
        first = permitted(willing)
        choose(person, PAUSE)
        soon(lambda: not permitted(willing).capturing)
        assert read_pause(willing, CLOCK).until_ns is None
        choose(person, RESUME)
        soon(lambda: permitted(willing).capturing)
        assert permitted(willing).since_ns > first.since_ns
        choose(person, PAUSE_HOUR)
        soon(lambda: not permitted(willing).capturing)
        left = (read_pause(willing, CLOCK).until_ns or 0) - CLOCK.wall_ns()
        assert 0 < left <= 3_600 * 10**9


def test_withdrawing_by_its_menu_takes_one_click_more_than_looking(
    willing: AgentHome, display: Server, person: Person
) -> None:
    with tray(willing, display):
        permitted(willing)
        choose(person, WITHDRAW)
        soon(lambda: permission(willing) is None)
    assert capture_consent(willing).why_not == "you have withdrawn it"


def test_a_click_beside_the_menu_chooses_nothing(
    willing: AgentHome, display: Server, person: Person
) -> None:
    with tray(willing, display):
        permitted(willing)
        seen = only_window(person, "tacitly")
        person.move(seen.x + 5, seen.y + 5)
        person.click()
        soon(lambda: len(windows(person, "tacitly")) == 2)
        person.move(5, 5)
        person.click()
        soon(lambda: len(windows(person, "tacitly")) == 1)
        assert permitted(willing).capturing
    assert len(read_receipts(willing)) == 1


def test_a_pause_that_came_and_went_between_two_beats_is_a_break(
    willing: AgentHome, display: Server
) -> None:
    with tray(willing, display):
        before = permitted(willing).since_ns
        pause(willing, CLOCK)
        resume(willing, CLOCK)
        ended = CLOCK.monotonic_ns()
        soon(lambda: permitted(willing).since_ns > ended - 10**9 and permitted(willing).capturing)
        soon(lambda: permitted(willing).since_ns > before)


def test_the_window_can_be_dragged_but_not_off_the_screen(
    willing: AgentHome, display: Server, person: Person
) -> None:
    with tray(willing, display):
        permitted(willing)
        seen = only_window(person, "tacitly")
        person.move(seen.x + 10, seen.y + 10)
        person.fake(4, 1)
        for way in range(10):
            person.move(seen.x - 30 * way, seen.y - 40 * way)
        person.move(0, 0)
        person.fake(5, 1)
        person.flush()
        soon(lambda: (only_window(person, "tacitly").x, only_window(person, "tacitly").y) == (0, 0))
        assert permitted(willing).capturing
        assert len(windows(person, "tacitly")) == 1  # and no menu opened


def test_another_program_cannot_hide_it(
    willing: AgentHome, display: Server, person: Person
) -> None:
    config = xcffib.xproto.ConfigWindow
    with tray(willing, display):
        permitted(willing)
        seen = only_window(person, "tacitly")
        cover = person.x.generate_id()
        person.x.core.CreateWindow(
            0, cover, person.root, 0, 0, WIDTH, HEIGHT, 0, 1, 0,
            xcffib.xproto.CW.OverrideRedirect, [1],
        )  # fmt: skip
        person.x.core.MapWindow(cover)
        person.flush()
        soon(lambda: list(person.x.core.QueryTree(person.root).reply().children)[-1] == seen.window)
        person.x.core.UnmapWindow(seen.window)
        person.flush()
        soon(lambda: len(windows(person, "tacitly")) == 1)
        person.x.core.ConfigureWindow(seen.window, config.X | config.Y, [5_000, 5_000])
        person.flush()
        soon(lambda: only_window(person, "tacitly").x < WIDTH)
        permitted(willing)
        person.x.core.DestroyWindow(cover)
        person.flush()


def test_what_is_covered_is_not_seen(display: Server, person: Person) -> None:
    """Before it is raised, and without a window manager's or compositor's help."""
    screen = Screen(display.name)
    indicator = Indicator(screen)
    indicator.show(Showing.CAPTURING, "capturing")
    soon(indicator.seen)
    seen = only_window(person, "tacitly")
    cover = person.x.generate_id()
    person.x.core.CreateWindow(
        0, cover, person.root, seen.x, seen.y, seen.width, seen.height, 0, 1, 0,
        xcffib.xproto.CW.OverrideRedirect, [1],
    )  # fmt: skip
    person.x.core.MapWindow(cover)
    person.flush()
    assert not indicator.seen()
    assert indicator.seen()  # the first look has raised it
    # A window of one pixel less covers it not.
    config = xcffib.xproto.ConfigWindow
    person.x.core.ConfigureWindow(cover, config.Width | config.StackMode, [seen.width - 1, 0])
    person.flush()
    list(screen.events())
    assert indicator.seen()
    person.x.core.DestroyWindow(cover)
    person.flush()
    screen.close()


def test_a_tray_takes_the_icon_and_the_window_comes_when_it_is_hidden(
    willing: AgentHome, person: Person, display: Server
) -> None:
    need("tint2")
    environ = os.environ | {"DISPLAY": display.name}
    with tray(willing, display):
        floating = only_window(person, "tacitly")
        permitted(willing)
        bar = subprocess.Popen(["tint2"], env=environ, stderr=subprocess.DEVNULL)
        docked = soon(
            lambda: next(
                (w for w in windows(person, "tacitly") if w.window != floating.window), None
            )
        )
        soon(lambda: windows(person, "tacitly") == [docked] or None)
        permitted(willing)
        # Something over the whole screen, as a film is shown.
        film = person.x.generate_id()
        person.x.core.CreateWindow(
            0, film, person.root, 0, 0, WIDTH, HEIGHT, 0, 1, 0,
            xcffib.xproto.CW.OverrideRedirect, [1],
        )  # fmt: skip
        person.x.core.MapWindow(film)
        person.flush()
        soon(lambda: floating.window in {w.window for w in windows(person, "tacitly")})
        permitted(willing)
        person.x.core.DestroyWindow(film)
        person.flush()
        soon(lambda: floating.window not in {w.window for w in windows(person, "tacitly")})
        bar.kill()
        bar.wait()
        soon(lambda: [w.window for w in windows(person, "tacitly")] == [floating.window])
        permitted(willing)


def press_in(person: Person, application: str, *keys: str) -> None:
    """Press keys in an application's window, as soon as it has the focus."""
    seen = only_window(person, application)
    person.move(seen.x + seen.width // 2, seen.y + seen.height // 3)
    person.click()
    time.sleep(0.5)
    for key in keys:
        person.press(key)
        time.sleep(0.2)


def test_it_asks_at_first_start_and_a_person_can_agree(
    home: AgentHome, display: Server, person: Person
) -> None:
    need("zenity")
    with tray(home, display):
        only_window(person, "zenity")
        assert permission(home) is None
        press_in(person, "zenity", "Tab", "Tab", "Enter")
        permitted(home)
    receipt = consent_stands(home)
    assert receipt is not None
    assert receipt.level is ContentLevel.CLASSES


def test_whoever_does_not_agree_is_not_asked_again_but_can_ask(
    home: AgentHome, display: Server, person: Person
) -> None:
    need("zenity")
    with tray(home, display):
        press_in(person, "zenity", "Tab", "Enter")
        soon(lambda: windows(person, "zenity") == [])
    with tray(home, display):
        only_window(person, "tacitly")
        time.sleep(1)
        assert windows(person, "zenity") == []
        choose(person, ASK)
        press_in(person, "zenity", "Escape")
        soon(lambda: windows(person, "zenity") == [])
        assert permission(home) is None
    assert read_receipts(home) == []


def test_whoever_has_withdrawn_is_not_asked(
    willing: AgentHome, display: Server, person: Person
) -> None:
    withdraw(willing, now=datetime.now(UTC))
    with tray(willing, display):
        only_window(person, "tacitly")
        time.sleep(1)
        assert windows(person, "zenity") == []


def test_without_a_program_for_windows_it_shows_and_asks_nothing(
    home: AgentHome, display: Server, person: Person, tmp_path: Path
) -> None:
    path = programs_without("zenity", folder=tmp_path / "bin")
    with tray(home, display, PATH=path):
        only_window(person, "tacitly")
        choose(person, ASK)
        assert permission(home) is None


def test_one_tray_for_a_home_and_none_without_a_display(
    willing: AgentHome, display: Server
) -> None:
    log = willing.root / "tray.log"
    with tray(willing, display):
        permitted(willing)
        with tray(willing, display) as second:
            assert second.wait(60) == 2
        assert "another tray runs" in log.read_text()
    with tray(willing, display, DISPLAY=":123") as third:
        assert third.wait(60) == 1
    assert "nothing is captured" in log.read_text()


def test_when_the_server_goes_so_does_the_permission(willing: AgentHome) -> None:
    with server() as own, tray(willing, own) as process:
        permitted(willing)
        own.kill()
        assert process.wait(60) == 1
    assert permission(willing) is None


def test_a_server_that_is_not_there_is_a_clear_error() -> None:
    with pytest.raises(ScreenError, match="DISPLAY=':123'"):
        Screen(":123")


def test_it_says_what_capture_does(willing: AgentHome, display: Server, person: Person) -> None:
    """The words are pictures to the server, of a width that tells them apart."""
    state = LiveFile(willing.capture_state)
    widths = set()
    with tray(willing, display):
        for doing in (Doing.CAPTURING, Doing.NOT_RECEIVING):
            state.show(CaptureState(doing))
            former = only_window(person, "tacitly").width
            if widths:
                soon(lambda former=former: only_window(person, "tacitly").width != former)
            else:
                time.sleep(1)
            widths.add(only_window(person, "tacitly").width)
    state.close()
    assert len(widths) == 2
