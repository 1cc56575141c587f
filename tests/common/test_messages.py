"""The wire: exactly the agreed messages, and every departure from them refused."""

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import (
    Reply,
    Step,
    Task,
    WireError,
    WrongShapeError,
    model_record,
    parse_reply_content,
    parse_step_content,
    parse_step_reply,
    parse_task,
    parse_train_content,
    reply_content,
    step_content,
    train_content,
)
from tacitly_common.wire.phases import Phase

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


STEP = Step(Phase.SHARE, b"what secagg made")


@pytest.mark.parametrize("phase", Phase)
def test_a_step_goes_both_ways(phase: Phase) -> None:
    step = Step(phase, b"what secagg made")
    model = MODEL if phase is Phase.UPLOAD else None
    content = step_content(TASK, step, None if model is None else model_record(model))
    task, read, start = parse_step_content(content, parameters=5, most_bytes=16)
    assert (task, read) == (TASK, step)
    assert parse_task(content) == TASK
    assert start is None if model is None else (start == model).all()
    reply = Reply(3, 1, ReplyCode.OK, None, step)
    assert parse_step_reply(reply_content(reply), phase=phase, most_bytes=16) == reply


def test_a_refusal_in_a_phase_is_as_any() -> None:
    refusal = Reply(3, 1, ReplyCode.MASKING_MALFORMED, None)
    assert parse_step_reply(reply_content(refusal), phase=Phase.SHARE, most_bytes=16) == refusal


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(phase=9),
        lambda record: record.update(phase="SHARE"),
        lambda record: record.update(payload="text"),
        lambda record: record.update(payload=bytes(17)),
        lambda record: record.update(loss=0.5),
        lambda record: record.pop("payload"),
        lambda record: record.pop("phase"),
        lambda record: record.pop("round"),
    ],
)
def test_steps_are_closed_in_both_directions(change: Callable[[ConfigRecord], object]) -> None:
    asked = step_content(TASK, STEP)
    change(asked.config_records["task"])
    with pytest.raises(WireError):
        parse_step_content(asked, parameters=5, most_bytes=16)
    answered = reply_content(Reply(3, 1, ReplyCode.OK, None, STEP))
    change(answered.config_records["reply"])
    with pytest.raises(WireError):
        parse_step_reply(answered, phase=Phase.SHARE, most_bytes=16)


def test_a_model_comes_with_an_upload_and_only_then() -> None:
    model = model_record(MODEL)
    for content in (
        step_content(TASK, STEP, model),
        step_content(TASK, Step(Phase.UPLOAD, b"")),
    ):
        with pytest.raises(WireError, match="UPLOAD"):
            parse_step_content(content, parameters=5, most_bytes=16)


def test_a_plan_that_masks_takes_no_plain_task_and_another_no_step() -> None:
    with pytest.raises(WireError, match="nothing but steps"):
        parse_step_content(train_content(TASK, MODEL), parameters=5, most_bytes=16)
    with pytest.raises(WireError, match="no steps"):
        parse_train_content(
            step_content(TASK, Step(Phase.UPLOAD, b""), model_record(MODEL)), parameters=5
        )


def test_an_answer_of_another_phase_or_length_is_none() -> None:
    answered = reply_content(Reply(3, 1, ReplyCode.OK, None, STEP))
    with pytest.raises(WireError, match="another phase"):
        parse_step_reply(answered, phase=Phase.CONFIRM, most_bytes=16)
    masked = reply_content(Reply(3, 1, ReplyCode.OK, None, Step(Phase.UPLOAD, bytes(17))))
    with pytest.raises(WrongShapeError):
        parse_step_reply(masked, phase=Phase.UPLOAD, most_bytes=16)
    for phase in (Phase.SHARE, Phase.UPLOAD):
        with pytest.raises(WireError):
            parse_step_reply(
                reply_content(Reply(3, 1, ReplyCode.OK, UPDATE)), phase=phase, most_bytes=16
            )
