"""What `tacitly-agent doctor` looks at: whether this machine and this home can do what they should.

Each check answers with one `Finding`. A check that itself fails is a problem by its name: a doctor
that stops at the first illness is of little use.
"""

import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from tacitly_client.capture.clock import Clock
from tacitly_client.home import AgentHome, read_enrolment, read_settings
from tacitly_client.now import locks
from tacitly_client.processes import is_held
from tacitly_common.errors import TacitlyError

_LEAST_FREE_BYTES: Final = 200 * 2**20
_ANSWER_SECONDS: Final = 5.0
_SANDBOX_SECONDS: Final = 60.0
# A clock may be corrected by so much without harm.
_CLOCK_NS: Final = 120 * 10**9


class Health(StrEnum):
    """What came of a check."""

    OK = "ok"
    NOTE = "note"  # not as it could be, and nothing that has to be mended
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and the smallest thing that mends it."""

    health: Health
    found: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """What is looked at."""

    home: AgentHome
    environ: Mapping[str, str]
    clock: Clock
    user: Path


Check = Callable[[Place], Finding]


def examine(place: Place) -> dict[str, Finding]:
    """Every check's finding, by its name, in the order of showing.

    Where no agent is set up only that and what is of the machine: the rest could only fail.
    """
    set_up = place.home.settings.exists()
    return {
        name: _examined(check, place)
        for name, check in CHECKS.items()
        if set_up or check not in _OF_THE_HOME
    }


def _examined(check: Check, place: Place) -> Finding:
    try:
        return check(place)
    except TacitlyError as error:
        return Finding(Health.PROBLEM, str(error))
    except Exception as error:
        return Finding(Health.PROBLEM, f"could not be looked at ({type(error).__name__})")


def _ok(found: str) -> Finding:
    return Finding(Health.OK, found)


def enrolled(place: Place) -> Finding:
    """Whether the home is a device's."""
    read_settings(place.home)
    return _ok(f"enrolled, device {read_enrolment(place.home).node_id}")


def running(place: Place) -> Finding:
    """Whether the agent and all its processes run."""
    alive = [name for name, lock in locks(place.home).items() if is_held(lock)]
    if not alive:
        return Finding(
            Health.PROBLEM,
            "no agent runs here",
            "start it: `tacitly-agent run`, or at each login: `tacitly-agent install-units`",
        )
    expected = ["vault", "node", "control"]
    if any(place.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
        expected += ["tray", "capture"]
    missing = [name for name in expected if name not in alive]
    if missing:
        return Finding(
            Health.PROBLEM,
            f"not running: {', '.join(missing)}",
            "see what the agent writes, where it was started or in `journalctl --user`",
        )
    return _ok(", ".join(alive))


def permissions(place: Place) -> Finding:
    """Whether the home is its owner's alone."""
    mode = place.home.root.stat()
    if mode.st_uid != os.getuid():
        return Finding(
            Health.PROBLEM, f"{place.home.root} is another account's", "use a --home of your own"
        )
    if stat.S_IMODE(mode.st_mode) & 0o077:
        return Finding(
            Health.PROBLEM,
            f"others may enter {place.home.root}",
            f"`chmod 700 {place.home.root}`",
        )
    return _ok(f"{place.home.root} is yours alone")


def desktop(place: Place) -> Finding:
    """Whether there is input to capture."""
    from tacitly_client.capture.desktop import source_for
    from tacitly_client.capture.source import UnsupportedError

    try:
        source_for(place.environ, place.clock, motion=False).close()
    except UnsupportedError as error:
        return Finding(Health.NOTE, str(error))
    return _ok(f"X11 at {place.environ.get('DISPLAY', '')}")


def accessibility(place: Place) -> Finding:
    """Whether programs say which fields are secret; else no content is stored."""
    if "DBUS_SESSION_BUS_ADDRESS" not in place.environ:
        return Finding(Health.NOTE, "no session bus: no content is stored, key classes are")
    address = _ask_bus("org.a11y.Bus", "/org/a11y/bus", "GetAddress")
    if not address:
        return Finding(
            Health.PROBLEM,
            "no accessibility bus: no content is stored, key classes are",
            "install at-spi2-core and log in again",
        )
    return _ok("programs can say which fields are secret")


def browsers(place: Place) -> Finding:
    """Whether the installed browsers can say which fields are secret."""
    from tacitly_client.browser_host import manifests

    missing = [
        name
        for name, path in manifests(place.user).items()
        if path.parents[1].is_dir() and not path.is_file()
    ]
    if missing:
        return Finding(
            Health.PROBLEM,
            f"nothing typed in {', '.join(missing)} is stored",
            "`tacitly-agent browser-install`, and load the extension",
        )
    return _ok("each browser that was used here knows the agent")


def keyring(place: Place) -> Finding:
    """Whether the store's key can be had, and how well it is kept."""
    from tacitly_client.store.keys import Custody, best_custody
    from tacitly_client.store.layout import read_layout

    if read_layout(place.home.store).custody is Custody.FILE:
        return Finding(
            Health.NOTE,
            "the store's key is in a file: a stolen disk that is not encrypted gives it away",
            "encrypt the disk; a store that is made where a keyring is open uses that",
        )
    if best_custody() is not Custody.KEYRING:
        return Finding(
            Health.PROBLEM,
            "the keyring with the store's key does not answer: nothing stored can be read",
            "log in to your desktop, and unlock the keyring",
        )
    return _ok("an open keyring has the store's key")


def clock(place: Place) -> Finding:
    """Whether the clock has gone back behind what the agent has written."""
    now_ns = place.clock.wall_ns()
    written = [
        path.stat().st_mtime_ns
        for path in (place.home.settings, place.home.egress_journal, place.home.ledger)
        if path.exists()
    ]
    ahead_ns = max(written, default=now_ns) - now_ns
    if ahead_ns > _CLOCK_NS:
        return Finding(
            Health.PROBLEM,
            f"the clock is {ahead_ns / 1e9:.0f} s behind what was written here before",
            "set it, best by `timedatectl set-ntp true`",
        )
    return _ok("not behind what was written here")


def disk(place: Place) -> Finding:
    """Whether there is room."""
    free = shutil.disk_usage(place.home.root).free
    if free < _LEAST_FREE_BYTES:
        return Finding(
            Health.PROBLEM,
            f"{free / 2**20:.0f} MiB are free, {_LEAST_FREE_BYTES / 2**20:.0f} are needed",
            "make room, or `tacitly-agent erase`",
        )
    return _ok(f"{free / 2**30:.1f} GiB are free")


def sandbox(place: Place) -> Finding:
    """Whether the kernel holds processes to their rules, by a process that tries to break them."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tacitly_client.sandbox_trial", str(place.home.root)],
        capture_output=True,
        text=True,
        timeout=_SANDBOX_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        return Finding(
            Health.PROBLEM,
            f"the agent works, and is not confined: {done.stdout.strip() or 'the trial failed'}",
            "a kernel with Landlock (`lsm=landlock` at boot), and the package libseccomp2",
        )
    return _ok("the kernel keeps the node from the store and everything else from the network")


def server(place: Place) -> Finding:
    """Whether the server answers with the certificate that was pinned."""
    address = read_settings(place.home).server
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=str(place.home.ca_certificate))
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=host.strip("[]")),
        ):
            return _ok(f"{address} answers")
    except ssl.SSLError as error:
        return Finding(
            Health.PROBLEM,
            f"{address} shows another certificate ({error.reason})",
            "ask the organisation; somebody may be in between",
        )
    except OSError as error:
        return Finding(
            Health.PROBLEM,
            f"{address} does not answer ({error.strerror or type(error).__name__})",
            "connect to the network that reaches it; until then events only wait",
        )


def consent(place: Place) -> Finding:
    """Whether anything may be captured; no consent is nothing that has to be mended."""
    from tacitly_client.consent import capture_consent

    if (why_not := capture_consent(place.home).why_not) == "":
        return _ok("you agreed to capture")
    how = "read what is asked: `tacitly-agent consent give`"
    return Finding(Health.NOTE, f"nothing is captured: {why_not}", how)


CHECKS: Final[Mapping[str, Check]] = {
    "set up": enrolled,
    "consent": consent,
    "processes": running,
    "permissions": permissions,
    "desktop": desktop,
    "accessibility": accessibility,
    "browsers": browsers,
    "keyring": keyring,
    "clock": clock,
    "disk": disk,
    "sandbox": sandbox,
    "server": server,
}

_OF_THE_HOME: Final = frozenset(
    (consent, running, permissions, keyring, clock, disk, sandbox, server)
)


def _ask_bus(
    name: str, path: str, method: str, signature: str = "", body: tuple[Any, ...] = ()
) -> Any:
    """The one value that somebody on the session's bus answers; None if nobody does."""
    from jeepney import DBusAddress, MessageType, new_method_call
    from jeepney.io.blocking import open_dbus_connection

    address = DBusAddress(path, name, name)
    try:
        with open_dbus_connection(bus="SESSION") as bus:
            call = new_method_call(address, method, signature or None, body)
            answer = bus.send_and_get_reply(call, timeout=_ANSWER_SECONDS)
    except (OSError, KeyError, TimeoutError):
        return None
    if answer.header.message_type is not MessageType.method_return:
        return None
    return answer.body[0]
