"""The wire: exactly two messages, and every departure from them refused."""

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import (
    Reply,
    Task,
    WireError,
    parse_reply_content,
    parse_train_content,
    reply_content,
    train_content,
)

TASK = Task("a" * 64, 3, 1)
MODEL = np.arange(5, dtype=np.float32)
UPDATE = np.arange(4, dtype=np.int32)


def test_a_train_message_survives() -> None:
    task, model = parse_train_content(train_content(TASK, MODEL), parameters=5)
    assert task == TASK
    assert np.array_equal(model, MODEL)


def test_a_reply_survives() -> None:
    reply = parse_reply_content(reply_content(Reply(3, 1, ReplyCode.OK, UPDATE)), coordinates=4)
    assert (reply.round, reply.attempt, reply.code) == (3, 1, ReplyCode.OK)
    assert reply.update is not None
    assert np.array_equal(reply.update, UPDATE)


@pytest.mark.parametrize("code", [code for code in ReplyCode if code != ReplyCode.OK])
def test_a_refusal_survives_and_carries_nothing_else(code: ReplyCode) -> None:
    content = reply_content(Reply(3, 1, code, None))
    assert set(content) == {"reply"}
    assert parse_reply_content(content, coordinates=4) == Reply(3, 1, code, None)


def set_config(**values: int | str) -> Callable[[RecordDict], None]:
    def change(content: RecordDict) -> None:
        [name] = [name for name in content if isinstance(content[name], ConfigRecord)]
        for key, value in values.items():
            content[name][key] = value

    return change


def set_array(array: np.ndarray) -> Callable[[RecordDict], None]:
    def change(content: RecordDict) -> None:
        [name] = [name for name in content if isinstance(content[name], ArrayRecord)]
        content[name]["vector"] = Array(array)

    return change


def add_record(content: RecordDict) -> None:
    content["metrics"] = MetricRecord({"loss": 0.5})


def add_array(content: RecordDict) -> None:
    [name] = [name for name in content if isinstance(content[name], ArrayRecord)]
    content[name]["other"] = Array(UPDATE)


def lie_about_the_shape(content: RecordDict) -> None:
    [name] = [name for name in content if isinstance(content[name], ArrayRecord)]
    content[name]["vector"].data = Array(np.arange(9, dtype=np.float32)).data


def break_the_bytes(content: RecordDict) -> None:
    [name] = [name for name in content if isinstance(content[name], ArrayRecord)]
    content[name]["vector"].data = b"\x93NUMPY broken"


COMMON = [
    add_record,
    add_array,
    lie_about_the_shape,
    break_the_bytes,
    set_config(loss=1),
    set_config(round="3"),
    set_config(round=True),
    set_array(np.arange(6, dtype=np.float32)),
    set_array(np.zeros((1, 5), np.float32)),
    set_array(np.arange(5, dtype=np.float64)),
    set_array(np.array([b"x"] * 5)),
]


@pytest.mark.parametrize("change", [*COMMON, set_array(np.full(5, np.nan, np.float32))])
def test_a_changed_train_message_is_refused(change: Callable[[RecordDict], None]) -> None:
    content = train_content(TASK, MODEL)
    change(content)
    with pytest.raises(WireError):
        parse_train_content(content, parameters=5)


@pytest.mark.parametrize(
    "change",
    [
        *COMMON,
        set_config(code=99),
        set_config(code=int(ReplyCode.WRONG_MODEL)),
        set_array(np.arange(4, dtype=np.float32)),
        set_array(np.arange(4, dtype=np.int64)),
    ],
)
def test_a_changed_reply_is_refused(change: Callable[[RecordDict], None]) -> None:
    content = reply_content(Reply(3, 1, ReplyCode.OK, UPDATE))
    change(content)
    with pytest.raises(WireError):
        parse_reply_content(content, coordinates=4)


def test_code_ok_without_an_update_is_refused() -> None:
    with pytest.raises(WireError, match="comes with code OK"):
        parse_reply_content(reply_content(Reply(3, 1, ReplyCode.OK, None)), coordinates=4)
