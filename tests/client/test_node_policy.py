"""What the device answers to: plans of the officers' log that were joined, with a good grant."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from officers import Log, grant_for, lax_policy
from plans import small_plan
from tacitly_client.node.policy import (
    MAX_ATTEMPT,
    Agreement,
    Offer,
    agreement,
    judge_offer,
    judge_task,
    nameable,
)
from tacitly_common.campaign import CampaignPlan, revise
from tacitly_common.contract.acts import Approve, Limit, ProposeChange, Revoke
from tacitly_common.model_config import ModelConfig
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import Task

PLAN = small_plan()
OTHER = revise(PLAN, rounds=21)
LOG = Log().start(PLAN)
HELD = agreement(LOG.contract, None, PLAN)
GRANT = grant_for(PLAN)
NOW = datetime.now(UTC)
GOOD = Offer(PLAN.app_hash, "flwr-serverapp", "train")


def task(
    round_: int = 3, attempt: int = 0, plan_hash: str = PLAN.hash, grant: bytes = GRANT
) -> Task:
    return Task(plan_hash, round_, attempt, grant)


def judge(
    task: Task,
    answered: Mapping[int, int] = MappingProxyType({}),
    *,
    held: Agreement = HELD,
    now: datetime = NOW,
) -> ReplyCode:
    return judge_task(held, task, answered, now=now)


def holding(log: Log, joined: CampaignPlan | None = PLAN) -> Agreement:
    return agreement(log.contract, None, joined)


def written(log: Log = LOG) -> Log:
    """A log of one's own to write on."""
    return Log(list(log.entries))


def test_the_plans_own_training_is_accepted() -> None:
    assert judge_offer(HELD, GOOD) is ReplyCode.OK
    assert judge(task()) is ReplyCode.OK


@pytest.mark.parametrize("app_hash", ["2" * 64, "", PLAN.app_hash.upper() + " "])
def test_another_program_is_refused(app_hash: str) -> None:
    offer = Offer(app_hash, GOOD.primary_task_type, GOOD.message_type)
    assert judge_offer(HELD, offer) is ReplyCode.UNKNOWN_APPLICATION


def test_a_device_that_knows_no_plan_fetches_nothing() -> None:
    nothing = agreement(Log().contract, None, None)
    assert judge_offer(nothing, GOOD) is ReplyCode.UNKNOWN_APPLICATION
    assert nothing.largest_message_bytes == 0


def test_the_program_of_a_plan_not_joined_may_ask_and_is_told_so() -> None:
    held = holding(LOG, None)
    assert judge_offer(held, GOOD) is ReplyCode.OK
    assert judge(task(), held=held) is ReplyCode.NOT_JOINED


@pytest.mark.parametrize(
    "task_type",
    ["flwr-agentapp", "flwr-model", "flwr-connector", "flwr-clientapp", "flwr-simulation", ""],
)
def test_another_kind_of_run_is_refused(task_type: str) -> None:
    offer = Offer(PLAN.app_hash, task_type, "train")
    assert judge_offer(HELD, offer) is ReplyCode.UNKNOWN_TASK


@pytest.mark.parametrize(
    "kind", ["evaluate", "query", "train.other", "query.keys", "system", "get_properties", "", "T"]
)
def test_another_kind_of_message_is_refused(kind: str) -> None:
    offer = Offer(PLAN.app_hash, "flwr-serverapp", kind)
    assert judge_offer(HELD, offer) is ReplyCode.UNKNOWN_TASK


def test_a_plan_that_is_not_in_the_log_is_refused_also_if_it_was_joined() -> None:
    assert judge(task(plan_hash=OTHER.hash)) is ReplyCode.UNKNOWN_PLAN
    held = holding(LOG, OTHER)
    assert judge(task(plan_hash=OTHER.hash), held=held) is ReplyCode.UNKNOWN_PLAN


def test_another_plan_of_the_log_needs_approval_and_joining() -> None:
    log = written()
    log.propose(OTHER)
    asked = task(plan_hash=OTHER.hash, grant=grant_for(OTHER))
    assert judge(asked, held=holding(log)) is ReplyCode.PLAN_NOT_APPROVED
    log = written().start(OTHER)
    assert judge(asked, held=holding(log)) is ReplyCode.NOT_JOINED
    assert judge(asked, held=holding(log, OTHER)) is ReplyCode.OK


def test_a_problem_with_the_log_is_the_answer_to_every_plan_in_it() -> None:
    held = agreement(LOG.contract, ReplyCode.SAME_OFFICER_TWICE, PLAN)
    assert judge(task(), held=held) is ReplyCode.SAME_OFFICER_TWICE
    assert judge(task(grant=b""), held=held) is ReplyCode.SAME_OFFICER_TWICE
    assert judge(task(plan_hash="f" * 64), held=held) is ReplyCode.UNKNOWN_PLAN


@pytest.mark.parametrize("problem", [ReplyCode.OFFICER_NOT_ACTIVE, None])
def test_without_a_sound_log_nothing_is_trained(problem: ReplyCode | None) -> None:
    held = agreement(None, problem, PLAN)
    assert judge(task(), held=held) is (problem or ReplyCode.LOG_FORGED)


def test_an_officer_who_is_revoked_takes_the_approval_along() -> None:
    log = written()
    log.add("dan", Revoke(officer="bea", reason="left"))
    assert judge(task(), held=holding(log)) is ReplyCode.PLAN_NOT_APPROVED


def test_a_stricter_policy_holds_for_a_plan_that_runs() -> None:
    log = written()
    policy = lax_policy(minimum_cohort=PLAN.cohort.minimum + 1)
    proposal = log.add("ada", ProposeChange(policy=policy)).hash
    log.add("bea", Approve(proposal=proposal))
    assert judge(task(), held=holding(log)) is ReplyCode.OK
    log.add("cyn", Approve(proposal=proposal))
    assert judge(task(), held=holding(log)) is ReplyCode.COHORT_TOO_SMALL


def test_time_is_this_devices_own() -> None:
    assert judge(task(), now=NOW + timedelta(hours=10)) is ReplyCode.OK
    assert judge(task(), now=NOW + timedelta(hours=12)) is ReplyCode.GRANT_EXPIRED
    assert judge(task(), now=PLAN.expires) is ReplyCode.CAMPAIGN_EXPIRED


@pytest.mark.parametrize(("round_", "code"), [(4, ReplyCode.OK), (5, ReplyCode.CAMPAIGN_STOPPED)])
def test_rounds_after_an_officers_limit_are_refused(round_: int, code: ReplyCode) -> None:
    log = written()
    log.add("cyn", Limit(plan_hash=PLAN.hash, last_round=4, reason="enough"))
    assert judge(task(round_), held=holding(log)) is code


def test_the_grant_is_judged_before_the_round() -> None:
    assert judge(task(0, grant=b"")) is ReplyCode.GRANT_INVALID


def test_a_message_may_hold_the_largest_model_that_was_agreed_to() -> None:
    large = revise(PLAN, model=ModelConfig(vocabulary_size=11, embedding=30, hidden=40))
    log = written()
    log.propose(large)
    # One officer alone cannot have devices take in more.
    assert holding(log).largest_message_bytes == 4 * PLAN.model.parameters
    assert holding(written().start(large)).largest_message_bytes == 4 * large.model.parameters


@pytest.mark.parametrize("round_", [-1, 0, PLAN.rounds + 1, 2**63])
def test_a_round_outside_the_plan_is_refused(round_: int) -> None:
    assert judge(task(round_)) is ReplyCode.ROUND_OUT_OF_RANGE


@pytest.mark.parametrize("attempt", [-1, MAX_ATTEMPT + 1, 2**63])
def test_an_absurd_attempt_is_refused(attempt: int) -> None:
    assert judge(task(attempt=attempt)) is ReplyCode.MALFORMED_TASK


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ((5, 1), ReplyCode.OK),  # the identical attempt
        ((5, 2), ReplyCode.OK),
        ((6, 0), ReplyCode.OK),
        ((5, 0), ReplyCode.ROUND_REPLAYED),
        ((4, 3), ReplyCode.OK),  # a retry after the newest checkpoint was lost
        ((4, 2), ReplyCode.ROUND_REPLAYED),
        ((3, 9), ReplyCode.ROUND_REPLAYED),
    ],
)
def test_the_server_goes_back_one_round_at_most(asked: tuple[int, int], code: ReplyCode) -> None:
    assert judge(task(*asked), {5: 1, 4: 2}) is code


def test_a_first_attempt_at_an_earlier_round_is_no_retry() -> None:
    assert judge(task(4, 1), {5: 1}) is ReplyCode.ROUND_REPLAYED
    assert judge(task(4, 2), {5: 1}) is ReplyCode.OK


@given(
    st.integers(), st.integers(), st.text(), st.dictionaries(st.integers(1, 50), st.integers(0, 9))
)
def test_nothing_but_the_plan_gets_through(
    round_: int, attempt: int, plan_hash: str, answered: dict[int, int]
) -> None:
    assert judge(task(round_, attempt, plan_hash), answered) is not ReplyCode.OK
    accepted = judge(task(round_, attempt), answered) is ReplyCode.OK
    assert accepted <= (1 <= round_ <= PLAN.rounds and 0 <= attempt <= MAX_ATTEMPT)


@pytest.mark.parametrize(
    ("named", "answer"), [((3, 1), (3, 1)), ((-1, 0), (0, 0)), ((0, 2**40), (0, 0))]
)
def test_a_refusal_names_what_it_refuses_unless_that_is_absurd(named: Any, answer: Any) -> None:
    assert nameable(task(*named)) == answer
