"""No interleaving of writers, retries, crashes and restores overspends or forgets a charge."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine

from ledgers import OTHER_PLAN, PLAN, RESULT, SUBJECTS, TWO_MONTHS, Books
from postgres import Cluster
from tacitly_common.accounting.caps import Caps
from tacitly_common.errors import BudgetExceededError, LedgerError
from tacitly_server.ledger.backup import backup, reconcile, restore
from tacitly_server.ledger.population import AttemptKey, AttemptState, PopulationLedger
from tacitly_server.ledger.witness import Witness

CAPS = Caps(lifetime_nano_rho=45, epoch_nano_rho=40, campaign_nano_rho=30)
ALLOWED = {
    (AttemptState.PLANNED, AttemptState.VOID),
    (AttemptState.CHARGED, AttemptState.RELEASED),
    (AttemptState.CHARGED, AttemptState.LOST),
}
_BEFORE = {after: before for before, after in ALLOWED} | {
    AttemptState.PLANNED: None,
    AttemptState.CHARGED: AttemptState.PLANNED,
}
_ENDS = (AttemptState.RELEASED, AttemptState.LOST, AttemptState.VOID)
Charge = tuple[frozenset[str], tuple[str, ...], int]


class KilledError(Exception):
    """Stands for a process that is no more."""


class DyingWitness(Witness):
    """Of a process that is killed after a change is committed and before it is witnessed."""

    def catch_up(self, engine: Engine) -> None:
        raise KilledError


@dataclass(frozen=True)
class Step:
    """A change of an attempt; `charge` if it is one."""

    key: AttemptKey
    state: AttemptState
    charge: Charge | None = None


@dataclass
class Truth:
    """What the database should hold; `lines` are the witness's lines that it knows of."""

    states: dict[AttemptKey, AttemptState] = field(default_factory=dict)
    charges: dict[AttemptKey, Charge] = field(default_factory=dict)
    unwitnessed: list[Step] = field(default_factory=list)
    lines: set[int] = field(default_factory=set)

    def take(self, step: Step) -> None:
        self.states[step.key] = step.state
        if step.charge is not None:
            self.charges[step.key] = step.charge

    def spent(self) -> Counter[tuple[str, str]]:
        """By (subject, scope): lifetime, plan or month."""
        total: Counter[tuple[str, str]] = Counter()
        for key, (subjects, epochs, cost) in self.charges.items():
            for subject in subjects:
                for scope in ("lifetime", key.plan_hash, *epochs):
                    total[subject, scope] += cost
        return total

    def fits(self, key: AttemptKey, charge: Charge) -> bool:
        """Whether every scope stays within its cap."""
        subjects, epochs, cost = charge
        caps = {"lifetime": CAPS.lifetime_nano_rho, key.plan_hash: CAPS.campaign_nano_rho}
        caps |= dict.fromkeys(epochs, CAPS.epoch_nano_rho)
        spent = self.spent()
        return all(
            spent[subject, scope] + cost <= cap
            for subject in subjects
            for scope, cap in caps.items()
        )


class LedgerMachine(RuleBasedStateMachine):
    """The ledger, opened by several writers, against `Truth`."""

    keys = Bundle("keys")
    backups = Bundle("backups")
    new_where: Callable[[Path], Path | str]

    @initialize()
    def start(self) -> None:
        self.folder = TemporaryDirectory()
        directory = Path(self.folder.name)
        self.books = Books(self.new_where(directory), directory)
        self.writers = [self.books.open() for _ in range(3)]
        self.truth = Truth()
        self.seen: list[Step] = []  # what the witness saw
        self.numbers = itertools.count(1)
        self.last_line = 0

    @property
    def blocked(self) -> bool:
        """A line of the witness is of an entry that the database does not have."""
        return self.last_line != 0 and self.last_line not in self.truth.lines

    def commit(self, step: Step, *, killed: bool) -> None:
        """The database has the step, and the witness too unless the process was killed."""
        self.truth.take(step)
        self.truth.unwitnessed.append(step)
        if not killed:
            self.witness()

    def witness(self) -> None:
        """Every committed step gets its line."""
        for step in self.truth.unwitnessed:
            self.seen.append(step)
            self.new_line()
        self.truth.unwitnessed = []

    def new_line(self) -> None:
        self.last_line = next(self.numbers)
        self.truth.lines.add(self.last_line)

    @contextmanager
    def writer(self, number: int, *, killed: bool) -> Iterator[PopulationLedger]:
        """An open ledger; one whose process dies before it can witness anything."""
        if not killed:
            yield self.writers[number]
            return
        witness = self.books.witness
        with PopulationLedger(self.books.where, DyingWitness(witness.path, witness.key)) as ledger:
            yield ledger

    @rule(
        target=keys,
        number=st.integers(0, 2),
        plan_hash=st.sampled_from((PLAN, OTHER_PLAN)),
        round_number=st.integers(1, 2),
        killed=st.booleans(),
    )
    def plan(self, number: int, plan_hash: str, round_number: int, killed: bool) -> object:
        with self.writer(number, killed=killed) as ledger:
            if self.blocked:
                with pytest.raises(LedgerError, match="older copy"):
                    ledger.plan(plan_hash, round_number)
                return multiple()
            same = [
                k for k in self.truth.states if (k.plan_hash, k.round) == (plan_hash, round_number)
            ]
            key = AttemptKey(plan_hash, round_number, len(same) + 1)
            if killed:
                with pytest.raises(KilledError):
                    ledger.plan(plan_hash, round_number)
            else:
                assert ledger.plan(plan_hash, round_number) == key
        self.commit(Step(key, AttemptState.PLANNED), killed=killed)
        return key

    @rule(
        key=keys,
        number=st.integers(0, 2),
        subjects=st.frozensets(st.sampled_from(SUBJECTS), min_size=1),
        epochs=st.sampled_from((TWO_MONTHS[:1], TWO_MONTHS)),
        cost=st.sampled_from((7, 10)),
        killed=st.booleans(),
    )
    def charge(
        self,
        key: AttemptKey,
        number: int,
        subjects: frozenset[str],
        epochs: tuple[str, ...],
        cost: int,
        killed: bool,
    ) -> None:
        charge = (subjects, epochs, cost)
        state = self.truth.states.get(key)
        refusal: type[Exception] | None = None
        if state is AttemptState.PLANNED and not self.truth.fits(key, charge):
            refusal = BudgetExceededError
        elif state is None or (
            state is not AttemptState.PLANNED and self.truth.charges.get(key) != charge
        ):
            refusal = LedgerError
        elif self.blocked:
            # A process that dies at the witness does not get as far as to see that.
            refusal = (LedgerError, KilledError) if killed else LedgerError  # type: ignore[assignment]
        elif killed:
            refusal = KilledError
        with self.writer(number, killed=killed) as ledger:

            def attempt() -> bool:
                return ledger.charge(
                    key, sorted(subjects), epochs=epochs, cost_nano_rho=cost, caps=CAPS
                )

            if refusal is None:
                assert attempt() is (state is AttemptState.PLANNED)
            else:
                with pytest.raises(refusal):
                    attempt()
        if refusal in (None, KilledError):
            if state is AttemptState.PLANNED:
                self.commit(Step(key, AttemptState.CHARGED, charge), killed=killed)
            elif not killed:
                self.witness()

    @rule(key=keys, number=st.integers(0, 2))
    def replay(self, key: AttemptKey, number: int) -> None:
        charge = self.truth.charges.get(key)
        if charge is None or self.blocked:
            return
        subjects, epochs, cost = charge
        assert not self.writers[number].charge(
            key, sorted(subjects), epochs=epochs, cost_nano_rho=cost, caps=CAPS
        )
        self.witness()

    @rule(
        key=keys,
        number=st.integers(0, 2),
        state=st.sampled_from(AttemptState),
        killed=st.booleans(),
    )
    def mark(self, key: AttemptKey, number: int, state: AttemptState, killed: bool) -> None:
        result = RESULT if state is AttemptState.RELEASED else None
        allowed = not self.blocked and (self.truth.states.get(key), state) in ALLOWED
        with self.writer(number, killed=killed) as ledger:
            if allowed and not killed:
                ledger.mark(key, state, result_sha256=result)
            else:
                with pytest.raises(KilledError if allowed else LedgerError):
                    ledger.mark(key, state, result_sha256=result)
        if allowed:
            self.commit(Step(key, state), killed=killed)

    @rule(number=st.integers(0, 2))
    def reopen(self, number: int) -> None:
        self.writers[number].close()
        self.writers[number] = self.books.open()

    @rule(target=backups)
    def back_up(self) -> object:
        path = Path(self.folder.name) / f"backup-{next(self.numbers)}.db"
        if self.blocked:
            with pytest.raises(LedgerError, match="older copy"):
                backup(self.books.where, path, self.books.witness)
            assert not path.exists()
            return multiple()
        backup(self.books.where, path, self.books.witness)
        self.witness()
        return path, deepcopy(self.truth)

    @rule(copy=backups)
    def restore(self, copy: tuple[Path, Truth]) -> None:
        path, truth = copy
        self.truth = deepcopy(truth)
        # Restored twice within a second, a journal would rightly be the very same.
        moment = datetime.fromtimestamp(next(self.numbers), UTC)
        in_order = restore(path, self.books.where, self.books.witness, now=lambda: moment)
        assert in_order is not self.blocked
        if not self.blocked:
            self.new_line()

    @rule()
    def reconcile(self) -> None:
        before = set(self.truth.charges)
        if self.blocked:
            for step in self.seen:
                now = self.truth.states.get(step.key)
                if now is _BEFORE[step.state]:
                    self.truth.take(step)
            self.new_line()
        charged = len(set(self.truth.charges) - before)
        assert reconcile(self.books.where, self.books.witness) == charged

    @invariant()
    def agrees(self) -> None:
        ledger = self.writers[0]
        found = {a.key: a for plan in (PLAN, OTHER_PLAN) for a in ledger.attempts(plan)}
        assert {key: a.state for key, a in found.items()} == self.truth.states
        for key, attempt in found.items():
            subjects, _, cost = self.truth.charges.get(key, (frozenset(), (), 0))
            assert (attempt.subjects, attempt.cost_nano_rho) == (len(subjects), cost)
        spent = self.truth.spent()
        for subject in SUBJECTS:
            assert ledger.spent_nano_rho(subject) == spent[subject, "lifetime"]
            for plan in (PLAN, OTHER_PLAN):
                assert ledger.spent_nano_rho(subject, plan) == spent[subject, plan]
            for month in TWO_MONTHS:
                assert ledger.spent_nano_rho(subject, epoch=month) == spent[subject, month]
        if not self.blocked:
            # Whatever was acted on is paid for, through every restore, and stands where it stood.
            for step in self.seen:
                assert step.charge in (None, self.truth.charges.get(step.key))
                assert step.state not in _ENDS or self.truth.states[step.key] is step.state

    def teardown(self) -> None:
        for writer in self.writers:
            writer.close()
        assert self.blocked or self.books.problems() == []
        self.folder.cleanup()


def run(new_where: Callable[[Path], Path | str], examples: int) -> None:
    class Machine(LedgerMachine):
        def new_where(self, directory: Path) -> Path | str:
            return new_where(directory)

    run_state_machine_as_test(
        Machine, settings=settings(max_examples=examples, stateful_step_count=30, deadline=None)
    )


def test_on_sqlite() -> None:
    run(lambda directory: directory / "population.db", examples=20)


def test_on_postgresql(postgresql: Cluster) -> None:
    run(lambda _: postgresql.new_database(), examples=8)
