"""The capture process as it ships, on a real X server: what is stored, and what survives.

A typist writes numbered lines of shortcuts (Enter, then Control with five letters), which are
told apart even where no content is kept. `TACITLY_SIGKILLS` makes the killing longer.
"""

import os
import random
import signal
import string
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import xcffib
import xcffib.res

import capture_process
from tacitly_client.capture.clock import SystemClock
from tacitly_client.capture.permit import BEAT_SECONDS, Permission, PermitFile
from tacitly_client.capture.process import FRAME_EVENTS
from tacitly_client.capture.state import Doing, read_state
from tacitly_client.home import AgentHome
from tacitly_client.store import Damage, EventStore
from tacitly_common.errors import ValidationError
from tacitly_common.events import Event, EventKind
from x_display import CODES, KEY_DOWN, KEY_UP, MOTION, Person, Server, need, server, wait_for

LETTERS = string.ascii_lowercase
DIGITS = 5
LINE_EVENTS = DIGITS + 1


@pytest.fixture(scope="module")
def display() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture
def person(display: Server) -> Iterator[Person]:
    somebody = Person(display.name)
    yield somebody
    somebody.close()


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    place = AgentHome(tmp_path / "home")
    EventStore.create(place.store).close()
    return place


class Tray:
    """Affirms the permission for as long as it lives."""

    def __init__(self, home: AgentHome) -> None:
        self._file = PermitFile(home.capture_permit, SystemClock())
        self._permission: Permission | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat)
        self._thread.start()

    def permit(self, *, capturing: bool = True, motion: bool = True) -> None:
        self._permission = Permission(
            capturing=capturing, since_ns=time.monotonic_ns(), motion=motion
        )
        self._file.beat(self._permission)

    def withdraw(self) -> None:
        self._permission = None
        self._file.withdraw()

    def die(self) -> None:
        """As in a crash: the last permission stays on the disk."""
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            if (permission := self._permission) is not None:
                self._file.beat(permission)


@pytest.fixture
def tray(home: AgentHome) -> Iterator[Tray]:
    sitting = Tray(home)
    yield sitting
    sitting.die()


def start(home: AgentHome, display: Server, **environ: str) -> subprocess.Popen[bytes]:
    with (home.root / "capture.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", capture_process.__file__, "--home", str(home.root)],
            env={"PATH": os.environ["PATH"], "DISPLAY": display.name} | environ,
            stderr=log,
        )


@contextmanager
def capturing(
    home: AgentHome, display: Server, **environ: str
) -> Iterator[subprocess.Popen[bytes]]:
    process = start(home, display, **environ)
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(20) == 0, (home.root / "capture.log").read_text()


def wait_until(home: AgentHome, doing: Doing) -> None:
    wait_for(lambda: read_state(home.capture_state).doing is doing, doing.value)


def stored(home: AgentHome) -> list[Event]:
    with EventStore.open(home.store) as store:
        return list(store.events())


def keys(home: AgentHome) -> list[tuple[str, tuple[str, ...]]]:
    return [(e.key, e.modifiers) for e in stored(home) if e.kind is EventKind.KEY_DOWN]


def wait_for_keys(home: AgentHome, expected: list[tuple[str, tuple[str, ...]]]) -> None:
    """Until these are stored, of which the last may wait for five seconds."""
    wait_for(lambda: keys(home) == expected, "the keys that were typed are stored")


def clients(person: Person) -> int:
    return int(person.x(xcffib.res.key).QueryClients().reply().num_clients)


def test_ten_thousand_events_are_stored_once_and_in_order(
    home: AgentHome, display: Server, person: Person, tray: Tray
) -> None:
    """At a thousand pointer events a second; as classes, which the pointer's cells are too."""
    classes = {
        "a": "<letter>",
        "7": "<digit>",
        ".": "<symbol>",
        " ": "Space",
        "Enter": "Enter",
        "Backspace": "Backspace",
        "ArrowLeft": "ArrowLeft",
        "F1": "<function>",
    }
    choice = random.Random(4)
    expected = []
    tray.permit()
    with capturing(home, display):
        wait_until(home, Doing.CAPTURING)
        began = time.monotonic()
        for step in range(1_000):
            for move in range(8):
                way = (step * 8 + move) % 2_000
                person.fake(MOTION, 0, min(way, 1_999 - way), 500)
            key = choice.choice(list(classes))
            expected.append((classes[key], ()))
            person.fake(KEY_DOWN, CODES[key])
            person.fake(KEY_UP, CODES[key])
            person.flush()
            time.sleep(max(0.0, (step + 1) / 125 - (time.monotonic() - began)))
        wait_for_keys(home, expected)
    assert keys(home) == expected
    cells = [event.x for event in stored(home) if event.kind is EventKind.POINTER_MOVE]
    # Eight ways over the ten cells of a thousand pixels.
    assert len(cells) == pytest.approx(8 * 9 + 1, abs=8)


def test_before_permission_nothing_connects_and_nothing_is_written(
    home: AgentHome, display: Server, person: Person
) -> None:
    before = clients(person)
    with capturing(home, display):
        wait_until(home, Doing.NOT_PERMITTED)
        person.type("abc")
        time.sleep(0.6)
        assert clients(person) == before
    assert list((home.store / "segments").iterdir()) == []


@pytest.mark.parametrize("end", ["withdrawn", "paused", "tray dies"])
def test_within_a_second_of_its_end_nothing_is_captured(
    home: AgentHome, display: Server, person: Person, tray: Tray, end: str
) -> None:
    before = clients(person)
    tray.permit()
    with capturing(home, display):
        wait_until(home, Doing.CAPTURING)
        assert clients(person) == before + 1
        person.press("a")
        wait_for_keys(home, [("<letter>", ())])
        ended = time.monotonic()
        if end == "withdrawn":
            tray.withdraw()
        elif end == "paused":
            tray.permit(capturing=False)
        else:
            tray.die()
        if end != "tray dies":
            person.press("1")  # at once
        time.sleep(max(0.0, ended + 1.0 - time.monotonic()))
        person.type("222")
        # Paused, the connection may stay.
        wait_for(lambda: clients(person) <= before + (end == "paused"))
    assert keys(home) == [("<letter>", ())]


def test_resuming_captures_again(
    home: AgentHome, display: Server, person: Person, tray: Tray
) -> None:
    tray.permit()
    with capturing(home, display):
        wait_until(home, Doing.CAPTURING)
        tray.permit(capturing=False)
        wait_until(home, Doing.PAUSED)
        person.type("111")
        tray.permit()
        wait_until(home, Doing.CAPTURING)
        person.press("a")
        wait_for_keys(home, [("<letter>", ())])
    assert keys(home) == [("<letter>", ())]


def test_a_stopped_process_does_not_store_what_came_in_a_pause(
    home: AgentHome, display: Server, person: Person, tray: Tray
) -> None:
    """SIGSTOP is no pause: the server keeps the backlog. The server's times tell it apart."""
    tray.permit()
    with capturing(home, display) as process:
        wait_until(home, Doing.CAPTURING)
        person.press("a")
        wait_for_keys(home, [("<letter>", ())])
        os.kill(process.pid, signal.SIGSTOP)
        tray.permit(capturing=False)
        time.sleep(0.1)
        person.type("1234567")
        time.sleep(0.1)
        tray.permit()
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGCONT)
        person.press("Enter")
        wait_for_keys(home, [("<letter>", ()), ("Enter", ())])
    assert keys(home) == [("<letter>", ()), ("Enter", ())]


def test_a_window_manager_and_an_application(
    home: AgentHome, display: Server, person: Person, tray: Tray
) -> None:
    environ = os.environ | {"DISPLAY": display.name}
    tray.permit()
    with (
        capturing(home, display),
        subprocess.Popen([need("openbox")], env=environ, stderr=subprocess.DEVNULL) as manager,
    ):
        wait_until(home, Doing.CAPTURING)
        before = person.focused()
        with subprocess.Popen([need("xterm")], env=environ, stderr=subprocess.DEVNULL) as xterm:
            wait_for(lambda: person.focused() != before)
            # Of what is typed before the new focus has settled the application is not known.
            wait_for(lambda: "xterm" in {e.app for e in stored(home) if e.kind is EventKind.FOCUS})
            person.type("ls", 0.05)
            person.press("Enter")
            wait_for_keys(home, [("<letter>", ())] * 2 + [("Enter", ())])
            xterm.terminate()
        manager.terminate()
    pressed = [(e.key, e.app) for e in stored(home) if e.kind is EventKind.KEY_DOWN]
    assert pressed == [("<letter>", "xterm"), ("<letter>", "xterm"), ("Enter", "xterm")]


def test_wayland_is_said_and_nothing_is_captured(
    home: AgentHome, display: Server, person: Person, tray: Tray
) -> None:
    before = clients(person)
    tray.permit()
    with capturing(home, display, WAYLAND_DISPLAY="wayland-0"):
        wait_until(home, Doing.UNSUPPORTED)
        assert "Wayland" in read_state(home.capture_state).reason
        assert clients(person) == before
    assert read_state(home.capture_state).doing is Doing.NOTHING


def test_the_process_leaves_no_core_and_is_the_only_one(home: AgentHome, display: Server) -> None:
    with capturing(home, display) as process:
        wait_until(home, Doing.NOT_PERMITTED)
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        (line,) = [each for each in limits.splitlines() if "core file size" in each]
        assert line.split()[4:6] == ["0", "0"]
        second = start(home, display)
        assert second.wait(20) == ValidationError.exit_code
        assert "another capture process runs" in (home.root / "capture.log").read_text()


def test_it_needs_no_private_key(
    home: AgentHome, display: Server, person: Person, tray: Tray
) -> None:
    [private] = home.store.glob("*.key")
    key = private.read_bytes()
    private.unlink()
    tray.permit()
    with capturing(home, display):
        wait_until(home, Doing.CAPTURING)
        person.press("a")
        wait_for(lambda: any(home.store.glob("segments/*/*.seg")), "something is stored")
    private.write_bytes(key)
    assert keys(home) == [("<letter>", ())]


def test_nothing_that_speaks_to_networks_is_loaded() -> None:
    code = (
        "import sys, tacitly_client.capture.main, tacitly_client.capture.x11; print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    modules = set(loaded.stdout.split())
    assert "xcffib" in modules
    assert not modules & {
        "flwr",
        "grpc",
        "http.client",
        "httpx",
        "numpy",
        "ssl",
        "torch",
        "urllib3",
    }


class Typist(threading.Thread):
    """Writes numbered lines until stopped."""

    def __init__(self, display: Server) -> None:
        super().__init__()
        self._person = Person(display.name)
        self._ended = threading.Event()
        self.sent = 0  # lines that the server has had

    def run(self) -> None:
        while not self._ended.wait(0.012):
            self._person.press("Enter")
            for digit in reversed(range(DIGITS)):
                self._person.press("Control", LETTERS[self.sent // 26**digit % 26])
            self.sent += 1
        self._person.close()

    def stop(self) -> None:
        self._ended.set()
        self.join()


def lines(events: list[Event]) -> list[int]:
    """The numbers of the complete lines, in order."""
    numbers, digits = [], []
    for event in events:
        if event.kind is not EventKind.KEY_DOWN:
            continue
        if event.key == "Enter":
            digits = []
            continue
        digits.append(LETTERS.index(event.key))
        if len(digits) == DIGITS:
            numbers.append(sum(digit * 26 ** (DIGITS - 1 - n) for n, digit in enumerate(digits)))
    return numbers


def is_stored(home: AgentHome, first: int, settled: int) -> bool:
    return settled < first or settled in lines(stored(home))


@dataclass(frozen=True)
class Run:
    """One life of the process: the lines that were begun in it."""

    first: int
    settled: int  # before this one all must have been stored
    end: int


def test_a_kill_loses_the_unflushed_seconds_and_never_a_frame(
    home: AgentHome, display: Server, tray: Tray
) -> None:
    moments = random.Random(9)
    tray.permit()
    typist = Typist(display)
    typist.start()
    runs: list[Run] = []
    try:
        for _ in range(int(os.environ.get("TACITLY_SIGKILLS", "12"))):
            process = start(home, display)
            wait_until(home, Doing.CAPTURING)
            first = typist.sent + 1  # the line of this moment may be half seen
            time.sleep(moments.uniform(0.0, 2.0))
            # At this pace a frame fills in less than a second, long before the five.
            settled = typist.sent - FRAME_EVENTS // LINE_EVENTS - 1
            wait_for(partial(is_stored, home, first, settled), "what was typed long ago is stored")
            time.sleep(moments.uniform(0.0, 0.5))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            runs.append(Run(first, settled, typist.sent + 1))
    finally:
        typist.stop()
    with capturing(home, display):  # starts over, whatever the kills left
        wait_until(home, Doing.CAPTURING)
    damages: list[Damage] = []
    with EventStore.open(home.store) as store:
        seen = lines(list(store.events(on_damage=damages.append)))
    assert damages == []
    # The end of a line of one life and the middle of one of the next look like a line, of no life.
    numbers = [number for number in seen if any(run.first <= number < run.end for run in runs)]
    assert numbers == sorted(set(numbers))
    for run in runs:
        there = [number for number in numbers if run.first <= number < run.end]
        assert there == list(range(run.first, run.first + len(there))), "a frame is missing"
        assert run.first + len(there) >= run.settled, "more was lost than was not yet flushed"
    # There was something to lose: some lines a run, also where a busy machine types slowly.
    assert sum(run.settled - run.first for run in runs) > 5 * len(runs)
    print(f"{len(runs)} kills, {len(numbers)} lines stored, {typist.sent} typed")
