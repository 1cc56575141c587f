from collections.abc import Iterable
from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
from flwr.app import Message
from hypothesis import given
from hypothesis.extra import numpy as hnp
from inprocess_grid import (
    Delivery,
    FakeClock,
    InProcessGrid,
    Node,
    gone,
    honest,
    raising,
    raw,
    refusing,
)
from numpy.typing import NDArray

from plans import small_plan
from tacitly_common.mechanisms.gaussian import (
    EncodingError,
    encoded_norm_bound,
    release,
    secure_generator,
)
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import Task, train_content
from tacitly_server.aggregation.checks import Refusal, check_reply
from tacitly_server.aggregation.streaming_sum import StreamingSum

PLAN = small_plan()
D = PLAN.model.trainable_parameters
ONES = np.ones(D, dtype=np.int32)
TASK = Task(PLAN.hash, 3, 2)
NODE = 42


@given(hnp.arrays(np.int32, st.tuples(st.integers(0, 20), st.integers(1, 30))))
def test_the_streaming_sum_is_numpys_sum(updates: NDArray[np.int32]) -> None:
    streaming = StreamingSum(updates.shape[1])
    for update in updates:
        streaming.add(update)
    np.testing.assert_array_equal(streaming.total, updates.sum(axis=0, dtype=np.int64))
    assert streaming.count == len(updates)


def test_the_largest_updates_do_not_overflow() -> None:
    streaming = StreamingSum(2)
    for _ in range(5):
        streaming.add(np.array([2**31 - 1, -(2**31)], dtype=np.int32))
    assert streaming.total.tolist() == [5 * (2**31 - 1), -5 * 2**31]


@pytest.mark.parametrize(
    "update",
    [
        np.zeros(3, np.int64),
        np.zeros(3, np.float32),
        np.zeros(4, np.int32),
        np.zeros((3, 1), np.int32),
    ],
)
def test_another_type_or_shape_leaves_the_sum_as_it_was(update: NDArray[np.generic]) -> None:
    streaming = StreamingSum(3)
    streaming.add(np.arange(3, dtype=np.int32))
    with pytest.raises(EncodingError):
        streaming.add(update)  # type: ignore[arg-type]
    assert (streaming.count, streaming.total.tolist()) == (1, [0, 1, 2])


def test_the_total_cannot_be_written_from_outside() -> None:
    with pytest.raises(ValueError, match="read-only"):
        StreamingSum(3).total[0] = 1


def reply_of(node: Node) -> Message:
    """What `node` answers to the task, as it comes out of a grid."""
    grid = InProcessGrid({NODE: node}, FakeClock())
    content = train_content(TASK, np.zeros(PLAN.model.parameters, dtype=np.float32))
    (message_id,) = grid.push_messages([Message(content, dst_node_id=NODE, message_type="train")])
    (reply,) = grid.pull_messages([message_id])
    return reply


check = partial(check_reply, plan=PLAN, task=TASK, node_id=NODE)


def test_an_honest_update_passes_unchanged() -> None:
    update = release(np.full(D, 0.01, dtype=np.float32), PLAN, secure_generator())
    np.testing.assert_array_equal(check(reply_of(honest(PLAN, update))), update)


def test_the_norm_may_be_at_its_bound_but_not_above() -> None:
    units = int(encoded_norm_bound(PLAN) / PLAN.grid_step)
    update = np.zeros(D, dtype=np.int32)
    update[0] = units
    assert not isinstance(check(reply_of(honest(PLAN, update))), str)
    update[0] = units + 1
    assert check(reply_of(honest(PLAN, update))) is Refusal.NORM_TOO_LARGE


def tenfold(message: Message) -> Iterable[Delivery]:
    update = release(np.zeros(D, dtype=np.float32), PLAN, secure_generator())
    return honest(PLAN, 10 * update)(message)


NAN = np.full(D, np.nan, dtype=np.float32)


@pytest.mark.parametrize(
    ("node", "refusal"),
    [
        pytest.param(gone, Refusal.NODE_UNAVAILABLE, id="gone offline"),
        pytest.param(raising, Refusal.NODE_ERROR, id="application raised"),
        pytest.param(raw(ONES, from_node=43), Refusal.WRONG_SENDER, id="another node's answer"),
        pytest.param(raw(NAN), Refusal.WRONG_TYPE, id="NaN"),
        pytest.param(raw(ONES.astype(np.int64)), Refusal.WRONG_TYPE, id="wider integers"),
        pytest.param(raw(ONES.astype(">i4")), Refusal.WRONG_TYPE, id="other byte order"),
        pytest.param(raw(ONES[:-1]), Refusal.WRONG_SHAPE, id="too short"),
        pytest.param(raw(ONES[None]), Refusal.WRONG_SHAPE, id="too many dimensions"),
        pytest.param(raw(ONES, code=99), Refusal.MALFORMED, id="unknown code"),
        pytest.param(raw(ONES, code=9), Refusal.MALFORMED, id="refusal with an update"),
        pytest.param(raw(ONES, round_shift=-1), Refusal.WRONG_ATTEMPT, id="the round before"),
        pytest.param(tenfold, Refusal.NORM_TOO_LARGE, id="tenfold norm"),
    ],
)
def test_each_bad_reply_is_refused_by_its_own_name(node: Node, refusal: Refusal) -> None:
    assert check(reply_of(node)) is refusal


@pytest.mark.parametrize("code", [code for code in ReplyCode if code is not ReplyCode.OK])
def test_every_refusal_of_a_device_has_a_name(code: ReplyCode) -> None:
    refusal = check(reply_of(refusing(code)))
    assert refusal == f"device_{code.name.lower()}"


def test_a_vector_whose_bytes_are_not_what_they_claim_is_refused() -> None:
    reply = reply_of(raw(ONES))
    array = reply.content.array_records["update"]["vector"]
    array.data = b"\x93NUMPY garbage"
    assert check(reply) is Refusal.MALFORMED
