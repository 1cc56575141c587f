"""Send one task to a cohort, and add up the answers as they arrive.

Memory is that of one sum and the replies just arriving, whatever the cohort's size.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid
from numpy.typing import NDArray

from tacitly_common.campaign import CampaignPlan
from tacitly_common.wire.messages import TRAIN, Task, train_content
from tacitly_server.aggregation.checks import Refusal, check_reply
from tacitly_server.aggregation.streaming_sum import StreamingSum
from tacitly_server.rounds.clock import Clock
from tacitly_server.rounds.pulls import Pulled, Pulls

# Few enough messages for one request; the model itself is uploaded once for all of them.
_PUSH_BATCH: Final = 100
# Polling takes at most a fifth of the time: a pull costs SuperLink 5 to 10 ms of its one core.
_REST_PER_POLL: Final = 4
_MIN_REST_SECONDS: Final = 0.1
_MAX_REST_SECONDS: Final = 10.0


@dataclass(slots=True)
class Answers:
    """What came back of one attempt."""

    sum: StreamingSum
    refusals: Counter[str] = field(default_factory=Counter)
    bytes_up: int = 0


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
    taken: set[str] = set()
    for start in range(0, len(messages), _PUSH_BATCH):
        # A grid may leave out what it could not send, or put None in its place.
        taken.update(i for i in grid.push_messages(messages[start : start + _PUSH_BATCH]) if i)
    # Every grid writes the id it gives into the message, so order and gaps do not matter.
    return {
        message.metadata.message_id: message.metadata.dst_node_id
        for message in messages
        if message.metadata.message_id in taken
    }


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

    1. Pull each message still unanswered; whatever a reply does wrong is counted by name.
    2. Stop when all have answered, when the minimum cohort is out of reach, at the deadline, or
       when the round is not `permitted` any more.
    3. Rest, and again.

    A late reply to an earlier attempt has no id here and is never pulled.
    """
    answers = Answers(StreamingSum(plan.model.trainable_parameters))
    pulls = Pulls(grid)
    unanswered = dict(asked)
    while unanswered and answers.sum.count + len(unanswered) >= plan.cohort.minimum:
        began = clock.monotonic()
        if began >= until or not permitted():
            break
        for message_id in asked:
            if message_id not in unanswered or clock.monotonic() >= until:
                continue
            for answered, pulled in pulls.pull(message_id):
                if _take(plan, task, answered, unanswered[answered], pulled, answers):
                    del unanswered[answered]
        now = clock.monotonic()
        if unanswered and now < until:
            rest = max(_REST_PER_POLL * (now - began), _MIN_REST_SECONDS)
            clock.sleep(min(rest, _MAX_REST_SECONDS, until - now))
    if unanswered:
        answers.refusals[Refusal.NO_ANSWER] += len(unanswered)
    return answers


def _take(
    plan: CampaignPlan, task: Task, message_id: str, node_id: int, pulled: Pulled, answers: Answers
) -> bool:
    """Count what a pull gave for one message. Whether that message is answered."""
    if pulled is None:
        answers.refusals[Refusal.UNREADABLE] += 1
        return True
    answered = False
    for reply in pulled:
        # SuperLink answers in the place of a node that is gone: only this id tells for whom.
        if answered or reply.metadata.reply_to_message_id != message_id:
            answers.refusals[Refusal.UNASKED] += 1
            continue
        answered = True
        answers.bytes_up += _array_bytes(reply)
        checked = check_reply(reply, plan=plan, task=task, node_id=node_id)
        if isinstance(checked, str):
            answers.refusals[checked] += 1
        else:
            answers.sum.add(checked)
    return answered


def _array_bytes(reply: Message) -> int:
    if not reply.has_content():
        return 0
    records = (r for r in reply.content.values() if isinstance(r, ArrayRecord))
    return sum(len(array.data) for record in records for array in record.values())
