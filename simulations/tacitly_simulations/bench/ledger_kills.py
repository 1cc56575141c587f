"""The population ledger under SIGKILL: `python -m tacitly_simulations.bench.ledger_kills`.

Several processes plan, charge, retry and mark on one ledger and tell a file, each in one write,
what they were told. They are killed at random moments and started again. Now and then a backup is
taken while they run; now and then all are killed, the last backup is put back, and the
reconciliation is killed too until one gets through. At the end every word that was told must be
true of the ledger, and its verification must find nothing: no cap was exceeded, nothing released
was uncharged, every total is the sum of its charges.
"""

import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final

import click

from tacitly_common.accounting.caps import Caps
from tacitly_common.errors import BudgetExceededError, LedgerError
from tacitly_server.ledger.backup import backup, reconcile, restore
from tacitly_server.ledger.export import verify_database
from tacitly_server.ledger.population import AttemptKey, AttemptState, PopulationLedger
from tacitly_server.ledger.witness import Witness, create_key

_WRITERS: Final = 3
_SUBJECTS: Final = 30
_KILLS_OF_A_GENERATION: Final = 20
_KILLS_BETWEEN_BACKUPS: Final = 9
_BACKUPS_BETWEEN_RESTORES: Final = 2
_PATIENCE_SECONDS: Final = 120
_COST: Final = 10
_CAPS: Final = Caps(lifetime_nano_rho=150, epoch_nano_rho=120, campaign_nano_rho=100)
_EPOCHS: Final = (("2026-01",), ("2026-02",), ("2026-01", "2026-02"))
_PROCESSES: Final = multiprocessing.get_context("forkserver")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened; `problems` is empty if the ledger held. `kills` are those of writers."""

    kills: int
    reconciliations_killed: int
    restores: int
    charged: int
    refused: int
    problems: list[str]


@dataclass(frozen=True, slots=True)
class Place:
    """A ledger, and the directory of its witness, its key and what was told."""

    where: Path | str
    directory: Path

    @property
    def witness(self) -> Witness:
        """Its key is made beforehand."""
        return Witness.open(self.directory / "ledger-witness.jsonl", self.directory / "ledger.key")

    @property
    def told(self) -> Path:
        """JSON lines: what the writers were told."""
        return self.directory / "told.jsonl"


def run(
    place: Place, kills: int, seed: int, report: Callable[[str], None] = lambda _line: None
) -> Outcome:
    """Kill writers of a new ledger at least so many times, then look."""
    rng = random.Random(seed)  # noqa: S311 - when to kill, not what to hide
    create_key(place.directory / "ledger.key")
    _PROCESSES.set_forkserver_preload(["tacitly_server.ledger.backup"])
    killed = restores = interrupted = 0
    copies: list[Path] = []
    writers: list[ForkServerProcess] = []
    while killed < kills:
        while len(writers) < _WRITERS:
            generation = killed // _KILLS_OF_A_GENERATION
            writers.append(_start(_write, place, generation, rng.random()))
        _wait_for_words(place, rng.randint(1, 4))
        time.sleep(rng.uniform(0, 0.05))
        killed += _kill(writers.pop(0))  # the oldest: it is at work by now
        if killed < _KILLS_BETWEEN_BACKUPS * (len(copies) + 1):
            continue
        copies.append(place.directory / f"backup-{killed}.db")
        backup(place.where, copies[-1], place.witness)
        report(f"{killed} kills")
        if len(copies) % _BACKUPS_BETWEEN_RESTORES == 0:
            killed += sum(_kill(writer) for writer in writers)
            writers = []
            interrupted += _restore(place, rng.choice(copies[-4:-1]), rng)
            restores += 1
    for writer in writers:
        killed += _kill(writer)
    charged, refused, problems = _look(place)
    return Outcome(killed, interrupted, restores, charged, refused, problems)


def _wait_for_words(place: Place, lines: int) -> None:
    """Until the writers were told so much more."""
    wanted, until = _words(place) + lines, time.monotonic() + _PATIENCE_SECONDS
    while _words(place) < wanted:
        if time.monotonic() > until:
            raise LedgerError(f"no writer was told anything for {_PATIENCE_SECONDS} s")
        time.sleep(0.005)


def _words(place: Place) -> int:
    return place.told.read_bytes().count(b"\n") if place.told.exists() else 0


def _restore(place: Place, copy: Path, rng: random.Random) -> int:
    """Put an old copy back, and reconcile until a process lives through it. How many did not.

    Each gets more time than the one before, so that one does on any machine.
    """
    behind = not restore(copy, place.where, place.witness)
    if behind and _takes_writes(place):
        raise LedgerError("a ledger that is behind its witness took a write")
    killed = 0
    while True:
        process = _start(_reconcile, place)
        process.join(timeout=rng.uniform(0, 0.5 * (killed + 1)))
        process.kill()
        process.join()
        if process.exitcode == 0:
            return killed
        if process.exitcode != -signal.SIGKILL:
            raise LedgerError(f"reconciling ended with {process.exitcode}; see its output")
        killed += 1


def _takes_writes(place: Place) -> bool:
    with PopulationLedger(place.where, place.witness) as ledger:
        try:
            ledger.plan(_plan(0), 1)
        except LedgerError:
            return False
        return True


def _start(target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    process = _PROCESSES.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def _kill(process: ForkServerProcess) -> int:
    process.kill()
    process.join()
    if process.exitcode != -signal.SIGKILL:
        raise LedgerError(f"a process ended by itself with {process.exitcode}; see its output")
    return 1


def _reconcile(place: Place) -> None:
    reconcile(place.where, place.witness)


def _write(place: Place, generation: int, seed: float) -> None:
    """Plan, charge, charge again, mark; for ever. Each generation has its own people and plans."""
    rng = random.Random(seed)  # noqa: S311
    people = [f"{generation:032x}{person:032x}" for person in range(_SUBJECTS)]
    told = os.open(place.told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with PopulationLedger(place.where, place.witness) as ledger:
        while True:
            key = ledger.plan(_plan(2 * generation + rng.randrange(2)), rng.randint(1, 3))
            subjects, epochs = sorted(rng.sample(people, 8)), rng.choice(_EPOCHS)
            try:
                for again in range(rng.randint(1, 2)):
                    new = ledger.charge(
                        key, subjects, epochs=epochs, cost_nano_rho=_COST, caps=_CAPS
                    )
                    if new is not (again == 0):
                        raise LedgerError("a retry was charged, or a charge was not")
            except BudgetExceededError:
                ledger.mark(key, AttemptState.VOID)
                _tell(told, key, "refused", [], ())
                continue
            _tell(told, key, "charged", subjects, epochs)
            if rng.random() < 0.3:
                ledger.mark(key, AttemptState.LOST)
            else:
                ledger.mark(key, AttemptState.RELEASED, result_sha256=_plan(key.round))
                _tell(told, key, "released", subjects, epochs)


def _plan(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def _tell(told: int, key: AttemptKey, what: str, subjects: list[str], epochs: Any) -> None:
    line = [what, key.plan_hash, key.round, key.attempt, subjects, list(epochs)]
    os.write(told, json.dumps(line).encode() + b"\n")


def _look(place: Place) -> tuple[int, int, list[str]]:
    """How many charges and refusals were told, and what is not as it was told."""
    last = place.witness.last()
    kept = None if last is None else last.checkpoint
    problems = verify_database(place.where, [place.witness.public_key], kept)
    told = [json.loads(line) for line in place.told.read_text().splitlines()]
    charges: dict[AttemptKey, tuple[list[str], list[str]]] = {}
    with PopulationLedger(place.where, place.witness) as ledger:
        for what, plan_hash, round_number, attempt, subjects, epochs in told:
            key = AttemptKey(plan_hash, round_number, attempt)
            if what == "charged" and key in charges:
                problems.append(f"{key} was charged twice")
            if what == "charged":
                charges[key] = subjects, epochs
            if what == "released" and key not in charges:
                problems.append(f"{key} was released and not charged")
            if what == "released" and ledger.state(key) is not AttemptState.RELEASED:
                problems.append(f"{key} was told to be released and is {ledger.state(key)}")
        for key, (subjects, epochs) in charges.items():
            try:  # the very same charge again: "already", or it is not what was told
                new = ledger.charge(
                    key, subjects, epochs=tuple(epochs), cost_nano_rho=_COST, caps=_CAPS
                )
            except (LedgerError, BudgetExceededError) as error:
                problems.append(f"{key}: {error}")
            else:
                problems += [f"{key} was told to be charged and was not"] * new
    return len(charges), sum(line[0] == "refused" for line in told), problems


@click.command()
@click.option("--kills", default=500, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=1, show_default=True)
@click.option("--database", help="URL of an empty PostgreSQL database [default: a SQLite file].")
def main(kills: int, seed: int, database: str | None) -> None:
    """Kill the ledger's writers, restore old copies, and look whether it held."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tacitly-kills-") as folder:
        directory = Path(folder)
        place = Place(database or directory / "population.db", directory)
        outcome = run(place, kills, seed, report=click.echo)
    click.echo(
        f"{outcome.kills} writers killed, {outcome.restores} restores, "
        f"{outcome.reconciliations_killed} reconciliations killed, {outcome.charged} charges, "
        f"{outcome.refused} refused, {len(outcome.problems)} problems, "
        f"{time.monotonic() - began:.0f} s"
    )
    for problem in outcome.problems:
        click.echo(problem)
    sys.exit(5 if outcome.problems else 0)


if __name__ == "__main__":
    # By its name: what is pickled for the processes must be importable there.
    from tacitly_simulations.bench import ledger_kills

    ledger_kills.main()
