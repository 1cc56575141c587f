"""What the device answers to: only its own plan's program, task and rounds."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plans import small_plan
from tacitly_client.node.policy import MAX_ATTEMPT, Offer, judge_offer, judge_task, nameable
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import Task

PLAN = small_plan()
GOOD = Offer(PLAN.app_hash, "flwr-serverapp", "train")


def task(round_: int = 3, attempt: int = 0, plan_hash: str = PLAN.hash) -> Task:
    return Task(plan_hash, round_, attempt)


def test_the_plans_own_training_is_accepted() -> None:
    assert judge_offer(PLAN, GOOD) is ReplyCode.OK
    assert judge_task(PLAN, task(), None) is ReplyCode.OK


@pytest.mark.parametrize("app_hash", ["2" * 64, "", PLAN.app_hash.upper() + " "])
def test_another_program_is_refused(app_hash: str) -> None:
    offer = Offer(app_hash, GOOD.primary_task_type, GOOD.message_type)
    assert judge_offer(PLAN, offer) is ReplyCode.UNKNOWN_APPLICATION


@pytest.mark.parametrize(
    "task_type",
    ["flwr-agentapp", "flwr-model", "flwr-connector", "flwr-clientapp", "flwr-simulation", ""],
)
def test_another_kind_of_run_is_refused(task_type: str) -> None:
    offer = Offer(PLAN.app_hash, task_type, "train")
    assert judge_offer(PLAN, offer) is ReplyCode.UNKNOWN_TASK


@pytest.mark.parametrize(
    "kind", ["evaluate", "query", "train.other", "query.keys", "system", "get_properties", "", "T"]
)
def test_another_kind_of_message_is_refused(kind: str) -> None:
    offer = Offer(PLAN.app_hash, "flwr-serverapp", kind)
    assert judge_offer(PLAN, offer) is ReplyCode.UNKNOWN_TASK


def test_another_plan_is_refused() -> None:
    other = small_plan(rounds=21)
    assert judge_task(PLAN, task(plan_hash=other.hash), None) is ReplyCode.UNKNOWN_PLAN


@pytest.mark.parametrize("round_", [-1, 0, PLAN.rounds + 1, 2**63])
def test_a_round_outside_the_plan_is_refused(round_: int) -> None:
    assert judge_task(PLAN, task(round_), None) is ReplyCode.ROUND_OUT_OF_RANGE


@pytest.mark.parametrize("attempt", [-1, MAX_ATTEMPT + 1, 2**63])
def test_an_absurd_attempt_is_refused(attempt: int) -> None:
    assert judge_task(PLAN, task(attempt=attempt), None) is ReplyCode.MALFORMED_TASK


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ((5, 1), ReplyCode.OK),  # the identical attempt
        ((5, 2), ReplyCode.OK),
        ((6, 0), ReplyCode.OK),
        ((5, 0), ReplyCode.ROUND_OUT_OF_RANGE),
        ((4, 9), ReplyCode.ROUND_OUT_OF_RANGE),
    ],
)
def test_the_server_goes_forward_only(asked: tuple[int, int], code: ReplyCode) -> None:
    assert judge_task(PLAN, task(*asked), (5, 1)) is code


@given(st.integers(), st.integers(), st.text(), st.none() | st.tuples(st.integers(), st.integers()))
def test_nothing_but_the_plan_gets_through(
    round_: int, attempt: int, plan_hash: str, latest: tuple[int, int] | None
) -> None:
    assert judge_task(PLAN, task(round_, attempt, plan_hash), latest) is not ReplyCode.OK
    accepted = judge_task(PLAN, task(round_, attempt), latest) is ReplyCode.OK
    assert accepted <= (1 <= round_ <= PLAN.rounds and 0 <= attempt <= MAX_ATTEMPT)


@pytest.mark.parametrize(
    ("named", "answer"), [((3, 1), (3, 1)), ((-1, 0), (0, 0)), ((0, 2**40), (0, 0))]
)
def test_a_refusal_names_what_it_refuses_unless_that_is_absurd(named: Any, answer: Any) -> None:
    assert nameable(task(*named)) == answer
