"""Flower's Grid in one process: each node is a function from a message to its deliveries.

It keeps SuperLink's rules that the rounds depend on: a reply is handed out once, and an error
for a node that is gone comes from node 1. Time is a `Clock`, so lateness costs a test nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

from tacitly_common.campaign import CampaignPlan
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import Reply, parse_train_content, reply_content
from tacitly_server.rounds.clock import Clock

Answer = Message | Exception | Callable[[], Message]


@dataclass(frozen=True)
class Delivery:
    """A reply, an exception that pulling it raises, or a function that a pull waits for.

    It can be pulled some seconds after the message was sent.
    """

    answer: Answer
    after_seconds: float = 0.0


Node = Callable[[Message], Iterable[Delivery]]


@dataclass
class FakeClock:
    """Time passes only by sleeping."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class InProcessGrid(Grid):
    """`online` may be changed by a test at any time; a message to another node is not taken."""

    def __init__(self, nodes: Mapping[int, Node], clock: Clock) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
        self.nodes = dict(nodes)
        self.online = set(nodes)
        self.pushed: list[Message] = []
        self._clock = clock
        self._ids = count(1)
        self._waiting: dict[str, list[tuple[float, Answer]]] = {}

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        return Run.create_empty(1)

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return sorted(self.online)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        taken = []
        for message in messages:
            node_id = message.metadata.dst_node_id
            message.metadata.__dict__["_message_id"] = f"message-{next(self._ids)}"
            if node_id not in self.online:
                continue
            message_id = message.metadata.message_id
            self.pushed.append(message)
            sent = self._clock.monotonic()
            self._waiting[message_id] = [
                (sent + delivery.after_seconds, delivery.answer)
                for delivery in self.nodes[node_id](message)
            ]
            taken.append(message_id)
        return taken

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        now = self._clock.monotonic()
        replies: list[Message] = []
        for message_id in message_ids:
            due = [a for at, a in self._waiting[message_id] if at <= now]
            self._waiting[message_id] = [w for w in self._waiting[message_id] if w[0] > now]
            for answer in due:
                if isinstance(answer, Exception):
                    raise answer
                replies.append(answer() if callable(answer) else answer)
        return replies

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        raise NotImplementedError


def answer_with(plan: CampaignPlan, update: NDArray[np.int32]) -> Callable[[Message], Message]:
    """A correct reply that holds `update`."""

    def answer(message: Message) -> Message:
        task, _ = parse_train_content(message.content, parameters=plan.model.parameters)
        reply = Reply(task.round, task.attempt, ReplyCode.OK, update)
        return Message(reply_content(reply), reply_to=message)

    return answer


def honest(plan: CampaignPlan, update: NDArray[np.int32], after_seconds: float = 0.0) -> Node:
    """A node that answers as it should."""
    answer = answer_with(plan, update)
    return lambda message: [Delivery(answer(message), after_seconds)]


def refusing(code: ReplyCode) -> Node:
    """A node that says no."""

    def node(message: Message) -> list[Delivery]:
        config = message.content.config_records["task"]
        reply = Reply(int(config["round"]), int(config["attempt"]), code, None)  # type: ignore[arg-type]
        return [Delivery(Message(reply_content(reply), reply_to=message))]

    return node


def silent(_message: Message) -> list[Delivery]:
    """A node that crashed: no answer ever."""
    return []


def gone(message: Message) -> list[Delivery]:
    """A node that went offline: SuperLink, node 1, answers in its place."""
    reply = Message(Error(5, "node unavailable"), reply_to=message)
    reply.metadata.__dict__["_src_node_id"] = 1
    return [Delivery(reply)]


def raising(message: Message) -> list[Delivery]:
    """A stock node whose application raised: Flower sends the exception's text."""
    return [Delivery(Message(Error(2, "some text"), reply_to=message))]


def unparsable(_message: Message) -> list[Delivery]:
    """A node whose reply Flower itself cannot read."""
    return [Delivery(ValueError("Unexpected format for object head."))]


def raw(
    vector: NDArray[np.generic],
    *,
    code: int = 0,
    round_shift: int = 0,
    from_node: int | None = None,
) -> Node:
    """A node that sends any vector at all in an otherwise correct reply."""

    def node(message: Message) -> list[Delivery]:
        task = message.content.config_records["task"]
        content = RecordDict(
            {
                "reply": ConfigRecord(
                    {
                        "round": int(task["round"]) + round_shift,  # type: ignore[arg-type]
                        "attempt": int(task["attempt"]),  # type: ignore[arg-type]
                        "code": code,
                    }
                ),
                "update": ArrayRecord({"vector": Array(vector)}),
            }
        )
        reply = Message(content, reply_to=message)
        if from_node is not None:
            reply.metadata.__dict__["_src_node_id"] = from_node
        return [Delivery(reply)]

    return node


def twice(plan: CampaignPlan, update: NDArray[np.int32]) -> Node:
    """A node that answers two times."""
    answer = answer_with(plan, update)
    return lambda message: [Delivery(answer(message)), Delivery(answer(message))]
