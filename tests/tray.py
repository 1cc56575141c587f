"""The tray as a process of its own, and what a person does with its windows."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import xcffib.res
import xcffib.xproto

from homes import agree
from officers import Log
from plans import small_plan
from stock_flower import eventually
from tacitly_client.capture.clock import SystemClock
from tacitly_client.capture.permit import Permission, PermitFile
from tacitly_client.home import AgentHome
from tacitly_client.store import EventStore
from x_display import Person, Server, need

_WM_CLASS: Final = 67
_VIEWABLE: Final = 2
_LOCAL_PID: Final = 2
_MENU_ROW: Final = 30  # tray/picture.py, at a scale of 1


@dataclass(frozen=True)
class Seen:
    """A mapped window of an application, in pixels."""

    window: int
    x: int
    y: int
    width: int
    height: int


def fresh(root: Path) -> AgentHome:
    """An agent that was enrolled, and asked nothing yet."""
    home = AgentHome(root)
    agree(home, Log().start(small_plan()))
    EventStore.create(home.store).close()
    return home


def programs_without(*names: str, folder: Path) -> str:
    """A PATH on which these programs are not found."""
    folder.mkdir()
    for directory in os.environ["PATH"].split(":"):
        for program in Path(directory).glob("*"):
            link = folder / program.name
            if program.name not in names and not link.is_symlink():
                link.symlink_to(program)
    return str(folder)


@contextmanager
def tray(home: AgentHome, display: Server, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """The installed tray, until the end of the block."""
    with (home.root / "tray.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tacitly_client.tray", "--home", str(home.root)],
            env=os.environ | {"DISPLAY": display.name, "LANG": "C.UTF-8"} | environ,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def desktop(display: Server, *programs: str) -> Iterator[None]:
    """A window manager, and whatever else."""
    environ = os.environ | {"DISPLAY": display.name}
    quiet: Any = {"env": environ, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = [subprocess.Popen([need(each)], **quiet) for each in ("openbox", *programs)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def permission(home: AgentHome) -> Permission | None:
    """What is permitted now."""
    return PermitFile(home.capture_permit, SystemClock())()


def permitted(home: AgentHome) -> Permission:
    """Wait for a permission."""
    return eventually(lambda: permission(home), within_seconds=60)


def windows(person: Person, application: str) -> list[Seen]:
    """The mapped windows of an application, wherever in the tree, the lowest first."""
    found: list[Seen] = []
    waiting = [person.root]
    while waiting:
        window = waiting.pop(0)
        try:
            tree = person.x.core.QueryTree(window).reply()
            waiting += list(tree.children)
            value = person.x.core.GetProperty(False, window, _WM_CLASS, 31, 0, 64).reply().value
            shown = person.x.core.GetWindowAttributes(window).reply().map_state == _VIEWABLE
            if shown and value.buf().split(b"\0")[0] == application.encode():
                size = person.x.core.GetGeometry(window).reply()
                at = person.x.core.TranslateCoordinates(window, person.root, 0, 0).reply()
                found.append(Seen(window, at.dst_x, at.dst_y, size.width, size.height))
        except xcffib.xproto.WindowError:
            continue
    return found


def only_window(person: Person, application: str) -> Seen:
    """Wait for an application's one window."""

    def look() -> Seen | None:
        found = windows(person, application)
        return found[0] if len(found) == 1 else None

    return eventually(look, within_seconds=60)


def click_at(person: Person, seen: Seen, x: int | None = None, y: int | None = None) -> None:
    """Click into a window, in its middle unless told where."""
    across = seen.width // 2 if x is None else x
    down = seen.height // 2 if y is None else y
    person.move(seen.x + across, seen.y + down)
    person.click()


def choose(person: Person, entry: int) -> None:
    """Click on the indicator, then on this entry of its menu (0: the first)."""
    indicator = only_window(person, "tacitly")
    click_at(person, indicator)

    def menu() -> Seen | None:
        others = [w for w in windows(person, "tacitly") if w.window != indicator.window]
        return others[0] if others else None

    opened = eventually(menu, within_seconds=60)
    click_at(person, opened, y=_MENU_ROW * (entry + 1) + _MENU_ROW // 2)
    eventually(lambda: menu() is None, within_seconds=60)


def clients(person: Person) -> set[int]:
    """The processes that have a connection to the X server."""
    spec = xcffib.res.ClientIdSpec.synthetic(0, _LOCAL_PID)
    reply: Any = person.x(xcffib.res.key).QueryClientIds(1, [spec]).reply()
    return {int(found.value[0]) for found in reply.ids if found.length}
