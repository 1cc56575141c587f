"""What this device answers to, decided from what it holds itself. Pure functions over values.

Everything in an offer or a task was written by the server and is treated as hostile. A run's
configuration and its overrides are not among the inputs: the device never reads them. Nor is the
run's program: its hash only has to be the one a plan names, as a protocol version.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tacitly_client.node.flower_port import TaskType
from tacitly_common.campaign import CampaignPlan
from tacitly_common.contract.grant import judge_grant, parse_grant
from tacitly_common.contract.judge import judge_campaign, judge_round, plan_of
from tacitly_common.contract.log import Contract
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.group_terms import largest_payload_bytes
from tacitly_common.wire.messages import TRAIN, Task

# Attempts cost budget, so the ledger bounds them long before; this bounds the integer.
MAX_ATTEMPT: Final = 1_000_000
_FIRST_ATTEMPT: Final = 1


@dataclass(frozen=True, slots=True)
class Offer:
    """What a message and its run claim about themselves, before any content is fetched."""

    app_hash: str
    primary_task_type: str
    message_type: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """What this device goes by: the officers' log as it holds it, and what its person joined.

    `contract` is None if the log on the disk is unsound; `problem` then says why, or why the last
    refresh was refused. `plans` are all of the log that can be read, approved or not.
    """

    contract: Contract | None
    problem: ReplyCode | None
    joined: CampaignPlan | None
    plans: Mapping[str, CampaignPlan]

    @property
    def largest_message_bytes(self) -> int:
        """What a message may hold: for a plan that was joined, or that two approved, its model
        and, if it masks, a group's roster.
        """
        contract = self.contract
        approved = [
            plan for name, plan in self.plans.items() if contract and contract.approved(name)
        ]
        joined = [] if self.joined is None else [self.joined]
        return max(map(_largest_message_bytes, approved + joined), default=0)


def _largest_message_bytes(plan: CampaignPlan) -> int:
    return 4 * plan.model.parameters + largest_payload_bytes(plan)


def agreement(
    contract: Contract | None, problem: ReplyCode | None, joined: CampaignPlan | None
) -> Agreement:
    """An agreement with the log's plans read."""
    named = (
        {} if contract is None else {name: plan_of(contract, name) for name in contract.campaigns}
    )
    plans = {name: plan for name, plan in named.items() if isinstance(plan, CampaignPlan)}
    return Agreement(contract, problem, joined, plans)


def judge_offer(held: Agreement, offer: Offer) -> ReplyCode:
    """OK if the content may be fetched.

    | refused because | code |
    |---|---|
    | the run's application is no plan's | UNKNOWN_APPLICATION |
    | the run is not a ServerApp's (an AgentApp's, a model's, a connector's) | UNKNOWN_TASK |
    | the message asks for anything but "train" (also "train.x", "evaluate", "query.x") | same |
    """
    plans = [*held.plans.values(), *([] if held.joined is None else [held.joined])]
    if offer.app_hash not in {plan.app_hash for plan in plans}:
        return ReplyCode.UNKNOWN_APPLICATION
    if offer.primary_task_type != TaskType.SERVER_APP.value or offer.message_type != TRAIN:
        return ReplyCode.UNKNOWN_TASK
    return ReplyCode.OK


def judge_task(
    held: Agreement, task: Task, answered: Mapping[int, int], *, now: datetime
) -> ReplyCode:
    """OK if the device may train `task` at `now`, by its own clock.

    `answered` are the rounds it answered OK and the highest attempt at each. The identical newest
    attempt may come again: it is answered with the identical bytes. An earlier one may not. A
    server whose newest checkpoint is damaged goes on from the one before, so it may ask for a
    retry, under a new charge, of the round before the newest; never of one further back.

    | refused because, in this order                                   | code               |
    |------------------------------------------------------------------|--------------------|
    | the log held here is unsound                                     | `held.problem`     |
    | the plan is not in the log                                       | UNKNOWN_PLAN       |
    | the last refresh brought a log that was refused                  | `held.problem`     |
    | the campaign may not run                                         | `judge_campaign`   |
    | the person has not joined it                                     | NOT_JOINED         |
    | the grant does not allow it                                      | `judge_grant`      |
    | the attempt is not in 0..MAX_ATTEMPT                             | MALFORMED_TASK     |
    | the round is not in 1..plan.rounds                               | ROUND_OUT_OF_RANGE |
    | an officer has limited the campaign to earlier rounds            | CAMPAIGN_STOPPED   |
    | it is no such retry, and not later than what was answered        | ROUND_REPLAYED     |
    """
    contract, plan = held.contract, held.joined
    if contract is None:
        return held.problem or ReplyCode.LOG_FORGED
    if task.plan_hash not in contract.campaigns:
        return ReplyCode.UNKNOWN_PLAN
    if held.problem is not None:
        return held.problem
    code = judge_campaign(contract, task.plan_hash, now=now)
    if code is not ReplyCode.OK:
        return code
    if plan is None or plan.hash != task.plan_hash:
        return ReplyCode.NOT_JOINED
    code = judge_grant(
        parse_grant(task.grant), plan, contract.policy, grant_key=contract.grant_key, now=now
    )
    if code is not ReplyCode.OK:
        return code
    return _judge_place(contract, plan, task, answered)


def _judge_place(
    contract: Contract, plan: CampaignPlan, task: Task, answered: Mapping[int, int]
) -> ReplyCode:
    """Round and attempt alone: the last lines of `judge_task`."""
    if not 0 <= task.attempt <= MAX_ATTEMPT:
        return ReplyCode.MALFORMED_TASK
    if not 1 <= task.round <= plan.rounds:
        return ReplyCode.ROUND_OUT_OF_RANGE
    code = judge_round(contract, plan.hash, task.round)
    return ReplyCode.ROUND_REPLAYED if code is ReplyCode.OK and _is_past(task, answered) else code


def _is_past(task: Task, answered: Mapping[int, int]) -> bool:
    newest = max(answered, default=0)
    if task.round >= newest:
        return task.attempt < answered.get(task.round, 0)
    # A retry is never a round's first attempt.
    retry = task.attempt > max(_FIRST_ATTEMPT, answered.get(task.round, 0))
    return task.round < newest - 1 or not retry


def nameable(task: Task) -> tuple[int, int]:
    """The (round, attempt) that a refusal may name: the task's, or zeros if they are absurd."""
    if 0 <= task.round <= MAX_ATTEMPT and 0 <= task.attempt <= MAX_ATTEMPT:
        return task.round, task.attempt
    return 0, 0
