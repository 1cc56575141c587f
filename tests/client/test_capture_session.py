"""Locked screens and suspended machines, told by a logind of the test on a real D-Bus."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
from jeepney import (
    DBusAddress,
    HeaderFields,
    MessageType,
    message_bus,
    new_error,
    new_method_return,
    new_signal,
)
from jeepney.io.blocking import DBusConnection, open_dbus_connection

from tacitly_client.capture.session import LoginSession
from x_display import need

SERVICE: Final = "org.freedesktop.login1"
ROOT: Final = "/org/freedesktop/login1"
SESSION: Final = f"{ROOT}/session/_31"
USER: Final = f"{ROOT}/user/self"


class Logind(threading.Thread):
    """Answers the few questions that a session's watcher asks."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._connection: DBusConnection = open_dbus_connection(bus="SYSTEM")
        self._connection.send_and_get_reply(message_bus.RequestName(SERVICE))
        self.properties: dict[str, tuple[str, Any]] = {
            "LockedHint": ("b", False),
            "Active": ("b", True),
            "PreparingForSleep": ("b", False),
            "Display": ("(so)", ("1", SESSION)),
        }

    def run(self) -> None:
        try:
            while True:
                self._answer(self._connection.receive())
        except OSError:
            return

    def _answer(self, message: Any) -> None:
        if message.header.message_type is not MessageType.method_call:
            return
        match message.header.fields.get(HeaderFields.member):
            case "GetUser":
                reply = new_method_return(message, "o", (USER,))
            case "GetSession" if message.body == ("1",):
                reply = new_method_return(message, "o", (SESSION,))
            case "Get":
                reply = new_method_return(message, "v", (self.properties[message.body[1]],))
            case _:
                reply = new_error(message, f"{SERVICE}.NoSuchSession")
        self._connection.send(reply)

    def now(self, path: str = SESSION, **values: bool) -> None:
        """Change properties and tell everybody that something changed."""
        self.properties |= {name: ("b", value) for name, value in values.items()}
        where = DBusAddress(path, interface="org.freedesktop.DBus.Properties")
        body = (f"{SERVICE}.Session", {}, list(values))
        self._connection.send(new_signal(where, "PropertiesChanged", "sa{sv}as", body))

    def close(self) -> None:
        with suppress(OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self.join()
        self._connection.close()


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A message bus in the place of the system's."""
    program = need("dbus-daemon")
    address = f"unix:path={tmp_path / 'bus'}"
    with subprocess.Popen(
        [program, "--session", "--nofork", "--print-address", f"--address={address}"],
        stdout=subprocess.PIPE,
    ) as daemon:
        assert daemon.stdout is not None
        daemon.stdout.readline()
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        yield daemon
        daemon.terminate()


@pytest.fixture
def logind(bus: subprocess.Popen[bytes]) -> Iterator[Logind]:
    service = Logind()
    service.start()
    yield service
    service.close()


@pytest.fixture
def session(logind: Logind) -> Iterator[LoginSession]:
    found = LoginSession.find({})
    assert found is not None
    yield found
    found.close()


def away(session: LoginSession, expected: bool) -> bool:
    """The answer once it is the expected one, or after half a minute."""
    for _ in range(3_000):
        if session.away() is expected:
            break
        threading.Event().wait(0.01)
    return session.away()


def test_a_present_person_is_not_away(session: LoginSession) -> None:
    assert session.away() is False


@pytest.mark.parametrize(
    ("path", "name", "leaving"),
    [(SESSION, "LockedHint", True), (SESSION, "Active", False), (ROOT, "PreparingForSleep", True)],
)
def test_a_lock_another_user_and_sleep_are_noticed_and_their_end(
    logind: Logind, session: LoginSession, path: str, name: str, leaving: bool
) -> None:
    logind.now(path, **{name: leaving})
    assert away(session, True) is True
    logind.now(path, **{name: not leaving})
    assert away(session, False) is False


def test_a_session_that_is_locked_from_the_start_is_noticed(logind: Logind) -> None:
    logind.now(LockedHint=True)
    session = LoginSession.find({"XDG_SESSION_ID": "1"})
    assert session is not None
    assert session.away() is True
    session.close()


def test_looking_costs_no_call_while_nothing_changes(logind: Logind, session: LoginSession) -> None:
    logind.properties.clear()  # any question would fail
    assert [session.away() for _ in range(100)] == [False] * 100


def test_without_a_session_of_this_user_there_is_nothing_to_watch(logind: Logind) -> None:
    logind.properties["Display"] = ("(so)", ("", "/"))
    assert LoginSession.find({}) is None
    assert LoginSession.find({"XDG_SESSION_ID": "another"}) is None


def test_without_logind_there_is_nothing_to_watch(bus: subprocess.Popen[bytes]) -> None:
    assert LoginSession.find({}) is None


def test_without_a_bus_there_is_nothing_to_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path / 'none'}")
    assert LoginSession.find(os.environ) is None


def test_a_bus_that_ends_leaves_nothing_known(
    bus: subprocess.Popen[bytes], logind: Logind, session: LoginSession
) -> None:
    logind.now(LockedHint=True)
    assert away(session, True) is True
    bus.terminate()
    bus.wait()
    assert away(session, False) is False
