"""Consent on a desktop: tray and capture as processes, real keys, before, during and after.

What the node answers then is in test_taking_no_part.py.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

import capture_process
from stock_flower import eventually
from tacitly_client import tray as tray_package
from tacitly_client.asking import agree, capture_asked
from tacitly_client.capture.state import Doing, read_state
from tacitly_client.consent import consent_stands, withdraw
from tacitly_client.home import AgentHome
from tacitly_client.notice import Language
from tacitly_client.store import EventStore
from tacitly_common.events import EventKind
from tray import choose, clients, desktop, fresh, only_window, permitted, programs_without, tray
from x_display import Person, Server, server

TESTS = Path(capture_process.__file__).parent
# With gate and hold-back, as shipped; and without, so that what is typed is stored at once.
AS_SHIPPED = ["-m", "trials.capture"]
AT_ONCE = ["-P", capture_process.__file__, "--home"]
WITHDRAW = 3  # of the menu's entries


@pytest.fixture(scope="module")
def display() -> Iterator[Server]:
    with server() as running, desktop(running):
        yield running


@pytest.fixture
def person(display: Server) -> Iterator[Person]:
    somebody = Person(display.name)
    somebody.focus(somebody.window("gedit"))
    yield somebody
    somebody.close()


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    return fresh(tmp_path / "home")


@pytest.fixture
def willing(home: AgentHome) -> AgentHome:
    agree(home, capture_asked(home, Language.EN), now=datetime.now(UTC))
    return home


@contextmanager
def capturing(
    home: AgentHome, display: Server, program: list[str]
) -> Iterator[subprocess.Popen[bytes]]:
    with (home.root / "capture.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *program, str(home.root)],
            env=os.environ | {"DISPLAY": display.name, "PYTHONPATH": str(TESTS)},
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(60) == 0, (home.root / "capture.log").read_text()


def wait_for(home: AgentHome, doing: Doing) -> None:
    eventually(lambda: read_state(home.capture_state).doing is doing, within_seconds=60)


def stored_keys(home: AgentHome) -> int:
    with EventStore.open(home.store) as store:
        return sum(event.kind is EventKind.KEY_DOWN for event in store.events())


def network_sockets(pid: int) -> set[str]:
    """The inodes of a process's sockets of any network protocol."""
    tables = [Path(f"/proc/{pid}/net/{name}") for name in ("tcp", "tcp6", "udp", "udp6", "raw")]
    inodes = {line.split()[9] for table in tables for line in table.read_text().splitlines()[1:]}
    held = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        target = str(link.readlink())
        if target.startswith("socket:["):
            held.add(target.removeprefix("socket:[").removesuffix("]"))
    return inodes & held


def stored_files(home: AgentHome) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in home.store.rglob("*") if path.is_file()}


def test_before_consent_nothing_is_selected_written_or_connected(
    home: AgentHome, display: Server, person: Person, tmp_path: Path
) -> None:
    before = stored_files(home)
    path = programs_without("zenity", folder=tmp_path / "bin")
    with tray(home, display, PATH=path) as shown, capturing(home, display, AT_ONCE) as process:
        only_window(person, "tacitly")
        wait_for(home, Doing.NOT_PERMITTED)
        person.type("abc", 0.05)
        person.click()
        time.sleep(1)
        # Who has no connection to the X server has selected nothing there.
        assert process.pid not in clients(person)
        assert shown.pid in clients(person)
        assert not network_sockets(process.pid)
        assert not network_sockets(shown.pid)
        wait_for(home, Doing.NOT_PERMITTED)
    assert stored_files(home) == before
    assert not home.capture_permit.exists()
    assert not home.egress_journal.exists()


def test_the_tray_asks_the_server_for_no_input_but_its_own_windows() -> None:
    for path in Path(tray_package.__path__[0]).glob("*.py"):
        source = path.read_text()
        assert "xinput" not in source
        assert "xcffib.record" not in source
        assert "GrabKey" not in source


@pytest.mark.parametrize("how", ["menu", "command"])
def test_after_withdrawal_nothing_is_stored_nor_what_was_held_back(
    willing: AgentHome, display: Server, person: Person, how: str
) -> None:
    with tray(willing, display), capturing(willing, display, AS_SHIPPED) as process:
        wait_for(willing, Doing.CAPTURING)
        person.type("abc", 0.05)
        time.sleep(4)  # longer than the hold-back: these count
        person.type("defgh", 0.02)
        if how == "menu":
            choose(person, WITHDRAW)
        else:
            withdraw(willing, now=datetime.now(UTC))
        person.type("ijk")  # at once
        wait_for(willing, Doing.NOT_PERMITTED)
        person.type("lmnop", 0.05)
        assert process.pid not in clients(person)
    assert stored_keys(willing) == 3
    assert consent_stands(willing) is None


def test_a_killed_tray_ends_capture_within_a_second(
    willing: AgentHome, display: Server, person: Person
) -> None:
    with tray(willing, display) as shown, capturing(willing, display, AT_ONCE) as process:
        wait_for(willing, Doing.CAPTURING)
        person.press("a")
        time.sleep(0.5)
        shown.send_signal(signal.SIGKILL)
        time.sleep(1.0)
        person.type("222", 0.05)
        wait_for(willing, Doing.NOT_PERMITTED)
        assert process.pid not in clients(person)
    assert stored_keys(willing) == 1


def test_a_hidden_indicator_is_no_permission(
    willing: AgentHome, display: Server, person: Person
) -> None:
    """Unmapped again and again, faster than it comes back: capture is broken off each time."""
    with tray(willing, display):
        since = permitted(willing).since_ns
        shown = only_window(person, "tacitly").window
        for _ in range(30):
            person.x.core.UnmapWindow(shown)
            person.flush()
            time.sleep(0.05)
        eventually(lambda: permitted(willing).since_ns > since, within_seconds=60)
