"""What this device answers to, decided from its own plan. Pure functions, no input but values.

Everything in an offer or a task was written by the server and is treated as hostile. A run's
configuration and its overrides are not among the inputs: the device never reads them. Nor is the
run's program: its hash only has to be the one the plan names, as a protocol version.
"""

from dataclasses import dataclass
from typing import Final

from tacitly_client.node.flower_port import TaskType
from tacitly_common.campaign import CampaignPlan
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import TRAIN, Task

# Attempts cost budget, so the ledger bounds them long before; this bounds the integer.
MAX_ATTEMPT: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Offer:
    """What a message and its run claim about themselves, before any content is fetched."""

    app_hash: str
    primary_task_type: str
    message_type: str


def judge_offer(plan: CampaignPlan, offer: Offer) -> ReplyCode:
    """OK if the content may be fetched.

    | refused because | code |
    |---|---|
    | the run's application is not the plan's | UNKNOWN_APPLICATION |
    | the run is not a ServerApp's (an AgentApp's, a model's, a connector's) | UNKNOWN_TASK |
    | the message asks for anything but "train" (also "train.x", "evaluate", "query.x") | same |
    """
    if offer.app_hash != plan.app_hash:
        return ReplyCode.UNKNOWN_APPLICATION
    if offer.primary_task_type != TaskType.SERVER_APP.value or offer.message_type != TRAIN:
        return ReplyCode.UNKNOWN_TASK
    return ReplyCode.OK


def judge_task(plan: CampaignPlan, task: Task, latest: tuple[int, int] | None) -> ReplyCode:
    """OK if the device may train `task`; `latest` is the (round, attempt) it last answered OK.

    The identical attempt may come again: it is answered with the identical bytes. An earlier
    one may not: the server goes forward only.

    | refused because | code |
    |---|---|
    | another plan | UNKNOWN_PLAN |
    | the attempt is not in 0..MAX_ATTEMPT | MALFORMED_TASK |
    | the round is not in 1..plan.rounds, or the attempt lies before `latest` | ROUND_OUT_OF_RANGE |
    """
    if task.plan_hash != plan.hash:
        return ReplyCode.UNKNOWN_PLAN
    if not 0 <= task.attempt <= MAX_ATTEMPT:
        return ReplyCode.MALFORMED_TASK
    if not 1 <= task.round <= plan.rounds:
        return ReplyCode.ROUND_OUT_OF_RANGE
    if latest is not None and (task.round, task.attempt) < latest:
        return ReplyCode.ROUND_OUT_OF_RANGE
    return ReplyCode.OK


def nameable(task: Task) -> tuple[int, int]:
    """The (round, attempt) that a refusal may name: the task's, or zeros if they are absurd."""
    if 0 <= task.round <= MAX_ATTEMPT and 0 <= task.attempt <= MAX_ATTEMPT:
        return task.round, task.attempt
    return 0, 0
