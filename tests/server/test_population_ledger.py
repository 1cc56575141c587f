import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from itertools import product
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import pytest
from campaign_home import PROCESSES
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from tacitly_common.accounting.subject import cap_nano_rho, nano_rho_per_participation
from tacitly_common.errors import BudgetExceededError, LedgerError, ValidationError
from tacitly_server.ledger.population import AttemptKey, AttemptState, PopulationLedger

PLAN = "a" * 64
OTHER_PLAN = "b" * 64
SUBJECTS = [f"{i:064x}" for i in range(5)]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[PopulationLedger]:
    with PopulationLedger(tmp_path / "population.db") as opened:
        yield opened


def charge(
    ledger: PopulationLedger,
    key: AttemptKey,
    subjects: list[str] = SUBJECTS,
    *,
    cost: int = 10,
    cap: int = 30,
) -> bool:
    return ledger.charge(key, subjects, cost_nano_rho=cost, cap_nano_rho=cap)


def test_a_charge_takes_the_cost_from_every_subject(ledger: PopulationLedger) -> None:
    key = ledger.plan(PLAN, 1)
    assert charge(ledger, key)
    assert [ledger.spent_nano_rho(s) for s in SUBJECTS] == [10] * 5
    assert ledger.state(key) is AttemptState.CHARGED


def test_the_same_charge_again_costs_nothing(ledger: PopulationLedger) -> None:
    key = ledger.plan(PLAN, 1)
    charge(ledger, key)
    assert not charge(ledger, key, SUBJECTS[::-1])
    ledger.mark(key, AttemptState.RELEASED)
    assert not charge(ledger, key)
    assert {ledger.spent_nano_rho(subject, PLAN) for subject in SUBJECTS} == {10}


@pytest.mark.parametrize(("subjects", "cost"), [(SUBJECTS[:4], 10), (SUBJECTS, 11)])
def test_another_charge_under_the_same_key_is_refused(
    ledger: PopulationLedger, subjects: list[str], cost: int
) -> None:
    key = ledger.plan(PLAN, 1)
    charge(ledger, key)
    with pytest.raises(LedgerError, match="another charge"):
        charge(ledger, key, subjects, cost=cost)
    assert {ledger.spent_nano_rho(subject, PLAN) for subject in SUBJECTS} == {10}


def test_one_subject_without_budget_leaves_everyone_uncharged(ledger: PopulationLedger) -> None:
    for round_number in (1, 2, 3):
        charge(ledger, ledger.plan(PLAN, round_number), SUBJECTS[:1])
    key = ledger.plan(PLAN, 4)
    with pytest.raises(BudgetExceededError, match="1 of 5"):
        charge(ledger, key)
    assert ledger.state(key) is AttemptState.PLANNED
    assert [ledger.spent_nano_rho(s) for s in SUBJECTS] == [30, 0, 0, 0, 0]
    ledger.mark(key, AttemptState.VOID)


def test_the_cap_is_each_plans_own_and_spending_adds_up(ledger: PopulationLedger) -> None:
    for plan in (PLAN, OTHER_PLAN):
        for round_number in (1, 2, 3):
            charge(ledger, ledger.plan(plan, round_number))
    assert ledger.spent_nano_rho(SUBJECTS[0], PLAN) == 30
    assert ledger.spent_nano_rho(SUBJECTS[0]) == 60


def test_the_worked_example_fits_ten_participations_and_no_eleventh(
    ledger: PopulationLedger,
) -> None:
    cap, cost = cap_nano_rho(4.0, 1e-6), nano_rho_per_participation(Decimal("3.78"))
    for round_number in range(1, 11):
        assert charge(ledger, ledger.plan(PLAN, round_number), cost=cost, cap=cap)
    with pytest.raises(BudgetExceededError):
        charge(ledger, ledger.plan(PLAN, 11), cost=cost, cap=cap)
    assert ledger.spent_nano_rho(SUBJECTS[0]) == 349_934_220


def test_exhausted_names_exactly_who_cannot_pay_again(ledger: PopulationLedger) -> None:
    for round_number in (1, 2):
        charge(ledger, ledger.plan(PLAN, round_number), SUBJECTS[:2])
    charge(ledger, ledger.plan(PLAN, 3), SUBJECTS[1:])
    assert ledger.exhausted(PLAN, cost_nano_rho=10, cap_nano_rho=30) == {SUBJECTS[1]}
    assert ledger.exhausted(PLAN, cost_nano_rho=11, cap_nano_rho=30) == set(SUBJECTS[:2])
    assert ledger.exhausted(OTHER_PLAN, cost_nano_rho=10, cap_nano_rho=30) == set()


def test_attempt_numbers_go_up_by_round_and_are_never_given_again(ledger: PopulationLedger) -> None:
    keys = [ledger.plan(PLAN, r) for r in (1, 1, 2)]
    ledger.mark(keys[1], AttemptState.VOID)
    keys.append(ledger.plan(PLAN, 1))
    assert [(k.round, k.attempt) for k in keys] == [(1, 1), (1, 2), (2, 1), (1, 3)]


def test_open_attempts_are_those_a_crash_would_leave(ledger: PopulationLedger) -> None:
    keys = [ledger.plan(PLAN, r) for r in (1, 2, 3, 4)]
    for key in keys[:3]:
        charge(ledger, key)
    ledger.mark(keys[0], AttemptState.RELEASED)
    ledger.mark(keys[1], AttemptState.LOST)
    found = ledger.open_attempts(PLAN)
    assert [(a.key, a.state, a.subjects) for a in found] == [
        (keys[2], AttemptState.CHARGED, 5),
        (keys[3], AttemptState.PLANNED, 0),
    ]


ALLOWED = {
    (AttemptState.PLANNED, AttemptState.VOID),
    (AttemptState.CHARGED, AttemptState.RELEASED),
    (AttemptState.CHARGED, AttemptState.LOST),
}


@pytest.mark.parametrize(("start", "end"), list(product(AttemptState, AttemptState)))
def test_only_the_laws_steps_are_taken(
    ledger: PopulationLedger, start: AttemptState, end: AttemptState
) -> None:
    key = ledger.plan(PLAN, 1)
    if start not in (AttemptState.PLANNED, AttemptState.VOID):
        charge(ledger, key)
    if start not in (AttemptState.PLANNED, AttemptState.CHARGED):
        ledger.mark(key, start)
    if (start, end) in ALLOWED:
        ledger.mark(key, end)
        assert ledger.state(key) is end
    else:
        with pytest.raises(LedgerError, match="cannot become"):
            ledger.mark(key, end)
        assert ledger.state(key) is start


def test_a_void_attempt_is_never_charged(ledger: PopulationLedger) -> None:
    key = ledger.plan(PLAN, 1)
    ledger.mark(key, AttemptState.VOID)
    with pytest.raises(LedgerError, match="void"):
        charge(ledger, key)


def test_an_attempt_that_was_not_planned_is_refused(ledger: PopulationLedger) -> None:
    with pytest.raises(LedgerError, match="never planned"):
        charge(ledger, AttemptKey(PLAN, 1, 1))
    with pytest.raises(LedgerError, match="never planned"):
        ledger.mark(AttemptKey(PLAN, 1, 1), AttemptState.VOID)
    assert ledger.state(AttemptKey(PLAN, 1, 1)) is None


@pytest.mark.parametrize("subjects", [[], [SUBJECTS[0], SUBJECTS[0]]])
def test_nobody_or_the_same_subject_twice_is_refused(
    ledger: PopulationLedger, subjects: list[str]
) -> None:
    with pytest.raises(ValidationError, match="charge each once"):
        charge(ledger, ledger.plan(PLAN, 1), subjects)


@pytest.mark.parametrize("cost", [0, -1, 10.0, True, Decimal(10)])
def test_only_positive_integers_enter_the_ledger(ledger: PopulationLedger, cost: int) -> None:
    with pytest.raises(ValidationError, match="positive integer"):
        charge(ledger, ledger.plan(PLAN, 1), cost=cost)


def test_a_state_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "population.db"
    with PopulationLedger(path) as ledger:
        key = ledger.plan(PLAN, 1)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE attempts SET state = 'refunded'")
    connection.close()
    with PopulationLedger(path) as ledger, pytest.raises(LedgerError, match="refunded"):
        ledger.state(key)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "population.db"
    path.write_bytes(b"not a database" * 1_000)
    with pytest.raises(LedgerError, match=r"population\.db.*restore"):
        PopulationLedger(path)
    assert path.read_bytes() == b"not a database" * 1_000


def test_the_file_is_its_owners_only_and_survives_power_loss(tmp_path: Path) -> None:
    path = tmp_path / "population.db"
    with PopulationLedger(path) as ledger:
        with ledger._engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert path.stat().st_mode & 0o777 == 0o600


class LedgerMachine(RuleBasedStateMachine):
    """The ledger against a dictionary."""

    keys = Bundle("keys")
    cap = 30

    @initialize()
    def start(self) -> None:
        self.directory = TemporaryDirectory()
        self.ledger = PopulationLedger(Path(self.directory.name) / "population.db")
        self.states: dict[AttemptKey, AttemptState] = {}
        self.charges: dict[AttemptKey, tuple[frozenset[str], int]] = {}
        self.spent: Counter[str] = Counter()

    @rule(target=keys, round_number=st.integers(1, 3))
    def plan(self, round_number: int) -> AttemptKey:
        key = self.ledger.plan(PLAN, round_number)
        assert key not in self.states
        self.states[key] = AttemptState.PLANNED
        return key

    @rule(
        key=keys,
        subjects=st.sets(st.sampled_from(SUBJECTS), min_size=1),
        cost=st.sampled_from((7, 10)),
    )
    def charge(self, key: AttemptKey, subjects: set[str], cost: int) -> None:
        def attempt() -> bool:
            return charge(self.ledger, key, sorted(subjects), cost=cost, cap=self.cap)

        if self.states[key] is not AttemptState.PLANNED:
            if self.charges.get(key) == (frozenset(subjects), cost):
                assert not attempt()
            else:
                with pytest.raises(LedgerError):
                    attempt()
        elif any(self.spent[s] + cost > self.cap for s in subjects):
            with pytest.raises(BudgetExceededError):
                attempt()
        else:
            assert attempt()
            self.states[key] = AttemptState.CHARGED
            self.charges[key] = (frozenset(subjects), cost)
            self.spent.update(dict.fromkeys(subjects, cost))

    @rule(key=keys, state=st.sampled_from(AttemptState))
    def mark(self, key: AttemptKey, state: AttemptState) -> None:
        if (self.states[key], state) in ALLOWED:
            self.ledger.mark(key, state)
            self.states[key] = state
        else:
            with pytest.raises(LedgerError):
                self.ledger.mark(key, state)

    @rule()
    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = PopulationLedger(Path(self.directory.name) / "population.db")

    @invariant()
    def agrees(self) -> None:
        attempts = self.ledger.attempts(PLAN)
        assert {a.key: a.state for a in attempts} == self.states
        for attempt in attempts:
            subjects, cost = self.charges.get(attempt.key, (frozenset(), 0))
            assert (attempt.subjects, attempt.cost_nano_rho) == (len(subjects), cost)
        assert {s: self.ledger.spent_nano_rho(s) for s in SUBJECTS} == {
            s: self.spent[s] for s in SUBJECTS
        }

    def teardown(self) -> None:
        self.ledger.close()
        self.directory.cleanup()


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


def race(path: Path, rounds: int, barrier: Barrier, results: Connection) -> None:
    won = []
    with PopulationLedger(path) as ledger:
        for r in range(1, rounds + 1):
            key = ledger.plan(PLAN, r)
            barrier.wait(timeout=60)
            try:
                won.append(charge(ledger, key, [f"{r:064x}"], cost=10, cap=10))
            except BudgetExceededError:
                won.append(False)
    results.send(won)


def test_of_two_processes_exactly_one_gets_the_last_unit(tmp_path: Path) -> None:
    path, rounds = tmp_path / "population.db", 30
    barrier = PROCESSES.Barrier(2)
    pipes = [PROCESSES.Pipe(duplex=False) for _ in range(2)]
    children = [PROCESSES.Process(target=race, args=(path, rounds, barrier, s)) for _, s in pipes]
    for child in children:
        child.start()
    for _, sender in pipes:
        sender.close()
    first, second = (receiver.recv() for receiver, _ in pipes)
    for child in children:
        child.join(timeout=60)
    assert [a + b for a, b in zip(first, second, strict=True)] == [1] * rounds
    with PopulationLedger(path) as ledger:
        assert [ledger.spent_nano_rho(f"{r:064x}") for r in range(1, rounds + 1)] == [10] * rounds


def spend_for_ever(path: Path, said: Connection) -> None:
    subjects = [f"{i:064x}" for i in range(50)]
    with PopulationLedger(path) as ledger:
        while True:
            key = ledger.plan(PLAN, 1)
            charge(ledger, key, subjects, cap=10**9)
            said.send((key.attempt, "charged"))
            ledger.mark(key, AttemptState.RELEASED)
            said.send((key.attempt, "released"))


def test_a_killed_process_loses_no_charge_and_leaves_none_half_done(tmp_path: Path) -> None:
    path, rng = tmp_path / "population.db", random.Random(5)
    promised: set[tuple[int, str]] = set()
    for _ in range(20):
        receiver, sender = PROCESSES.Pipe(duplex=False)
        child = PROCESSES.Process(target=spend_for_ever, args=(path, sender))
        child.start()
        sender.close()
        for _ in range(rng.randint(2, 6)):
            promised.add(receiver.recv())
        time.sleep(rng.uniform(0, 0.01))
        child.kill()
        child.join(timeout=60)
        assert child.exitcode == -signal.SIGKILL
        try:
            while True:
                promised.add(receiver.recv())
        except (EOFError, OSError):
            receiver.close()
    with PopulationLedger(path) as ledger:
        attempts = ledger.attempts(PLAN)
        charged = {a.key.attempt for a in attempts if a.state is not AttemptState.PLANNED}
        released = {a.key.attempt for a in attempts if a.state is AttemptState.RELEASED}
        assert {n for n, what in promised if what == "charged"} <= charged
        assert {n for n, what in promised if what == "released"} <= released
        assert all(a.subjects in (0, 50) for a in attempts)
        assert {a.key.attempt for a in attempts if a.subjects == 50} == charged
        assert ledger.spent_nano_rho(f"{0:064x}") == 10 * len(charged)
        assert ledger.spent_nano_rho(f"{49:064x}") == 10 * len(charged)
    assert len(charged) >= 20


def open_new(path: Path, barrier: Barrier) -> None:
    barrier.wait(timeout=60)
    with PopulationLedger(path) as ledger:
        ledger.plan(PLAN, 1)


def test_processes_may_create_the_file_together(tmp_path: Path) -> None:
    path, barrier = tmp_path / "population.db", PROCESSES.Barrier(4)
    children = [PROCESSES.Process(target=open_new, args=(path, barrier)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout=60)
    assert [child.exitcode for child in children] == [0] * 4
    with PopulationLedger(path) as ledger:
        assert [a.key.attempt for a in ledger.attempts(PLAN)] == [1, 2, 3, 4]
