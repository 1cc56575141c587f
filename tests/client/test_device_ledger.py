"""The device's budget: integers, durable before release, safe under races and kills."""

import itertools
import os
import random
import signal
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from device_ledgers import COST, EPOCHS, NOW, RECORD, RECORD_RDP, caps, charge, limits
from forks import forks
from tacitly_client.ledger import AttemptKey, AttemptState, DeviceLedger, verify
from tacitly_common.accounting.record import NO_RDP, SATURATED, compose, epsilon_of_rdp
from tacitly_common.errors import (
    BudgetExceededError,
    LedgerError,
    TooSoonError,
    ValidationError,
)

PLAN = "a" * 64
ENDLESS = limits(per_campaign=10**6, per_epoch=10**6)


def key(attempt: int, plan: str = PLAN, *, round_: int = 1) -> AttemptKey:
    return AttemptKey(plan, round_, attempt)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[DeviceLedger]:
    with DeviceLedger.create(tmp_path / "ledger.db") as opened:
        yield opened


# ------------------------------------------------------------------------------ budgets


def test_ten_participations_fit_and_the_eleventh_is_refused(ledger: DeviceLedger) -> None:
    cap = caps(lifetime=351_003_648)
    for attempt in range(10):
        assert charge(ledger, key(attempt), caps=cap)
    message = r"lifetime budget has 1069428 .* costs 34993422"
    with pytest.raises(BudgetExceededError, match=message) as refused:
        charge(ledger, key(10), caps=cap)
    assert (refused.value.scope, refused.value.exit_code) == ("lifetime", 3)
    assert ledger.spent_nano_rho() == 349_934_220
    assert ledger.state(key(10)) is None


def test_campaign_cap_binds_one_campaign_alone(ledger: DeviceLedger) -> None:
    cap = caps(campaign=COST)
    charge(ledger, key(0), caps=cap)
    with pytest.raises(BudgetExceededError, match="campaign budget has 0") as refused:
        charge(ledger, key(1), caps=cap)
    assert refused.value.scope == "campaign"
    assert charge(ledger, key(1, "b" * 64), caps=cap)
    assert ledger.spent_nano_rho(PLAN) == COST
    assert ledger.spent_nano_rho() == 2 * COST


def test_an_attempt_costs_its_full_price_in_each_epoch_and_once_in_all(
    ledger: DeviceLedger,
) -> None:
    charge(ledger, key(0), epochs=("2026-09", "2026-10"))
    charge(ledger, key(1), epochs=("2026-10", "2026-11"))
    spent = [ledger.spent_of_epoch_nano_rho(f"2026-{month:02}") for month in (8, 9, 10, 11)]
    assert spent == [0, COST, 2 * COST, COST]
    assert ledger.spent_nano_rho() == ledger.spent_nano_rho(PLAN) == 2 * COST


def test_epoch_cap_binds_over_campaigns_and_charges_no_other_epoch(ledger: DeviceLedger) -> None:
    cap = caps(epoch=COST)
    charge(ledger, key(0), epochs=("2026-10",), caps=cap)
    with pytest.raises(BudgetExceededError, match="epoch 2026-10 budget has 0") as refused:
        charge(ledger, key(0, "b" * 64), epochs=("2026-09", "2026-10"), caps=cap)
    assert refused.value.scope == "epoch"
    assert ledger.spent_of_epoch_nano_rho("2026-09") == 0
    assert charge(ledger, key(0, "b" * 64), epochs=("2026-09",), caps=cap)


def test_a_cap_that_was_lowered_below_what_is_spent_admits_nothing(ledger: DeviceLedger) -> None:
    charge(ledger, key(0))
    with pytest.raises(BudgetExceededError, match=r"has -34993421 nano-rho left"):
        charge(ledger, key(1), caps=caps(lifetime=1))


def test_the_record_level_is_charged_with_the_attempt_and_has_its_own_cap(
    ledger: DeviceLedger,
) -> None:
    once, twice = RECORD_RDP, compose(RECORD_RDP, RECORD_RDP)
    between = Decimal(
        (epsilon_of_rdp(once, RECORD.delta) + epsilon_of_rdp(twice, RECORD.delta)) / 2
    )
    capped = replace(RECORD, cap_epsilon=between)
    assert ledger.record_rdp(PLAN) == NO_RDP
    charge(ledger, key(0), record=capped)
    with pytest.raises(BudgetExceededError, match="1000 more steps would take") as refused:
        charge(ledger, key(1), record=capped)
    assert refused.value.scope == "record"
    assert (ledger.spent_nano_rho(), ledger.record_rdp(PLAN)) == (COST, once)
    charge(ledger, key(1, "b" * 64), record=capped)
    assert (ledger.record_rdp(PLAN), ledger.record_rdp()) == (once, twice)


def test_what_one_account_refuses_the_other_does_not_pay(ledger: DeviceLedger) -> None:
    with pytest.raises(BudgetExceededError):
        charge(ledger, key(0), caps=caps(lifetime=1))
    assert ledger.record_rdp() == NO_RDP
    with pytest.raises(BudgetExceededError):
        charge(ledger, key(0), record=replace(RECORD, cap_epsilon=Decimal("0.1")))
    assert ledger.spent_nano_rho() == ledger.head().counter == 0


def test_the_same_attempt_is_charged_once(ledger: DeviceLedger) -> None:
    assert charge(ledger, key(0))
    head = ledger.head()
    assert not charge(ledger, key(0))
    assert not charge(ledger, key(0), caps=caps(lifetime=1), limits=limits(per_campaign=1))
    assert ledger.spent_nano_rho() == COST
    assert ledger.record_rdp() == RECORD_RDP
    assert ledger.head() == head


def test_lost_attempts_are_not_refunded(ledger: DeviceLedger) -> None:
    charge(ledger, key(0))
    ledger.mark(key(0), AttemptState.LOST)
    assert ledger.spent_nano_rho() == COST
    with pytest.raises(LedgerError, match="is lost and cannot become released"):
        ledger.mark(key(0), AttemptState.RELEASED)


def test_an_uncharged_attempt_cannot_be_released(ledger: DeviceLedger) -> None:
    with pytest.raises(LedgerError, match="not charged"):
        ledger.mark(key(0), AttemptState.RELEASED)
    assert ledger.head().counter == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cost_nano_rho": 0}, "cost_nano_rho must be a positive integer"),
        ({"cost_nano_rho": -1}, "cost_nano_rho must be a positive integer"),
        ({"cost_nano_rho": 1.5}, "cost_nano_rho must be a positive integer"),
        ({"epochs": ()}, "epochs must be months"),
        ({"epochs": ("*",)}, "epochs must be months"),
        ({"epochs": ("2026-10", "2026-10")}, "epochs must be sorted and unique"),
        ({"now": datetime(2026, 11, 2)}, "now must be a time in UTC"),  # noqa: DTZ001
        ({"now": NOW.astimezone(timezone(timedelta(hours=1)))}, "now must be a time in UTC"),
        ({"record": replace(RECORD, steps=0)}, "steps must lie in"),
        ({"record": replace(RECORD, cap_epsilon=Decimal(0))}, "epsilon must be > 0"),
    ],
)
def test_what_cannot_be_charged_is_refused(
    ledger: DeviceLedger, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        charge(ledger, key(0), **changes)
    assert ledger.head().counter == 0


# ------------------------------------------------------------- participation limits, clocks


def test_at_most_so_many_attempts_are_paid_for_in_a_campaign(ledger: DeviceLedger) -> None:
    most = limits(per_campaign=2)
    charge(ledger, key(0), limits=most)
    ledger.mark(key(0), AttemptState.LOST)  # counts all the same
    charge(ledger, key(1), limits=most)
    with pytest.raises(TooSoonError, match=r"allows 2 attempt\(s\) in this campaign and 2") as no:
        charge(ledger, key(2), limits=most)
    assert no.value.exit_code == 3
    assert charge(ledger, key(2, "b" * 64), limits=most)


def test_at_most_so_many_attempts_touch_an_epoch_whatever_the_campaign(
    ledger: DeviceLedger,
) -> None:
    most = limits(per_epoch=1)
    charge(ledger, key(0), epochs=("2026-10",), limits=most)
    with pytest.raises(TooSoonError, match=r"allows 1 attempt\(s\) in the data of 2026-10"):
        charge(ledger, key(0, "b" * 64), epochs=("2026-10", "2026-11"), limits=most)
    assert charge(ledger, key(1), epochs=("2026-11",), limits=most)


@pytest.mark.parametrize(
    ("gap_rounds", "allowed", "refused"),
    [
        (0, [4, 5, 6, 7], []),
        (1, [4, 5, 6, 7], []),
        (3, [2, 5, 8, 9], [3, 4, 6, 7]),
    ],
)
def test_rounds_taken_part_in_lie_apart_and_a_retry_is_no_other_round(
    tmp_path: Path, gap_rounds: int, allowed: list[int], refused: list[int]
) -> None:
    apart = limits(minimum_gap_rounds=gap_rounds)
    for number in allowed + refused:
        with DeviceLedger.create(tmp_path / f"{number}.db") as ledger:
            charge(ledger, key(0, round_=5), limits=apart)
            if number in allowed:
                assert charge(ledger, key(1, round_=number), limits=apart)
            else:
                message = f"round {number} lies {abs(number - 5)} from round 5.*wants {gap_rounds}"
                with pytest.raises(TooSoonError, match=message):
                    charge(ledger, key(1, round_=number), limits=apart)


def test_a_new_round_lies_apart_from_every_round_and_not_the_last_alone(
    ledger: DeviceLedger,
) -> None:
    apart = limits(minimum_gap_rounds=3)
    charge(ledger, key(0, round_=10), limits=apart)
    charge(ledger, key(0, round_=1), limits=apart)
    with pytest.raises(TooSoonError, match="from round 10"):
        charge(ledger, key(0, round_=8), limits=apart)
    assert charge(ledger, key(0, "b" * 64, round_=8), limits=apart)


def test_hours_pass_between_rounds_and_not_between_retries(ledger: DeviceLedger) -> None:
    daily = limits(minimum_gap_hours=24)
    charge(ledger, key(0), limits=daily)
    charge(ledger, key(1), limits=daily, now=NOW + timedelta(hours=1))
    early = NOW + timedelta(hours=24, minutes=59)
    with pytest.raises(TooSoonError, match=r"86340 s after another round .* 86400 s .* wait 60 s"):
        charge(ledger, key(0, round_=2), limits=daily, now=early)
    assert charge(ledger, key(0, "b" * 64, round_=2), limits=daily, now=early)
    assert charge(ledger, key(0, round_=2), limits=daily, now=NOW + timedelta(hours=25))


def test_a_clock_that_is_set_back_opens_no_gap(ledger: DeviceLedger) -> None:
    daily = limits(minimum_gap_hours=24)
    charge(ledger, key(0), limits=daily)
    with pytest.raises(TooSoonError, match="0 s after another round"):
        charge(ledger, key(0, round_=2), limits=daily, now=NOW - timedelta(days=400))
    # A retry under the clock that went back is written with the later time.
    charge(ledger, key(1), limits=daily, now=NOW - timedelta(days=400))
    with pytest.raises(TooSoonError):
        charge(ledger, key(0, round_=2), limits=daily, now=NOW + timedelta(hours=23))
    assert charge(ledger, key(0, round_=2), limits=daily, now=NOW + timedelta(hours=24))


# ------------------------------------------------------------------------------ the file


def test_state_survives_reopening(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with DeviceLedger.create(path) as first:
        charge(first, key(0), cost_nano_rho=5)
        first.mark(key(0), AttemptState.RELEASED)
        head = first.head()
    with DeviceLedger.open(path) as second:
        assert second.state(key(0)) == AttemptState.RELEASED
        assert second.spent_nano_rho() == 5
        assert second.record_rdp(PLAN) == RECORD_RDP
        assert second.head() == head


def test_every_change_moves_the_head_and_nothing_else_does(ledger: DeviceLedger) -> None:
    heads = [ledger.head()]
    charge(ledger, key(0))
    heads.append(ledger.head())
    ledger.mark(key(0), AttemptState.RELEASED)
    heads.append(ledger.head())
    ledger.mark(key(0), AttemptState.RELEASED)
    charge(ledger, key(0))
    assert ledger.head() == heads[-1]
    assert [head.counter for head in heads] == [0, 1, 2]
    assert len({head.hash for head in heads}) == 3
    counter, head_hash = ledger.head()
    assert (counter, len(head_hash)) == (2, 64)


def test_a_missing_ledger_is_refused_and_none_begun(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="is missing"):
        DeviceLedger.open(tmp_path / "ledger.db")
    assert not (tmp_path / "ledger.db").exists()


def test_a_ledger_is_begun_once(tmp_path: Path, ledger: DeviceLedger) -> None:
    charge(ledger, key(0))
    with pytest.raises(LedgerError, match="begun once"):
        DeviceLedger.create(tmp_path / "ledger.db")
    assert ledger.spent_nano_rho() == COST


@pytest.mark.parametrize("content", [b"", b"this is not a ledger" * 100])
def test_a_file_that_is_no_ledger_is_refused_with_the_fix(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="restore it from your backup"):
        DeviceLedger.open(path)


def test_a_ledger_of_a_later_version_is_refused(tmp_path: Path, ledger: DeviceLedger) -> None:
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.execute("PRAGMA user_version = 3")
    db.close()
    with pytest.raises(LedgerError, match="version 3, this Tacitly reads 2"):
        DeviceLedger.open(tmp_path / "ledger.db")


def test_the_file_is_for_its_owner_alone(tmp_path: Path, ledger: DeviceLedger) -> None:
    assert (tmp_path / "ledger.db").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_charges_nothing_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with DeviceLedger.create(path) as ledger:
        charge(ledger, key(0))
        # SQLite's own "database or disk is full".
        pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
        ledger._db.execute(f"PRAGMA max_page_count = {pages}")
        charged = 1

        def charge_on() -> None:
            nonlocal charged
            while charged < 1_000:
                charge(ledger, key(charged))
                charged += 1

        with pytest.raises(LedgerError, match="full"):
            charge_on()
        assert ledger.spent_nano_rho() == charged * COST
        assert ledger.state(key(charged)) is None
    assert verify(path).counter == charged


def test_charging_does_not_grow_with_history(ledger: DeviceLedger) -> None:
    """Counted in steps of SQLite's virtual machine, which no other load on the machine changes."""

    def steps(attempt: int) -> int:
        count = 0

        def tick() -> int:
            nonlocal count
            count += 1
            return 0

        ledger._db.set_progress_handler(tick, 1)
        charge(ledger, key(attempt, round_=attempt), limits=limits(minimum_gap_rounds=1))
        ledger._db.set_progress_handler(None, 0)
        return count

    first = [steps(attempt) for attempt in range(5)]
    for attempt in range(5, 600):
        charge(ledger, key(attempt, round_=attempt))
    assert steps(600) <= 1.1 * max(first)


# ------------------------------------------------------------------------- many processes


def spend(path: Path, name: str, cap: int, acknowledged: Connection) -> None:
    """Charge and release until nothing is left, a byte for each charge."""
    number = 0
    with DeviceLedger.open(path) as ledger:
        while True:
            one = key(number, name)
            try:
                charge(ledger, one, cost_nano_rho=1, caps=caps(lifetime=cap), limits=ENDLESS)
            except BudgetExceededError:
                break
            os.write(acknowledged.fileno(), b".")
            ledger.mark(one, AttemptState.RELEASED)
            number += 1
            time.sleep(0.003)  # or the other one starves: SQLite has no queue of who waits


class Spender:
    """A process that spends, forked from one in which everything is loaded."""

    def __init__(self, path: Path, name: str, cap: int) -> None:
        processes = forks(__name__)
        self.acknowledged, writer = processes.Pipe(duplex=False)
        self.process = processes.Process(target=spend, args=(path, name, cap, writer))
        self.process.start()
        writer.close()

    def wait_for_a_charge(self) -> int:
        return len(os.read(self.acknowledged.fileno(), 1))

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)

    def charges(self) -> int:
        """How many more it acknowledged until its end."""
        count = 0
        while some := os.read(self.acknowledged.fileno(), 4_096):
            count += len(some)
        self.acknowledged.close()
        self.process.join()
        return count


def test_two_processes_never_overspend_the_last_unit(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    DeviceLedger.create(path).close()
    racers = [Spender(path, name, 60) for name in "xy"]
    charged = [racer.charges() for racer in racers]
    with DeviceLedger.open(path) as ledger:
        assert ledger.spent_nano_rho() == 60 == sum(charged)
    assert verify(path).counter == 120


def test_killed_processes_never_lose_an_acknowledged_charge(tmp_path: Path) -> None:
    """Two at a time on one file, both killed, six times."""
    path = tmp_path / "ledger.db"
    DeviceLedger.create(path).close()
    rng = random.Random(2)
    acknowledged = killed = 0
    for trial in range(6):
        pair = [Spender(path, f"{trial}{name}", 10**9) for name in "xy"]
        acknowledged += sum(one.wait_for_a_charge() for one in pair)
        time.sleep(rng.uniform(0, 0.1))
        for one in pair:
            one.kill()
            killed += 1
        acknowledged += sum(one.charges() for one in pair)
        with DeviceLedger.open(path) as ledger:
            spent = ledger.spent_nano_rho()
            paid = ledger.record_rdp()
        # A kill may fall between a commit and its acknowledgement.
        assert acknowledged <= spent <= acknowledged + killed
        assert paid == tuple(min(value * spent, SATURATED) for value in RECORD_RDP)
    verify(path)


# ------------------------------------------------------------------------- any interleaving

SMALL = [
    replace(RECORD, noise_multiplier=Decimal(z), steps=n, cap_epsilon=Decimal(6))
    for z, n in (("0.8", 40), ("1.1", 900), ("4", 5))
]


class LedgerMachine(RuleBasedStateMachine):
    """Any order of charges, marks, crashes and moved clocks keeps within every limit."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "ledger.db"
        self.ledger = DeviceLedger.create(self.path)
        self.charged: dict[AttemptKey, tuple[int, tuple[str, ...], datetime]] = {}
        self.paid = {"p": NO_RDP, "q": NO_RDP}
        self.now = NOW

    @rule(
        attempt=st.integers(0, 5),
        round_=st.integers(1, 6),
        plan=st.sampled_from("pq"),
        cost=st.integers(1, 40),
        epochs=st.sampled_from([("2026-09",), ("2026-10",), ("2026-09", "2026-10")]),
        record=st.sampled_from(SMALL),
    )
    def charge(self, attempt, round_, plan, cost, epochs, record) -> None:
        name = key(attempt, plan, round_=round_)
        before = self.ledger.head()
        try:
            new = charge(
                self.ledger,
                name,
                epochs=epochs,
                cost_nano_rho=cost,
                caps=caps(lifetime=100, epoch=80, campaign=70),
                limits=limits(per_campaign=8, minimum_gap_rounds=2, minimum_gap_hours=5),
                record=record,
                now=self.now,
            )
        except (BudgetExceededError, TooSoonError) as error:
            assert name not in self.charged
            assert self.ledger.head() == before
            if isinstance(error, BudgetExceededError) and error.scope == "record":
                total = compose(self.paid[plan], record.rdp())
                assert epsilon_of_rdp(total, record.delta) > 6 * (1 - 1e-9)
        else:
            assert new == (name not in self.charged)
            if new:
                latest = [at for k, (_, _, at) in self.charged.items() if k.plan_hash == plan]
                self.charged[name] = (cost, epochs, max([*latest, self.now]))
                self.paid[plan] = compose(self.paid[plan], record.rdp())

    @rule(
        attempt=st.integers(0, 5),
        round_=st.integers(1, 6),
        plan=st.sampled_from("pq"),
        state=st.sampled_from(AttemptState),
    )
    def mark(self, attempt, round_, plan, state) -> None:
        name = key(attempt, plan, round_=round_)
        before = self.ledger.state(name)
        try:
            self.ledger.mark(name, state)
        except LedgerError:
            assert before != AttemptState.CHARGED
            assert before != state
        else:
            assert self.ledger.state(name) == state

    @rule(hours=st.integers(-20, 20))
    def set_the_clock(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule()
    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = DeviceLedger.open(self.path)

    @invariant()
    def totals_agree_and_stay_within_the_caps(self) -> None:
        assert self.ledger.spent_nano_rho() == self.cost_of() <= 100
        for plan in "pq":
            assert self.ledger.spent_nano_rho(plan) == self.cost_of(plan=plan) <= 70
            assert self.ledger.record_rdp(plan) == self.paid[plan]
            assert epsilon_of_rdp(self.paid[plan], RECORD.delta) <= 6
        for epoch in EPOCHS:
            assert self.ledger.spent_of_epoch_nano_rho(epoch) == self.cost_of(epoch=epoch) <= 80

    @invariant()
    def participations_stay_apart(self) -> None:
        for plan in "pq":
            of_plan = {k: at for k, (_, _, at) in self.charged.items() if k.plan_hash == plan}
            assert len(of_plan) <= 8
            rounds = sorted({k.round for k in of_plan})
            assert all(b - a >= 2 for a, b in itertools.pairwise(rounds))
            in_time = sorted(of_plan.items(), key=lambda item: item[1])
            for (one, at), (other, later) in itertools.pairwise(in_time):
                assert one.round == other.round or later - at >= timedelta(hours=5)

    @invariant()
    def the_file_is_what_its_journal_says(self) -> None:
        assert verify(self.path) == self.ledger.head()

    def cost_of(self, *, plan: str | None = None, epoch: str | None = None) -> int:
        return sum(
            cost
            for name, (cost, epochs, _) in self.charged.items()
            if plan in (None, name.plan_hash) and (epoch is None or epoch in epochs)
        )

    def teardown(self) -> None:
        self.ledger.close()
        self.directory.cleanup()


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=15, deadline=None)
