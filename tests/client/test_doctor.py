"""`tacitly-agent doctor`: each illness is found, and a fix is said."""

import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from hand_clock import HandClock
from homes import make_home, training_plan
from kernel import need_sandbox
from tacitly_client import browser_host, doctor
from tacitly_client.cli import cli
from tacitly_client.doctor import Finding, Health, Place, examine
from tacitly_client.home import AgentHome, read_settings
from tacitly_client.now import locks
from tacitly_client.processes import only_process
from tacitly_client.store.keys import Custody
from tacitly_client.store.layout import read_layout, write_layout
from tacitly_server import certificates


def now_ns() -> int:
    """Later than what a test has written so far."""
    return int(datetime.now(UTC).timestamp() * 1e9)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    home = make_home(tmp_path / "home", training_plan())
    (tmp_path / "user").mkdir()
    return Place(home, {}, HandClock(wall=now_ns()), tmp_path / "user")


def test_what_is_set_up_is_well(place: Place) -> None:
    assert doctor.enrolled(place) == Finding(Health.OK, "enrolled, device 42")


def test_a_home_without_an_agent_is_found(tmp_path: Path) -> None:
    findings = examine(Place(AgentHome(tmp_path), {}, HandClock(wall=now_ns()), tmp_path))
    assert findings["set up"].health is Health.PROBLEM
    assert "tacitly-agent enrol" in findings["set up"].found
    # What is of the machine is looked at all the same; the rest could only fail.
    assert list(findings) == ["set up", "desktop", "accessibility", "browsers"]


def test_processes_that_do_not_run_are_named(place: Place) -> None:
    assert "no agent runs" in doctor.running(place).found
    place.home.run.mkdir()
    on_a_desktop = replace(place, environ={"DISPLAY": ":0"})
    with ExitStack() as held:
        for name, lock in locks(place.home).items():
            if name in ("vault", "node", "control"):
                held.enter_context(only_process(lock, name))
        assert doctor.running(place) == Finding(Health.OK, "vault, node, control")
        found = doctor.running(on_a_desktop)
        assert (found.health, found.found) == (Health.PROBLEM, "not running: tray, capture")
    assert "no agent runs" in doctor.running(place).found


def test_a_home_that_others_may_enter_is_found(place: Place) -> None:
    assert doctor.permissions(place).health is Health.OK
    place.home.root.chmod(0o750)
    found = doctor.permissions(place)
    assert (found.health, found.fix) == (Health.PROBLEM, f"`chmod 700 {place.home.root}`")


@pytest.mark.parametrize(
    ("environ", "words"),
    [({}, "no desktop"), ({"WAYLAND_DISPLAY": "wayland-0"}, "Wayland")],
)
def test_a_desktop_that_cannot_be_captured_is_a_note(
    place: Place, environ: dict[str, str], words: str
) -> None:
    found = doctor.desktop(Place(place.home, environ, place.clock, place.user))
    assert found.health is Health.NOTE
    assert words in found.found


def test_a_session_bus_without_accessibility_or_keyring_is_found(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor.accessibility(place).health is Health.NOTE
    address = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"}
    for name, value in address.items():
        monkeypatch.setenv(name, value)
    there = Place(place.home, address, place.clock, place.user)
    assert doctor.accessibility(there).health is Health.PROBLEM
    assert "at-spi2-core" in doctor.accessibility(there).fix
    layout = read_layout(place.home.store)
    for custody in (Custody.FILE, Custody.KEYRING):
        write_layout(place.home.store, msgspec.structs.replace(layout, custody=custody))
        if custody is Custody.FILE:
            assert doctor.keyring(there).health is Health.NOTE
    found = doctor.keyring(there)
    assert (found.health, "does not answer" in found.found) == (Health.PROBLEM, True)


def test_a_browser_that_does_not_know_the_agent_is_found(place: Place) -> None:
    assert doctor.browsers(place).health is Health.OK
    (place.user / ".mozilla").mkdir()
    found = doctor.browsers(place)
    assert found.health is Health.PROBLEM
    assert "firefox" in found.found
    assert "browser-install" in found.fix
    browser_host.install(place.home.root, ["program"], place.user)
    assert doctor.browsers(place).health is Health.OK


def test_a_clock_that_has_gone_back_is_found(place: Place) -> None:
    assert doctor.clock(place).health is Health.OK
    hour_ago = HandClock(wall=now_ns() - 3_600 * 10**9)
    found = doctor.clock(Place(place.home, {}, hour_ago, place.user))
    assert found.health is Health.PROBLEM
    assert "set-ntp" in found.fix


def test_a_full_disk_is_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.disk(place).health is Health.OK
    usage = type("Usage", (), {"free": 2**20})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _path: usage)
    found = doctor.disk(place)
    assert (found.health, "1 MiB are free" in found.found) == (Health.PROBLEM, True)


def test_the_sandbox_is_tried_and_holds(place: Place) -> None:
    need_sandbox()
    assert doctor.sandbox(place).health is Health.OK


def test_a_sandbox_that_does_not_hold_is_found(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on a kernel without either means: the trial's own rules are switched off."""
    lame = tmp_path / "lame"
    lame.mkdir()
    for module in ("pyseccomp", "py_landlock"):
        (lame / f"{module}.py").write_text(f"raise ImportError('no {module} here')\n")
    monkeypatch.setenv("PYTHONPATH", str(lame))
    found = doctor.sandbox(place)
    assert found.health is Health.PROBLEM
    assert "the node can open the store" in found.found
    assert "can reach the network" in found.found
    assert "no py_landlock here" in found.found
    assert "lsm=landlock" in found.fix


class Server:
    """Answers TLS handshakes with a certificate for 127.0.0.1."""

    def __init__(self, tls: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / "server.crt", tls / "server.key")
        self._socket = context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self._socket.accept()[0].close()
            except ssl.SSLError:
                continue
            except OSError:
                return

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    certificates.create(tmp_path / "tls", ["127.0.0.1"], now=datetime.now(UTC))
    return tmp_path / "tls"


@pytest.fixture
def server(tls: Path, place: Place) -> Iterator[Server]:
    running = Server(tls)
    settings = msgspec.structs.replace(read_settings(place.home), server=running.address)
    place.home.settings.write_bytes(msgspec.json.encode(settings))
    place.home.ca_certificate.write_bytes((tls / "ca.crt").read_bytes())
    yield running
    running.close()


def test_a_server_that_answers_is_well(place: Place, server: Server) -> None:
    assert doctor.server(place) == Finding(Health.OK, f"{server.address} answers")


def test_another_servers_certificate_is_found(place: Place, server: Server, tmp_path: Path) -> None:
    certificates.create(tmp_path / "other", ["127.0.0.1"], now=datetime.now(UTC))
    other = (tmp_path / "other" / "ca.crt").read_bytes()
    place.home.ca_certificate.write_bytes(other)
    found = doctor.server(place)
    assert found.health is Health.PROBLEM
    assert "another certificate" in found.found


def test_a_server_that_does_not_answer_is_found(place: Place, server: Server) -> None:
    settings = msgspec.structs.replace(read_settings(place.home), server="127.0.0.1:1")
    place.home.settings.write_bytes(msgspec.json.encode(settings))
    found = doctor.server(place)
    assert found.health is Health.PROBLEM
    assert "does not answer" in found.found


def test_a_check_that_fails_is_a_problem_and_the_others_go_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_place: Place) -> Finding:
        raise KeyError("somebody's secret")

    monkeypatch.setattr(doctor, "CHECKS", {"first": fails, "second": doctor.enrolled})
    findings = examine(place)
    assert findings["first"].health is Health.PROBLEM
    assert findings["first"].found == "could not be looked at (KeyError)"
    assert findings["second"].health is Health.OK


def test_the_command_shows_all_and_exits_with_1_if_something_is_to_be_mended(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    well = {"set up": doctor.enrolled, "clock": doctor.clock}
    monkeypatch.setattr(doctor, "CHECKS", well)
    command = ["doctor", "--home", os.fspath(place.home.root)]
    done = CliRunner().invoke(cli, command)
    assert (done.exit_code, len(done.output.splitlines())) == (0, 2)
    monkeypatch.setattr(doctor, "CHECKS", {**well, "processes": doctor.running})
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 1
    assert "-> start it: `tacitly-agent run`" in done.output
    done = CliRunner().invoke(cli, [*command, "--format", "json"])
    assert done.exit_code == 1
    shown = json.loads(done.output)["checks"]
    assert shown["processes"]["health"] == "problem"
    assert shown["set up"] == {"health": "ok", "found": "enrolled, device 42", "fix": ""}
