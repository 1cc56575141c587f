"""Nobody is asked, and nobody charged, beyond what officers agreed on."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from campaign_home import subject
from campaign_lab import NODES, SEVEN, Lab
from inprocess_grid import honest, raising, silent

from agreement import change_policy, sign, stop
from ledgers import open_ledger
from officers import lax_policy
from plans import small_plan
from tacitly_common.accounting.caps import Caps
from tacitly_common.campaign import CohortPlan, ParticipationLimits, StopRules
from tacitly_common.contract.acts import Revoke
from tacitly_common.contract.grant import judge_grant, parse_grant
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import parse_train_content
from tacitly_server.campaigns.grants import Grants
from tacitly_server.campaigns.officers_log import OfficersLog
from tacitly_server.ledger.population import AttemptState
from tacitly_server.rounds.campaign import Patience
from tacitly_server.rounds.permit import Ending, Permit
from tacitly_server.rounds.receipts import Outcome, Receipt, read_receipts


@pytest.fixture
def make_lab(tmp_path: Path) -> Callable[..., Lab]:
    return lambda **changes: Lab(tmp_path, **changes)


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(rounds=9, participations=9)


def after_round(number: int, act: Callable[[], object]) -> Callable[[Receipt], None]:
    """Do `act` when the receipt of this round is published."""
    return lambda receipt: act() and None if receipt.round == number else None


def test_every_task_carries_a_grant_that_devices_take(lab: Lab) -> None:
    lab.run()
    contract = OfficersLog(lab.made.home.officers_log).contract()
    assert len(lab.grid.pushed) == 9 * 8
    for message in lab.grid.pushed:
        task, _ = parse_train_content(message.content, parameters=lab.plan.model.parameters)
        code = judge_grant(
            parse_grant(task.grant),
            lab.plan,
            contract.policy,
            grant_key=contract.grant_key,
            now=datetime.now(UTC),
        )
        assert code is ReplyCode.OK


def test_a_campaign_stopped_between_rounds_charges_nobody_more(lab: Lab) -> None:
    halt = after_round(2, lambda: stop(lab.made.home, lab.plan))
    assert lab.run(on_round=halt) is Ending.STOPPED
    assert [a.state for a in lab.attempts()] == [AttemptState.RELEASED] * 2
    assert lab.run() is Ending.STOPPED
    assert len(lab.attempts()) == 2


def test_a_limit_lets_the_rounds_before_it_run(lab: Lab) -> None:
    halt = after_round(1, lambda: stop(lab.made.home, lab.plan, after_round=3))
    assert lab.run(on_round=halt) is Ending.LIMITED
    assert [r.round for r in lab.seen] == [1, 2, 3]
    assert lab.run() is Ending.LIMITED


@pytest.mark.parametrize(
    ("happens", "ending"),
    [
        (
            lambda lab: sign(lab.made.home, "ada", Revoke(officer="bea", reason="left")),
            Ending.NOT_APPROVED,
        ),
        (
            lambda lab: change_policy(lab.made.home, lax_policy(minimum_cohort=5)),
            Ending.REFUSED,
        ),
    ],
    ids=["an approver is revoked", "the policy is tightened"],
)
def test_what_is_no_longer_agreed_on_does_not_go_on(
    lab: Lab, happens: Callable[[Lab], object], ending: Ending
) -> None:
    assert lab.run(on_round=after_round(1, lambda: happens(lab))) is ending
    assert len(lab.attempts()) == 1


def test_nothing_happens_after_the_plan_expires(make_lab: Callable[..., Lab]) -> None:
    expires = datetime(2027, 1, 1, tzinfo=UTC)
    lab = make_lab(rounds=9, participations=9, expires=expires)
    now = [expires - timedelta(seconds=1)]
    grants = Grants.open(lab.made.home, lab.plan)
    grants.now = lambda: now[0]
    lab.permits = grants
    ending = lab.run(on_round=after_round(2, lambda: now.append(now.pop() + timedelta(seconds=1))))
    assert ending is Ending.EXPIRED
    assert len(lab.attempts()) == 2


@pytest.mark.parametrize("calls", range(1, 14))
def test_wherever_the_permit_ends_nobody_is_charged_after_it(
    make_lab: Callable[..., Lab], calls: int
) -> None:
    lab = make_lab(rounds=3, participations=3)
    real, asked = lab.permits, 0
    charged_by_then: list[int] = []

    def ends_after(round_number: int) -> Permit | Ending:
        nonlocal asked
        asked += 1
        if asked <= calls:
            return real(round_number)
        charged_by_then.append(len(lab.attempts()))
        return Ending.STOPPED

    lab.permits = ends_after
    ending = lab.run()
    attempts = lab.attempts()
    assert len(attempts) == (charged_by_then[0] if charged_by_then else 3)
    assert (ending is Ending.STOPPED) == bool(charged_by_then)
    # The books are closed: what was asked in vain is lost, and says so.
    assert {a.state for a in attempts} <= {AttemptState.RELEASED, AttemptState.LOST}
    receipts = read_receipts(lab.directory.receipts)
    assert [(r.round, r.attempt, r.outcome.value) for r in receipts] == [
        (a.key.round, a.key.attempt, a.state.value) for a in attempts
    ]


def stop_at(lab: Lab, seconds: float) -> None:
    """Let an officer stop the campaign at this time of the clock."""
    sleep, stopped = lab.clock.sleep, []

    def sleep_and_stop(duration: float) -> None:
        sleep(duration)
        if lab.clock.monotonic() >= seconds and not stopped:
            stopped.append(stop(lab.made.home, lab.plan))

    lab.clock.sleep = sleep_and_stop  # type: ignore[method-assign]


def patient_cohort() -> CohortPlan:
    """One that waits a day, for devices and for their answers."""
    return msgspec.structs.replace(
        small_plan().cohort, deadline_seconds=86_400, selection_timeout_seconds=86_400
    )


def test_a_stop_while_devices_train_loses_the_attempt_within_seconds(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab(rounds=9, participations=9, cohort=patient_cohort())
    for node in NODES:
        lab.grid.nodes[node] = silent
    stop_at(lab, 60)
    assert lab.run() is Ending.STOPPED
    assert lab.clock.monotonic() < 75
    assert [(r.outcome, r.refusals) for r in lab.seen] == [(Outcome.LOST, {"no_answer": 8})]


def test_a_stop_while_devices_are_waited_for_ends_it_within_seconds(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab(cohort=patient_cohort())
    lab.grid.online = {1, 2, 3}
    stop_at(lab, 60)
    assert lab.run() is Ending.STOPPED
    assert lab.clock.monotonic() < 65
    assert lab.attempts() == []


def test_devices_that_come_just_after_the_stop_are_not_charged(lab: Lab) -> None:
    lab.grid.online = {1, 2, 3}
    sleep = lab.clock.sleep

    def stop_and_come_online(seconds: float) -> None:
        sleep(seconds)
        if lab.grid.online != set(NODES):
            stop(lab.made.home, lab.plan)
            lab.grid.online = set(NODES)

    lab.clock.sleep = stop_and_come_online  # type: ignore[method-assign]
    assert lab.run() is Ending.STOPPED
    assert lab.attempts() == []


def test_a_stop_during_a_long_pause_ends_it_within_seconds(lab: Lab) -> None:
    for node in NODES:
        lab.grid.nodes[node] = raising
    stop_at(lab, 60)
    assert lab.run(Patience(pause_seconds=3_600, lost_in_a_row=1)) is Ending.STOPPED
    assert lab.clock.monotonic() < 65
    assert len(lab.attempts()) == 1


def test_as_many_lost_in_a_row_as_the_plan_allows_end_it_for_good(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab(rounds=9, participations=9, stop=StopRules(lost_in_a_row=3))
    for node in NODES:
        good = honest(lab.plan, SEVEN)
        # One in vain, a success that begins the count anew, then only failures.
        failures = iter([True, False, *[True] * 9])
        lab.grid.nodes[node] = lambda m, f=failures, good=good: (raising if next(f) else good)(m)
    assert lab.run() is Ending.LOST_IN_A_ROW
    outcomes = [r.outcome.value for r in lab.seen]
    assert outcomes == ["lost", "released", "lost", "lost", "lost"]
    assert lab.run() is Ending.LOST_IN_A_ROW
    assert len(lab.attempts()) == 5


@pytest.mark.parametrize("scope", ["lifetime_epsilon", "epoch_epsilon"])
def test_the_policys_budgets_bind_across_campaigns(lab: Lab, scope: str) -> None:
    change_policy(lab.made.home, lax_policy(**{scope: lab.plan.worst_case.epsilon}))
    other = Caps(10**12, 10**12, 10**12)
    with open_ledger(lab.made.home.population_database) as ledger:
        for _ in range(3):  # what another plan took of the same month's data
            ledger.charge(
                ledger.plan("f" * 64, 1),
                [subject(node) for node in NODES],
                epochs=lab.plan.data_epochs,
                cost_nano_rho=lab.plan.cost_nano_rho,
                caps=other,
            )
    assert lab.run() is Ending.BUDGET_EXHAUSTED
    assert len(lab.seen) == 9 - 3


def test_a_plan_dearer_than_a_lifetime_is_never_charged(lab: Lab) -> None:
    change_policy(lab.made.home, lax_policy(lifetime_epsilon=Decimal("0.1")))
    assert lab.run() is Ending.BUDGET_EXHAUSTED
    assert lab.attempts() == []


def test_between_two_rounds_of_a_person_lie_as_many_as_the_plan_says(
    make_lab: Callable[..., Lab],
) -> None:
    limits = ParticipationLimits(per_campaign=3, per_epoch=3, minimum_gap_rounds=2)
    cohort = msgspec.structs.replace(small_plan().cohort, target=4, minimum=4)
    lab = make_lab(rounds=6, participation=limits, cohort=cohort)
    assert lab.run() is Ending.ROUNDS_REACHED
    asked = rounds_of(lab)
    assert all(later - sooner >= 2 for of in asked.values() for sooner, later in pairwise(of))
    # Eight persons, four a round: every other round is everybody's.
    assert {len(of) for of in asked.values()} == {3}


def test_a_retry_of_a_round_may_ask_the_same_again(make_lab: Callable[..., Lab]) -> None:
    limits = ParticipationLimits(per_campaign=9, per_epoch=9, minimum_gap_rounds=5)
    lab = make_lab(rounds=1, participation=limits)
    for node in NODES:
        failures = iter([True, False])
        good = honest(lab.plan, SEVEN)
        lab.grid.nodes[node] = lambda m, f=failures, good=good: (raising if next(f) else good)(m)
    assert lab.run() is Ending.ROUNDS_REACHED
    assert [(r.round, r.attempt, r.selected) for r in lab.seen] == [(1, 1, 8), (1, 2, 8)]


def test_between_two_rounds_of_a_person_lie_the_hours_of_the_plan(
    make_lab: Callable[..., Lab],
) -> None:
    limits = ParticipationLimits(per_campaign=9, per_epoch=9, minimum_gap_hours=6)
    lab = make_lab(rounds=2, participation=limits)
    charged: list[datetime] = []
    start = datetime(2027, 1, 1, tzinfo=UTC)
    lab.now = lambda: start + timedelta(seconds=lab.clock.monotonic())
    assert lab.run(on_round=lambda _receipt: charged.append(lab.now())) is Ending.ROUNDS_REACHED
    waited = charged[1] - charged[0]
    assert timedelta(hours=6) <= waited < timedelta(hours=6, minutes=1)


def test_who_was_asked_often_enough_for_a_month_is_asked_no_more(
    make_lab: Callable[..., Lab],
) -> None:
    limits = ParticipationLimits(per_campaign=9, per_epoch=3)
    lab = make_lab(rounds=9, participation=limits)
    caps = Caps(10**12, 10**12, 10**12)
    with open_ledger(lab.made.home.population_database) as ledger:
        # Another plan over two months, of which one is this plan's.
        ledger.charge(
            ledger.plan("f" * 64, 1),
            [subject(node) for node in NODES],
            epochs=("2023-10", *lab.plan.data_epochs),
            cost_nano_rho=1,
            caps=caps,
        )
        assert ledger.often_asked(("2023-10",), most=2) == frozenset()
    assert lab.run() is Ending.BUDGET_EXHAUSTED
    assert len(lab.seen) == 2


def rounds_of(lab: Lab) -> dict[int, list[int]]:
    """The rounds in which each node was asked."""
    asked: dict[int, list[int]] = {node: [] for node in NODES}
    for message in lab.grid.pushed:
        task, _ = parse_train_content(message.content, parameters=lab.plan.model.parameters)
        asked[message.metadata.dst_node_id].append(task.round)
    return asked
