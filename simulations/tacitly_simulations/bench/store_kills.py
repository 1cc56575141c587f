"""The event store under SIGKILL: `python -m tacitly_simulations.bench.store_kills`.

One process appends numbered events and tells a file what was stored; another erases, a span that
nobody else erases each time, and tells before and after. Both are killed at random moments, also
in the middle of finishing what the one before left, and started again. At the end

    every event that was told to be stored and that nobody asked to erase is there once, in order;
    of a span that was told to be erased there is nothing;
    of a span that was asked for and not told there is all or nothing, once the store was opened;
    one key is left, which opens no segment of a copy that was made in the middle of it all.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final

import click

from tacitly_client.store import Damage, EventStore, StoreError
from tacitly_client.store.erasure import is_pending
from tacitly_client.store.layout import Vault
from tacitly_client.store.segment import read_segment
from tacitly_common.events import Event, EventKind

_SECOND_NS: Final = 10**9
_START_NS: Final = 1_700_000_000 * _SECOND_NS
_FRAME_EVENTS: Final = 20
_SPAN_EVENTS: Final = 50
_PATIENCE_SECONDS: Final = 120
_PROCESSES: Final = multiprocessing.get_context("forkserver")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened; `problems` is empty if the store held.

    `resumed`: how many kills left an erasure for the next to finish.
    """

    kills: int
    resumed: int
    stored: int
    erased_spans: int
    problems: list[str]


@dataclass(frozen=True, slots=True)
class Place:
    """A directory with the store, a copy of its segments, and what was told."""

    directory: Path

    @property
    def store(self) -> Path:
        """The store's directory."""
        return self.directory / "store"

    @property
    def copy(self) -> Path:
        """What a backup program might have taken."""
        return self.directory / "copy"

    @property
    def told(self) -> Path:
        """JSON lines: ["stored", up to], ["asked", since, until], ["erased", since, until]."""
        return self.directory / "told.jsonl"

    def tell(self, *words: Any) -> None:
        """Add a line, in one write."""
        told = os.open(self.told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(told, json.dumps(words).encode() + b"\n")
        os.close(told)

    def said(self, word: str) -> list[list[int]]:
        """The numbers that were told with a word."""
        lines = map(json.loads, self.told.read_text().splitlines()) if self.told.exists() else ()
        return [line[1:] for line in lines if line[0] == word]


def run(
    place: Place, kills: int, seed: int, report: Callable[[str], None] = lambda _line: None
) -> Outcome:
    """Kill whoever works on a new store so many times, then look."""
    rng = random.Random(seed)  # noqa: S311 - when to kill, not what to hide
    _PROCESSES.set_forkserver_preload(["tacitly_client.store"])
    EventStore.create(place.store).close()
    resumed = 0
    for kill in range(kills):
        workers = [_start(_append, place), _start(_erase, place)]
        _wait_for_words(place, rng.randint(1, 4))
        time.sleep(rng.uniform(0, 0.4))
        for worker in rng.sample(workers, 2):
            _kill(worker)
        resumed += is_pending(place.store)
        if kill == kills // 2:
            shutil.copytree(place.store / "segments", place.copy)
        if kill % 50 == 49:
            report(f"{2 * (kill + 1)} processes killed")
    return _look(place, 2 * kills, resumed)


def _append(place: Place) -> None:
    number = max((until for (until,) in place.said("begun")), default=0)
    with EventStore.open_to_append(place.store) as store:
        while True:
            until = number + _FRAME_EVENTS
            place.tell("begun", until)
            store.append([_event(each) for each in range(number, until)])
            place.tell("stored", number, until)
            number = until


def _erase(place: Place) -> None:
    with EventStore.open(place.store) as store:
        while True:
            since = max((until for _, until in place.said("asked")), default=0)
            until = since + _SPAN_EVENTS
            if max((until for _, until in place.said("stored")), default=0) < 2 * until:
                time.sleep(0.01)
                continue
            place.tell("asked", since, until)
            store.erase(_at_ns(since), _at_ns(until))
            place.tell("erased", since, until)


def _event(number: int) -> Event:
    return Event(EventKind.KEY_DOWN, number, _at_ns(number), key="k", app="editor")


def _at_ns(number: int) -> int:
    return _START_NS + number * _SECOND_NS


def _wait_for_words(place: Place, lines: int) -> None:
    """Until so much more was told."""
    wanted, until = _words(place) + lines, time.monotonic() + _PATIENCE_SECONDS
    while _words(place) < wanted:
        if time.monotonic() > until:
            raise StoreError(f"nothing was told for {_PATIENCE_SECONDS} s")
        time.sleep(0.005)


def _words(place: Place) -> int:
    return place.told.read_bytes().count(b"\n") if place.told.exists() else 0


def _start(target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    process = _PROCESSES.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def _kill(process: ForkServerProcess) -> None:
    process.kill()
    process.join()
    if process.exitcode != -signal.SIGKILL:
        raise StoreError(f"a process ended by itself with {process.exitcode}; see its output")


def _look(place: Place, kills: int, resumed: int) -> Outcome:
    problems: list[str] = []
    damages: list[Damage] = []
    with EventStore.open(place.store) as store:
        store.erase(0, 0)  # and so changes the key
        found = [event.monotonic_ns for event in store.events(on_damage=damages.append)]
    numbers = set(found)
    if found != sorted(numbers):
        problems.append("an event is there twice")
    asked = {number for since, until in place.said("asked") for number in range(since, until)}
    stored = {number for since, until in place.said("stored") for number in range(since, until)}
    if lost := stored - asked - numbers:
        problems.append(f"{len(lost)} events were told to be stored and are not there")
    erased = place.said("erased")
    for since, until in place.said("asked"):
        left = numbers & set(range(since, until))
        if left and [since, until] in erased:
            problems.append(f"{len(left)} events of {since}..{until} were told to be erased")
        elif left and not stored & set(range(since, until)) <= left:
            problems.append(f"{since}..{until} is erased in part")
    if is_pending(place.store):
        problems.append("an erasure is still not finished")
    if len(list(place.store.glob("*.key"))) != 1:
        problems.append("there is not one key")
    problems += [f"{path} opens still" for path in _openable(place)]
    return Outcome(kills, resumed, len(stored), len(erased), problems)


def _openable(place: Place) -> list[Path]:
    """Segments of the copy that the keys of the store open."""
    vault, opened = Vault.of(place.store), []
    for path in place.copy.rglob("*.seg"):
        with suppress(StoreError):
            if list(read_segment(path, vault.key, lambda _damage: None)):
                opened.append(path)
    return opened


@click.command()
@click.option("--kills", default=200, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=1, show_default=True)
def main(kills: int, seed: int) -> None:
    """Kill who appends to and who erases from a store, and look whether it held."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tacitly-kills-") as folder:
        outcome = run(Place(Path(folder)), -(-kills // 2), seed, report=click.echo)
    click.echo(
        f"{outcome.kills} processes killed, {outcome.resumed} times in the middle of an erasure, "
        f"{outcome.stored} events told to be stored, {outcome.erased_spans} spans told to be "
        f"erased, {len(outcome.problems)} problems, {time.monotonic() - began:.0f} s"
    )
    for problem in outcome.problems:
        click.echo(problem)
    sys.exit(5 if outcome.problems else 0)


if __name__ == "__main__":
    # By its name: what is pickled for the processes must be importable there.
    from tacitly_simulations.bench import store_kills

    store_kills.main()
