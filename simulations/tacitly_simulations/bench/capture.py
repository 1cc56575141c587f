"""What capture costs, beside bare readers and pynput: python -m tacitly_simulations.bench.capture

Every program reads the same events of one Xvfb in the same seconds; the order in which they were
started changes nothing. Processor time and wakeups are the operating system's counts of each
process. pynput takes part where it can be imported.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from tacitly_client.capture.clock import SystemClock
from tacitly_client.capture.permit import BEAT_SECONDS, Permission, PermitFile
from tacitly_client.capture.state import Doing, read_state
from tacitly_client.home import AgentHome
from tacitly_client.store import EventStore
from tacitly_common.errors import TacitlyError, ValidationError
from tacitly_simulations.bench.meter import cpu_seconds, wakeups
from tacitly_simulations.bench.report import machine

_MODULE: Final = "tacitly_simulations.bench"
_CAPTURE: Final = "Tacitly"
_NO_MOTION: Final = "Tacitly, motion not permitted"
_BARE: Final = "bare XInput2 reader"
_RATES: Final = (0, 125, 500, 1_000)
_START_SECONDS: Final = 20.0
_SETTLE_SECONDS: Final = 2.0
_STILL_SECONDS: Final = 12.0  # until capture looks less often


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one program in one phase."""

    program: str
    cpu_percent: float
    wakeups_a_second: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Phase:
    """What happened, for how long, and what each program took for it."""

    name: str
    seconds: float
    stored_bytes_a_second: float
    costs: list[Cost]

    def cpu_percent(self, program: str) -> float | None:
        """None if it did not take part."""
        return next((c.cpu_percent for c in self.costs if c.program == program), None)


@click.command()
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(5))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("out/bench-capture.json"),
    show_default=True,
)
def bench(seconds: float, out: Path) -> None:
    """Measure capture while idle, typing, and at up to 1,000 motions a second."""
    console = Console(highlight=False, width=110)
    phases = measure(seconds, console)
    show(console, phases)
    document = {"machine": machine(), "phases": msgspec.to_builtins(phases)}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(document)))
    console.print(f"written to {out}")


def measure(
    seconds: float,
    console: Console,
    *,
    rates: Sequence[int] = _RATES,
    still_seconds: float = _STILL_SECONDS,
) -> list[Phase]:
    """All phases, `seconds` each: idle after `still_seconds`, then these many motions a second.

    Raises:
        ValidationError: Xvfb is not installed, or a program did not start.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tacitly-bench-")))
        environ = os.environ | {"DISPLAY": stack.enter_context(_display()), "WAYLAND_DISPLAY": ""}
        environ |= {"XDG_SESSION_TYPE": "x11"}
        homes = {
            name: stack.enter_context(_permitted_home(directory / str(motion), motion=motion))
            for name, motion in ((_CAPTURE, True), (_NO_MOTION, False))
        }
        commands = {name: ["x_capture", str(home.root)] for name, home in homes.items()}
        commands |= {_BARE: ["x_readers", "bare"], "the same, bytes only": ["x_readers", "head"]}
        if importlib.util.find_spec("pynput"):
            commands["pynput"] = ["x_readers", "pynput"]
        programs = {
            name: stack.enter_context(_running(command, environ))
            for name, command in commands.items()
        }
        for home in homes.values():
            _wait_until_capturing(home)
        time.sleep(still_seconds)
        _check_running(programs)
        phases = [_phase("idle", seconds, programs, homes[_CAPTURE])]
        for rate in rates:
            name = f"8 keys/s, {rate} motions/s"
            console.print(name)
            with _running(["x_typist", str(rate), str(seconds + 2 * _SETTLE_SECONDS)], environ):
                time.sleep(_SETTLE_SECONDS)
                phases.append(_phase(name, seconds, programs, homes[_CAPTURE]))
        return phases


def _check_running(programs: Mapping[str, psutil.Process]) -> None:
    for name, process in programs.items():
        if process.status() == psutil.STATUS_ZOMBIE:
            raise ValidationError(f"{name} has ended; run its module by itself to see why")


def show(console: Console, phases: list[Phase]) -> None:
    """One table: percent of a core, and how often that of the bare reader."""
    table = Table(title="% of one core (x bare XInput2 reader)")
    table.add_column(no_wrap=True)
    for phase in phases:
        table.add_column(phase.name, justify="right")
    for cost in phases[0].costs:
        cells = []
        for phase in phases:
            percent, bare = phase.cpu_percent(cost.program), phase.cpu_percent(_BARE)
            ratio = f"  ({percent / bare:.2f}x)" if percent is not None and bare else ""
            cells.append(f"{percent:.2f}{ratio}")
        table.add_row(cost.program, *cells)
    console.print(table)
    for phase in phases:
        own = next(cost for cost in phase.costs if cost.program == _CAPTURE)
        console.print(
            f"{phase.name}: {own.wakeups_a_second:.1f} wakeups/s, "
            f"{own.memory_bytes / 1e6:.0f} MB resident, "
            f"{phase.stored_bytes_a_second:.0f} bytes/s stored"
        )


def _phase(
    name: str, seconds: float, programs: Mapping[str, psutil.Process], home: AgentHome
) -> Phase:
    def counts() -> dict[str, tuple[float, int]]:
        return {
            program: (cpu_seconds(process), wakeups(process))
            for program, process in programs.items()
        }

    before, stored, began = counts(), _stored_bytes(home), time.monotonic()
    time.sleep(seconds)
    after, elapsed = counts(), time.monotonic() - began
    return Phase(
        name,
        elapsed,
        (_stored_bytes(home) - stored) / elapsed,
        [
            Cost(
                program,
                100 * (after[program][0] - before[program][0]) / elapsed,
                (after[program][1] - before[program][1]) / elapsed,
                process.memory_info().rss,
            )
            for program, process in programs.items()
        ],
    )


def _stored_bytes(home: AgentHome) -> int:
    return sum(path.stat().st_size for path in home.store.glob("segments/*/*"))


def _wait_until_capturing(home: AgentHome) -> None:
    until = time.monotonic() + _START_SECONDS
    while (state := read_state(home.capture_state)).doing is not Doing.CAPTURING:
        if time.monotonic() > until:
            raise ValidationError(f"capture did not start: {state.doing.value} {state.reason}")
        time.sleep(0.05)


@contextmanager
def _display() -> Iterator[str]:
    """The name of a fresh Xvfb."""
    program = shutil.which("Xvfb")
    if program is None:
        raise ValidationError("Xvfb is not installed; apt-get install xvfb")
    reading, writing = os.pipe()
    with subprocess.Popen(
        [program, "-displayfd", str(writing), "-nolisten", "tcp", "-noreset"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(writing)
        with os.fdopen(reading) as answer:
            name = answer.readline().strip()
        try:
            yield f":{name}"
        finally:
            process.terminate()


@contextmanager
def _running(command: list[str], environ: Mapping[str, str]) -> Iterator[psutil.Process]:
    module, *arguments = command
    with subprocess.Popen(
        [sys.executable, "-m", f"{_MODULE}.{module}", *arguments],
        env=dict(environ),
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


@contextmanager
def _permitted_home(root: Path, *, motion: bool) -> Iterator[AgentHome]:
    """An agent's home whose capture process is permitted to capture, as a tray would do it."""
    home = AgentHome(root)
    EventStore.create(home.store).close()
    permit = PermitFile(home.capture_permit, SystemClock())
    given = Permission(capturing=True, since_ns=time.monotonic_ns(), motion=motion)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            permit.beat(given)

    thread = threading.Thread(target=beat, name="tray")
    thread.start()
    try:
        yield home
    finally:
        ended.set()
        thread.join()


def main() -> None:
    """Run the command; a deliberate error becomes one line and its exit code."""
    try:
        bench()
    except TacitlyError as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
