"""Who types in a trial, and what became of it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from tacitly_client.capture.clock import SystemClock
from tacitly_client.capture.permit import BEAT_SECONDS, Permission, PermitFile
from tacitly_client.capture.state import Doing, read_state
from tacitly_client.choices import Choices
from tacitly_client.home import AgentHome
from tacitly_client.redaction import ContentLevel
from tacitly_client.store import EventStore
from tacitly_common.events import Event, EventKind
from trials.desktop import Desktop
from x_display import CODES, KEY_DOWN, KEY_UP, Person, wait_for

_SHIFTED: Final = dict(zip("!@#$%^&*()_+:", "1234567890-=;", strict=True))
_MORE_CODES: Final = {"-": 20, "=": 21, ";": 47, "/": 61}
TESTS: Final = Path(__file__).parent.parent


def type_text(person: Person, text: str, seconds: float) -> None:
    """Press a key each `seconds`, with Shift where that is needed."""
    codes = CODES | _MORE_CODES
    began = time.monotonic()
    for number, character in enumerate(text, start=1):
        base = _SHIFTED.get(character, character.lower())
        shift = base != character
        if shift:
            person.fake(KEY_DOWN, CODES["Shift"])
        person.fake(KEY_DOWN, codes[base])
        person.fake(KEY_UP, codes[base])
        if shift:
            person.fake(KEY_UP, CODES["Shift"])
        person.flush()
        time.sleep(max(0.0, began + number * seconds - time.monotonic()))


class Captured:
    """A capture process that runs for a home."""

    def __init__(self, home: AgentHome, process: "subprocess.Popen[bytes]") -> None:
        self.home = home
        self.process = process

    def events(self) -> list[Event]:
        """What is stored by now."""
        with EventStore.open(self.home.store) as store:
            return list(store.events())

    def keys(self) -> list[str]:
        """The keys among it."""
        return [event.key for event in self.events() if event.kind is EventKind.KEY_DOWN]


def choose(
    home: AgentHome,
    *applications: str,
    excluded: Sequence[str] = (),
    level: ContentLevel = ContentLevel.CHARACTERS,
) -> None:
    """Choose what is stored of applications, as the person does."""
    chosen = Choices(
        applications=dict.fromkeys(applications, level),
        excluded=frozenset(excluded),
    )
    new = home.choices.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(chosen))
    new.replace(home.choices)


@contextmanager
def capturing(
    home: AgentHome,
    running: Desktop,
    *applications: str,
    excluded: Sequence[str] = (),
    level: ContentLevel = ContentLevel.CHARACTERS,
    motion: bool = False,
    without: str = "",
) -> Iterator[Captured]:
    """Capture, at this level in these applications, until the block ends; then all that was let
    go is stored."""
    EventStore.create(home.store).close()
    choose(home, *applications, excluded=excluded, level=level)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(home, ended, motion))
    beating.start()
    with (home.root / "capture.log").open("ab") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "trials.capture", str(home.root)),
                *(("--without", without) if without else ()),
            ],
            env=running.environ | {"PYTHONPATH": str(TESTS), "PATH": os.environ["PATH"]},
            stderr=log,
        )
    try:
        wait_for(lambda: read_state(home.capture_state).doing is Doing.CAPTURING)
        yield Captured(home, process)
    finally:
        process.terminate()
        code = process.wait(20)
        ended.set()
        beating.join()
    assert code == 0, (home.root / "capture.log").read_text()


def _beat(home: AgentHome, ended: threading.Event, motion: bool) -> None:
    permit = PermitFile(home.capture_permit, SystemClock())
    permission = Permission(capturing=True, since_ns=time.monotonic_ns(), motion=motion)
    while True:
        permit.beat(permission)
        if ended.wait(BEAT_SECONDS):
            return
