"""A round whose updates come unmasked: send one task to a cohort, add up the answers.

Memory is that of one sum and the replies just arriving, whatever the cohort's size.
"""

from collections.abc import Callable, Iterable

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid
from numpy.typing import NDArray

from tacitly_common.campaign import CampaignPlan
from tacitly_common.mechanisms.encodings import signed_sum
from tacitly_common.wire.messages import TRAIN, Task, train_content
from tacitly_server.aggregation.checks import check_reply
from tacitly_server.aggregation.streaming_sum import StreamingSum
from tacitly_server.rounds.answers import Answers
from tacitly_server.rounds.clock import Clock
from tacitly_server.rounds.exchange import array_bytes, receive, send


def dispatch(
    grid: Grid, plan: CampaignPlan, task: Task, model: NDArray[np.float32], nodes: Iterable[int]
) -> dict[str, int]:
    """Send the task to every node. The ids of the messages that SuperLink took, and their nodes.

    A message lives until the round's deadline: Flower's own default is twelve hours.
    """
    content = train_content(task, model)
    group = f"{task.round}.{task.attempt}"
    ttl = plan.cohort.deadline_seconds
    messages = [
        Message(content, dst_node_id=node, message_type=TRAIN, ttl=ttl, group_id=group)
        for node in nodes
    ]
    return send(grid, messages)


def collect(
    grid: Grid,
    plan: CampaignPlan,
    task: Task,
    asked: dict[str, int],
    *,
    clock: Clock,
    until: float,
    permitted: Callable[[], bool],
) -> Answers:
    """Add up the usable replies to the messages `asked`, until `until` on the clock.

    Whatever a reply does wrong is counted by name. Also ends when all have answered, when the
    minimum cohort is out of reach, or when the round is not `permitted` any more.
    """
    updates = StreamingSum(plan.model.trainable_parameters)
    answers = Answers(updates.total)

    def go_on(unanswered: int) -> bool:
        return updates.count + unanswered >= plan.cohort.minimum and permitted()

    for node_id, reply in receive(
        grid, asked, answers.refusals, clock=clock, until=until, go_on=go_on
    ):
        answers.bytes_up += array_bytes(reply)
        checked = check_reply(reply, plan=plan, task=task, node_id=node_id)
        if isinstance(checked, str):
            answers.refusals[checked] += 1
        else:
            updates.add(checked)
    answers.total, answers.usable = signed_sum(updates.total, plan), updates.count
    return answers
