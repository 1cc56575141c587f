"""No interleaving of writers, retries, crashes and restores overspends or forgets a charge."""

import itertools
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
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
Charge = tuple[frozenset[str], tuple[str, ...], int]


class KilledError(Exception):
    """Stands for a process that is no more."""


class DyingWitness(Witness):
    """Of a process that is killed after the charge is committed and before it is witnessed."""

    def catch_up(self, engine: Engine) -> None:
        raise KilledError


@dataclass
class Truth:
    """What the database should hold; `lines` are the witness's lines that it knows of."""

    states: dict[AttemptKey, AttemptState] = field(default_factory=dict)
    charges: dict[AttemptKey, Charge] = field(default_factory=dict)
    unwitnessed: list[AttemptKey] = field(default_factory=list)
    lines: set[int] = field(default_factory=set)

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
        self.seen: dict[AttemptKey, Charge] = {}  # what the witness saw
        self.released: set[AttemptKey] = set()  # what a caller was told is released
        self.numbers = itertools.count(1)
        self.last_line = 0

    @property
    def blocked(self) -> bool:
        """A line of the witness is of an entry that the database does not have."""
        return self.last_line != 0 and self.last_line not in self.truth.lines

    def witness(self) -> None:
        """Every committed charge gets its line."""
        for key in self.truth.unwitnessed:
            self.seen[key] = self.truth.charges[key]
            self.last_line = next(self.numbers)
            self.truth.lines.add(self.last_line)
        self.truth.unwitnessed = []

    @rule(
        target=keys,
        writer=st.integers(0, 2),
        plan_hash=st.sampled_from((PLAN, OTHER_PLAN)),
        round_number=st.integers(1, 2),
    )
    def plan(self, writer: int, plan_hash: str, round_number: int) -> object:
        if self.blocked:
            with pytest.raises(LedgerError, match="older copy"):
                self.writers[writer].plan(plan_hash, round_number)
            return multiple()
        key = self.writers[writer].plan(plan_hash, round_number)
        assert key not in self.truth.states
        self.truth.states[key] = AttemptState.PLANNED
        return key

    @rule(
        key=keys,
        writer=st.integers(0, 2),
        subjects=st.frozensets(st.sampled_from(SUBJECTS), min_size=1),
        epochs=st.sampled_from((TWO_MONTHS[:1], TWO_MONTHS)),
        cost=st.sampled_from((7, 10)),
        killed=st.booleans(),
    )
    def charge(
        self,
        key: AttemptKey,
        writer: int,
        subjects: frozenset[str],
        epochs: tuple[str, ...],
        cost: int,
        killed: bool,
    ) -> None:
        ledger, charge = self.writers[writer], (subjects, epochs, cost)
        if killed:
            witness = self.books.witness
            ledger = PopulationLedger(self.books.where, DyingWitness(witness.path, witness.key))

        def attempt() -> bool:
            return ledger.charge(
                key, sorted(subjects), epochs=epochs, cost_nano_rho=cost, caps=CAPS
            )

        expected: bool | type[Exception]
        state = self.truth.states.get(key)
        if state is None:
            expected = LedgerError
        elif state is not AttemptState.PLANNED:
            expected = False if self.truth.charges.get(key) == charge else LedgerError
            if expected is False and self.blocked:
                expected = LedgerError
        elif not self.truth.fits(key, charge):
            expected = BudgetExceededError
        else:
            expected = LedgerError if self.blocked else True
            if not self.blocked:
                self.truth.states[key] = AttemptState.CHARGED
                self.truth.charges[key] = charge
                self.truth.unwitnessed.append(key)
        if isinstance(expected, bool) and killed:
            expected = KilledError
        elif isinstance(expected, bool):
            self.witness()
        if isinstance(expected, bool):
            assert attempt() is expected
        else:
            with pytest.raises((expected, KilledError) if killed else expected):
                attempt()
        if killed:
            ledger.close()

    @rule(key=keys, writer=st.integers(0, 2))
    def replay(self, key: AttemptKey, writer: int) -> None:
        charge = self.truth.charges.get(key)
        if charge is None or self.blocked:
            return
        subjects, epochs, cost = charge
        self.witness()
        assert not self.writers[writer].charge(
            key, sorted(subjects), epochs=epochs, cost_nano_rho=cost, caps=CAPS
        )

    @rule(key=keys, writer=st.integers(0, 2), state=st.sampled_from(AttemptState))
    def mark(self, key: AttemptKey, writer: int, state: AttemptState) -> None:
        result = RESULT if state is AttemptState.RELEASED else None
        if not self.blocked and (self.truth.states.get(key), state) in ALLOWED:
            self.writers[writer].mark(key, state, result_sha256=result)
            self.truth.states[key] = state
            if state is AttemptState.RELEASED:
                self.released.add(key)
        else:
            with pytest.raises(LedgerError):
                self.writers[writer].mark(key, state, result_sha256=result)

    @rule(writer=st.integers(0, 2))
    def reopen(self, writer: int) -> None:
        self.writers[writer].close()
        self.writers[writer] = self.books.open()

    @rule(target=backups)
    def back_up(self) -> object:
        path = Path(self.folder.name) / f"backup-{next(self.numbers)}.db"
        if self.blocked:
            with pytest.raises(LedgerError, match="older copy"):
                backup(self.books.where, path, self.books.witness)
            return multiple()
        self.witness()
        backup(self.books.where, path, self.books.witness)
        return path, deepcopy(self.truth)

    @rule(copy=backups)
    def restore(self, copy: tuple[Path, Truth]) -> None:
        path, truth = copy
        self.truth = deepcopy(truth)
        assert restore(path, self.books.where, self.books.witness) is not self.blocked

    @rule()
    def reconcile(self) -> None:
        missing = {
            key: charge for key, charge in self.seen.items() if key not in self.truth.charges
        }
        assert reconcile(self.books.where, self.books.witness) == len(missing) * self.blocked
        if self.blocked:
            self.truth.charges |= missing
            self.truth.states |= dict.fromkeys(missing, AttemptState.CHARGED)
            self.last_line = next(self.numbers)
            self.truth.lines.add(self.last_line)

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
            # Whatever was acted on is paid for, through every restore.
            assert self.seen.items() <= self.truth.charges.items()
            assert self.released <= set(self.truth.charges)

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
