"""The device's budget: integers, durable before release, safe under races and kills."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tacitly_client.ledger import AttemptKey, AttemptState, DeviceLedger
from tacitly_common.errors import BudgetExceededError, LedgerError, ValidationError

PLAN = "a" * 64
COST = 34_993_422


def key(attempt: int, plan: str = PLAN) -> AttemptKey:
    return AttemptKey(plan, 1, attempt)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[DeviceLedger]:
    with DeviceLedger(tmp_path / "ledger.db", lifetime_cap_nano_rho=351_003_648) as opened:
        yield opened


def test_ten_participations_fit_and_the_eleventh_is_refused(ledger: DeviceLedger) -> None:
    for attempt in range(10):
        assert ledger.charge(key(attempt), cost_nano_rho=COST, campaign_cap_nano_rho=10**12)
    with pytest.raises(BudgetExceededError, match=r"lifetime budget has 1069428 .* costs 34993422"):
        ledger.charge(key(10), cost_nano_rho=COST, campaign_cap_nano_rho=10**12)
    assert ledger.spent_nano_rho() == 349_934_220
    assert ledger.state(key(10)) is None


def test_campaign_cap_binds_one_campaign_alone(ledger: DeviceLedger) -> None:
    ledger.charge(key(0), cost_nano_rho=COST, campaign_cap_nano_rho=COST)
    with pytest.raises(BudgetExceededError, match="campaign budget has 0"):
        ledger.charge(key(1), cost_nano_rho=COST, campaign_cap_nano_rho=COST)
    assert ledger.charge(key(1, "b" * 64), cost_nano_rho=COST, campaign_cap_nano_rho=COST)
    assert ledger.spent_nano_rho(PLAN) == COST
    assert ledger.spent_nano_rho() == 2 * COST


def test_the_same_attempt_is_charged_once(ledger: DeviceLedger) -> None:
    assert ledger.charge(key(0), cost_nano_rho=COST, campaign_cap_nano_rho=10**12)
    assert not ledger.charge(key(0), cost_nano_rho=COST, campaign_cap_nano_rho=10**12)
    assert ledger.spent_nano_rho() == COST


def test_lost_attempts_are_not_refunded(ledger: DeviceLedger) -> None:
    ledger.charge(key(0), cost_nano_rho=COST, campaign_cap_nano_rho=10**12)
    ledger.mark(key(0), AttemptState.LOST)
    assert ledger.spent_nano_rho() == COST
    with pytest.raises(LedgerError, match="is lost and cannot become released"):
        ledger.mark(key(0), AttemptState.RELEASED)


def test_an_uncharged_attempt_cannot_be_released(ledger: DeviceLedger) -> None:
    with pytest.raises(LedgerError, match="not charged"):
        ledger.mark(key(0), AttemptState.RELEASED)


@pytest.mark.parametrize("cost", [0, -1])
def test_a_cost_that_is_not_positive_is_refused(ledger: DeviceLedger, cost: int) -> None:
    with pytest.raises(ValidationError, match="cost_nano_rho must be > 0"):
        ledger.charge(key(0), cost_nano_rho=cost, campaign_cap_nano_rho=1)


def test_state_survives_reopening(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with DeviceLedger(path, lifetime_cap_nano_rho=10**9) as first:
        first.charge(key(0), cost_nano_rho=5, campaign_cap_nano_rho=10)
        first.mark(key(0), AttemptState.RELEASED)
        first.save_record_history(PLAN, [(1.1, 0.01, 40), (0.9, 0.01, 2)])
    with DeviceLedger(path, lifetime_cap_nano_rho=10**9) as second:
        assert second.state(key(0)) == AttemptState.RELEASED
        assert second.spent_nano_rho() == 5
        assert second.record_history(PLAN) == [(1.1, 0.01, 40), (0.9, 0.01, 2)]


def test_record_history_cannot_shrink(ledger: DeviceLedger) -> None:
    ledger.save_record_history(PLAN, [(1.1, 0.01, 40)])
    with pytest.raises(LedgerError, match="39 steps cannot replace 40"):
        ledger.save_record_history(PLAN, [(1.1, 0.01, 39)])
    assert ledger.record_history(PLAN) == [(1.1, 0.01, 40)]


def test_a_damaged_file_is_refused_with_the_fix(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is not a ledger" * 100)
    with pytest.raises(LedgerError, match="restore it from your backup"):
        DeviceLedger(path, lifetime_cap_nano_rho=1)


def test_the_file_is_for_its_owner_alone(tmp_path: Path, ledger: DeviceLedger) -> None:
    assert (tmp_path / "ledger.db").stat().st_mode & 0o777 == 0o600


SPENDER = """
import sys
from pathlib import Path
from tacitly_client.ledger import AttemptKey, DeviceLedger
from tacitly_common.errors import BudgetExceededError
path, name, cap = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
number = 0
with DeviceLedger(path, lifetime_cap_nano_rho=cap) as ledger:
    while True:
        try:
            ledger.charge(AttemptKey(name, 1, number), cost_nano_rho=1, campaign_cap_nano_rho=cap)
        except BudgetExceededError:
            break
        print(number, flush=True)
        number += 1
"""


def spender(path: Path, name: str, cap: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SPENDER, str(path), name, str(cap)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_never_overspend_the_last_unit(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    racers = [spender(path, name, 60) for name in ("x", "y")]
    charged = [len(racer.communicate()[0].splitlines()) for racer in racers]
    with DeviceLedger(path, lifetime_cap_nano_rho=60) as ledger:
        assert ledger.spent_nano_rho() == 60 == sum(charged)


def test_killed_process_never_loses_an_acknowledged_charge(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    rng = random.Random(2)
    acknowledged = 0
    for trial in range(8):
        process = spender(path, str(trial), 10**9)
        assert process.stdout is not None
        with process, process.stdout:
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.1))
            os.kill(process.pid, signal.SIGKILL)
            acknowledged += 1 + process.stdout.read().count("\n")
        with DeviceLedger(path, lifetime_cap_nano_rho=10**9) as ledger:
            spent = ledger.spent_nano_rho()
        # The kill may fall between a commit and its acknowledgement.
        assert acknowledged <= spent <= acknowledged + trial + 1


class LedgerMachine(RuleBasedStateMachine):
    """Any order of charges and marks keeps within the caps and loses nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        path = Path(self.directory.name) / "ledger.db"
        self.ledger = DeviceLedger(path, lifetime_cap_nano_rho=100)
        self.charged: dict[AttemptKey, int] = {}

    @rule(attempt=st.integers(0, 9), plan=st.sampled_from("pq"), cost=st.integers(1, 40))
    def charge(self, attempt: int, plan: str, cost: int) -> None:
        name = key(attempt, plan)
        try:
            new = self.ledger.charge(name, cost_nano_rho=cost, campaign_cap_nano_rho=70)
        except BudgetExceededError:
            assert name not in self.charged
            assert sum(self.charged.values()) + cost > 100 or self.of_plan(plan) + cost > 70
        else:
            assert new == (name not in self.charged)
            self.charged.setdefault(name, cost)

    @rule(
        attempt=st.integers(0, 9), plan=st.sampled_from("pq"), state=st.sampled_from(AttemptState)
    )
    def mark(self, attempt: int, plan: str, state: AttemptState) -> None:
        name = key(attempt, plan)
        before = self.ledger.state(name)
        try:
            self.ledger.mark(name, state)
        except LedgerError:
            assert before != AttemptState.CHARGED
            assert before != state
        else:
            assert self.ledger.state(name) == state

    @invariant()
    def totals_agree_and_stay_within_the_caps(self) -> None:
        assert self.ledger.spent_nano_rho() == sum(self.charged.values()) <= 100
        for plan in "pq":
            assert self.ledger.spent_nano_rho(plan) == self.of_plan(plan) <= 70

    def of_plan(self, plan: str) -> int:
        return sum(cost for name, cost in self.charged.items() if name.plan_hash == plan)

    def teardown(self) -> None:
        self.ledger.close()
        self.directory.cleanup()


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=15, deadline=None)
