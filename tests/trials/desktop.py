"""A desktop for trials: a display, a window manager, a session bus and an accessibility bus.

Applications are told that somebody listens to accessibility, as they are on a desktop where a
person turned that on: Qt, Chromium and Firefox tell of their fields only then.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from jeepney import DBusAddress, Message, Properties, new_method_call
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import DBusConnection, open_dbus_connection
from jeepney.wrappers import unwrap_msg

from x_display import Person, need, require, server, wait_for

FORMS: Final = Path(__file__).parent / "forms"
SYSTEM_PYTHON: Final = "/usr/bin/python3"  # Debian's bindings are for Debian's Python
_BUS: Final = DBusAddress("/org/a11y/bus", "org.a11y.Bus", "org.a11y.Bus")
_LAUNCHER: Final = "/usr/libexec/at-spi-bus-launcher"


class Desktop:
    """What runs on the display, and who types there."""

    def __init__(self, display: str, environ: dict[str, str], person: Person) -> None:
        self.display = display
        self.environ = environ
        self.person = person

    def start(self, *command: str, **options: Any) -> "subprocess.Popen[str]":
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, env=self.environ, text=True, **quiet | options)

    @contextmanager
    def accessibility_stalled(self) -> Iterator[None]:
        """Nothing is told on the accessibility bus until the block ends; then all of it."""
        with open_dbus_connection(self.environ["DBUS_SESSION_BUS_ADDRESS"]) as session:
            (address,) = _asked(session, new_method_call(_BUS, "GetAddress"))
        with open_dbus_connection(address) as asking:
            its_own = message_bus.GetConnectionUnixProcessID("org.freedesktop.DBus")
            (bus,) = _asked(asking, its_own)
        os.kill(bus, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(bus, signal.SIGCONT)


class Form:
    """A program that speaks form_talk's lines."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def ask(self, **asked: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the form is gone"
        return json.loads(line)

    def focus(self, field: str) -> None:
        self.ask(focus=field)

    def clear(self) -> None:
        self.ask(clear=True)

    def values(self) -> dict[str, str]:
        return dict(self.ask(values=True))


@contextmanager
def desktop(home: Path) -> Iterator[Desktop]:
    """A desktop whose programs have `home` for their files."""
    need("openbox")
    need("dbus-daemon")
    require(Path(_LAUNCHER).exists(), "at-spi-bus-launcher")
    with server() as display:
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "DISPLAY": display.name,
            "LANG": "C.UTF-8",
        }
        bus = subprocess.Popen(
            ["dbus-daemon", "--session", "--print-address", "--nofork"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ,
            text=True,
        )
        assert bus.stdout is not None
        environ["DBUS_SESSION_BUS_ADDRESS"] = bus.stdout.readline().strip()
        person = Person(display.name)
        running = Desktop(display.name, environ, person)
        launcher = running.start(_LAUNCHER, "--launch-immediately")
        manager = running.start("openbox")
        try:
            _enable_accessibility(environ["DBUS_SESSION_BUS_ADDRESS"])
            yield running
        finally:
            person.close()
            for process in (manager, launcher, bus):
                process.terminate()
                process.wait(10)
            bus.stdout.close()


@contextmanager
def form(running: Desktop, kind: str) -> Iterator[Form]:
    """A form of a toolkit ("gtk", "qt", "tk"), in front."""
    module = {"gtk": "gi", "qt": "PyQt5", "tk": "tkinter"}[kind]
    found = subprocess.run([SYSTEM_PYTHON, "-c", f"import {module}"], capture_output=True)
    require(found.returncode == 0, f"{module} for {SYSTEM_PYTHON}")
    process = running.start(
        SYSTEM_PYTHON,
        str(FORMS / f"{kind}_form.py"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        speaking = Form(process)
        wait_for_keyboard(running, speaking)
        yield speaking
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def wait_for_keyboard(running: Desktop, opened: Form) -> None:
    """Wait until what is typed arrives in a form."""

    def arrives() -> bool:
        running.person.press("e")  # no canary has it
        time.sleep(0.1)
        return bool(opened.values()["name"])

    opened.focus("name")
    wait_for(arrives)
    opened.clear()


def _asked(bus: DBusConnection, message: Message) -> Any:
    return unwrap_msg(bus.send_and_get_reply(message, timeout=30))


def _enable_accessibility(address: str) -> None:
    """As a person does in the settings; it would be no business of the agent's."""
    status = Properties(DBusAddress("/org/a11y/bus", "org.a11y.Bus", "org.a11y.Status"))
    with open_dbus_connection(address) as bus:
        until = time.monotonic() + 20
        while True:
            reply = bus.send_and_get_reply(status.set("IsEnabled", "b", True), timeout=5)
            if reply.header.message_type.name == "method_return":
                return
            assert time.monotonic() < until, "the accessibility bus did not come up"
            time.sleep(0.1)
