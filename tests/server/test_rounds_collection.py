import tracemalloc
from collections.abc import Iterable

import msgspec
import numpy as np
from flwr.app import Message
from inprocess_grid import Delivery, FakeClock, InProcessGrid

from plans import small_plan
from tacitly_common.model_config import ModelConfig
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import Reply, Task, reply_content
from tacitly_server.rounds.collection import collect, dispatch


def peak_bytes(devices: int) -> int:
    """The most memory that collecting from so many devices takes beyond what was there."""
    model = ModelConfig(vocabulary_size=400, embedding=32, hidden=128)
    cohort = msgspec.structs.replace(small_plan().cohort, target=devices)
    plan = small_plan(model=model, cohort=cohort)

    task = Task(plan.hash, 1, 1)

    def node(message: Message) -> Iterable[Delivery]:
        def upload() -> Message:  # exists only from the pull on, as over the network
            update = np.full(model.trainable_parameters, 3, dtype=np.int32)
            # Not by reading the message: all nodes share its one content, and on a slow machine
            # pulls overlap.
            reply = Reply(task.round, task.attempt, ReplyCode.OK, update)
            return Message(reply_content(reply), reply_to=message)

        return [Delivery(upload)]

    clock = FakeClock()
    grid = InProcessGrid(dict.fromkeys(range(1, devices + 1), node), clock)
    asked = dispatch(grid, plan, task, np.zeros(model.parameters, np.float32), grid.nodes)
    tracemalloc.start()
    answers = collect(grid, plan, task, asked, clock=clock, until=30, permitted=lambda: True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answers.usable == devices
    assert set(answers.total.tolist()) == {3 * devices}
    return peak


def test_memory_does_not_grow_with_the_cohort() -> None:
    one_update = 4 * ModelConfig(vocabulary_size=400).trainable_parameters
    assert peak_bytes(64) < peak_bytes(8) + 4 * one_update
