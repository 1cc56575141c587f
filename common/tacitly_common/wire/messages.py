"""The messages of a round, as Flower records, and nothing else.

A plan without masking has two:

    server -> device   train   {"task": {plan, round, attempt, grant}, "model": [float32 vector]}
    device -> server   reply   {"reply": {round, attempt, code}, "update": [int32 vector]}
                       refusal {"reply": {round, attempt, code}}

A plan with masking has these two in each phase of an attempt (`secagg/`), whose messages are bytes
here. A model goes along with the phase UPLOAD alone, and its answer alone is an array: every
record is two to four requests of a device's.

    server -> device   train   {"task": {plan, round, attempt, grant, phase, payload},
                                "model": [float32 vector]}
    device -> server   reply   {"reply": {round, attempt, code, phase, payload}}
                       upload  {"reply": {round, attempt, code, phase}, "masked": [uint8 vector]}
                       refusal {"reply": {round, attempt, code}}

Both directions are closed: an additional record, key, array, or another type is a `WireError`.
A parser never trusts a length: the caller says what it expects.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from tacitly_common.errors import TacitlyError
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.phases import Phase

TRAIN: Final = "train"
_TASK, _MODEL, _REPLY, _UPDATE, _VECTOR = "task", "model", "reply", "update", "vector"
_MASKED: Final = "masked"
_TASK_KEYS: Final[dict[str, type]] = {"plan": str, "round": int, "attempt": int, "grant": bytes}
_REPLY_KEYS: Final[dict[str, type]] = {"round": int, "attempt": int, "code": int}
_PHASE_KEY: Final[dict[str, type]] = {"phase": int}
_STEP_KEYS: Final[dict[str, type]] = {"phase": int, "payload": bytes}


_Scalar = TypeVar("_Scalar", bound=np.generic)


class WireError(TacitlyError, ValueError):
    """A message is not what the protocol says. The message holds no value from the wire."""


class WrongTypeError(WireError):
    """A vector of another element type than agreed (a float vector could hold NaN)."""


class WrongShapeError(WireError):
    """A vector of another length, or with other dimensions, than agreed."""


@dataclass(frozen=True, slots=True)
class Task:
    """Which attempt at which round of which plan, and the grant that lets it be asked."""

    plan_hash: str
    round: int
    attempt: int
    grant: bytes = b""


@dataclass(frozen=True, slots=True)
class Step:
    """One phase of a masked attempt, from either side: bytes that secagg made and reads."""

    phase: Phase
    payload: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """A device's answer: exactly if the code is OK, an update or, if the plan masks, a step."""

    round: int
    attempt: int
    code: ReplyCode
    update: NDArray[np.int32] | None
    step: Step | None = None

    @property
    def holds_update(self) -> bool:
        """Whether what a person's events changed is in it, masked or not."""
        return self.update is not None or (
            self.step is not None and self.step.phase is Phase.UPLOAD
        )


def train_content(task: Task, model: NDArray[np.float32]) -> RecordDict:
    """The content of a train message. `model` is float32[parameters]."""
    return RecordDict({_TASK: ConfigRecord({**_task_values(task)}), _MODEL: model_record(model)})


def model_record(model: NDArray[np.float32]) -> ArrayRecord:
    """A model as it travels: made once, it may go into the messages to many devices."""
    return ArrayRecord({_VECTOR: Array(model)})


def step_content(task: Task, step: Step, model: ArrayRecord | None = None) -> RecordDict:
    """The content of a message in a phase of a masked attempt; `model` in UPLOAD alone."""
    content = RecordDict({_TASK: ConfigRecord({**_task_values(task), **_step_values(step)})})
    if model is not None:
        content[_MODEL] = model
    return content


def parse_task(content: RecordDict) -> Task:
    """The task of a train message, of either kind, whose other records are not looked at yet.

    Raises:
        WireError: other records than `train_content` or `step_content` make, or another task.
    """
    config = _task_config(content)
    return Task(config["plan"], config["round"], config["attempt"], config["grant"])


def parse_train_content(
    content: RecordDict, *, parameters: int
) -> tuple[Task, NDArray[np.float32]]:
    """The task and the model vector of a train message.

    Raises:
        WireError: anything but exactly the records `train_content` makes, with a finite model.
    """
    task = parse_task(content)
    if "phase" in _task_config(content):
        raise WireError("a plan without masking has no steps")
    return task, _model(content, parameters)


def parse_step_content(
    content: RecordDict, *, parameters: int, most_bytes: int
) -> tuple[Task, Step, NDArray[np.float32] | None]:
    """The task, the step and, in the phase UPLOAD, the model of a message.

    `most_bytes` is the longest payload that is taken.

    Raises:
        WireError: anything but exactly the records `step_content` makes, with a finite model.
    """
    task, config = parse_task(content), _task_config(content)
    if "phase" not in config:
        raise WireError("a plan with masking has nothing but steps")
    step = _step(config["phase"], config["payload"], most_bytes)
    if (step.phase is Phase.UPLOAD) != (_MODEL in content):
        raise WireError("a model comes with the phase UPLOAD and only then")
    return task, step, _model(content, parameters) if _MODEL in content else None


def reply_content(reply: Reply) -> RecordDict:
    """The content of a reply. The egress guard of the device is the only caller there."""
    values: dict[str, int | bytes] = {
        "round": reply.round,
        "attempt": reply.attempt,
        "code": int(reply.code),
    }
    arrays: dict[str, NDArray[np.int32] | NDArray[np.uint8]] = {}
    if reply.update is not None:
        arrays[_UPDATE] = reply.update
    if reply.step is not None and reply.step.phase is Phase.UPLOAD:
        values["phase"] = int(reply.step.phase)
        arrays[_MASKED] = np.frombuffer(reply.step.payload, dtype=np.uint8)
    elif reply.step is not None:
        values |= _step_values(reply.step)
    content = RecordDict({_REPLY: ConfigRecord(dict(values))})
    for name, array in arrays.items():
        content[name] = ArrayRecord({_VECTOR: Array(array)})
    return content


def parse_reply_content(content: RecordDict, *, coordinates: int) -> Reply:
    """A device's reply.

    Raises:
        WireError: anything but exactly the records `reply_content` makes.
    """
    arrays = {_UPDATE} & set(content)
    config = _only_config(content, _REPLY, _REPLY_KEYS, arrays)
    code = _code(config, has_more=bool(arrays))
    update = _only_vector(content, _UPDATE, np.dtype(np.int32), coordinates) if arrays else None
    return Reply(config["round"], config["attempt"], code, update)


def parse_step_reply(content: RecordDict, *, phase: Phase, most_bytes: int) -> Reply:
    """A device's reply in a phase of a masked attempt, with a payload of at most `most_bytes`.

    Raises:
        WireError: anything but exactly the records `reply_content` makes, in this phase.
    """
    if not _has(content, _REPLY, "phase"):
        config = _only_config(content, _REPLY, _REPLY_KEYS, set())
        return Reply(config["round"], config["attempt"], _code(config, has_more=False), None)
    if phase is Phase.UPLOAD:
        config = _only_config(content, _REPLY, _REPLY_KEYS | _PHASE_KEY, {_MASKED})
        length = _stated_length(content[_MASKED])
        if not 0 <= length <= most_bytes:
            raise WrongShapeError(f"record {_MASKED!r} must be uint8[0..{most_bytes}]")
        payload = _only_vector(content, _MASKED, np.dtype(np.uint8), length).tobytes()
    else:
        config = _only_config(content, _REPLY, _REPLY_KEYS | _STEP_KEYS, set())
        payload = config["payload"]
    step = _step(config["phase"], payload, most_bytes)
    if step.phase is not phase:
        raise WireError("the reply is of another phase")
    return Reply(config["round"], config["attempt"], _code(config, has_more=True), None, step)


def _task_config(content: RecordDict) -> dict[str, Any]:
    """The values of a task, with or without a step; the model may be missing from a step."""
    if _has(content, _TASK, "phase"):
        return _only_config(content, _TASK, _TASK_KEYS | _STEP_KEYS, {_MODEL} & set(content))
    return _only_config(content, _TASK, _TASK_KEYS, {_MODEL})


def _task_values(task: Task) -> dict[str, str | int | bytes]:
    return {
        "plan": task.plan_hash,
        "round": task.round,
        "attempt": task.attempt,
        "grant": task.grant,
    }


def _step_values(step: Step) -> dict[str, int | bytes]:
    return {"phase": int(step.phase), "payload": step.payload}


def _has(content: RecordDict, name: str, key: str) -> bool:
    record = content.get(name)
    return isinstance(record, ConfigRecord) and key in record


def _model(content: RecordDict, parameters: int) -> NDArray[np.float32]:
    model = _only_vector(content, _MODEL, np.dtype(np.float32), parameters)
    if not np.isfinite(model).all():
        raise WireError("the model holds NaN or infinity")
    return model


def _step(number: int, payload: bytes, most_bytes: int) -> Step:
    try:
        phase = Phase(number)
    except ValueError:
        raise WireError("unknown phase") from None
    if len(payload) > most_bytes:
        raise WrongShapeError(f"a payload must have at most {most_bytes} bytes")
    return Step(phase, payload)


def _stated_length(record: object) -> int:
    """What an ArrayRecord says of its vector's length; -1 if it says nothing usable."""
    if not isinstance(record, ArrayRecord) or _VECTOR not in record:
        return -1
    shape = tuple(record[_VECTOR].shape)
    return shape[0] if len(shape) == 1 and type(shape[0]) is int else -1


def _code(config: dict[str, Any], *, has_more: bool) -> ReplyCode:
    """The code of a reply, which `has_more` beside it exactly if it is OK."""
    try:
        code = ReplyCode(config["code"])
    except ValueError:
        raise WireError("unknown reply code") from None
    if (code is ReplyCode.OK) != has_more:
        raise WireError("an update or a step comes with code OK and only then")
    return code


def _only_config(
    content: RecordDict, name: str, types: dict[str, type], others: set[str]
) -> dict[str, Any]:
    """The one ConfigRecord `name` with exactly the keys and types given."""
    if set(content) != {name} | others:
        raise WireError(f"the message must hold exactly the records {sorted({name} | others)}")
    record = content[name]
    if not isinstance(record, ConfigRecord):
        raise WireError(f"record {name!r} must be a ConfigRecord")
    # `type(...) is`: True is an int to isinstance.
    if set(record) != set(types) or any(type(record[key]) is not types[key] for key in types):
        raise WireError(f"record {name!r} must hold exactly {sorted(types)} of the agreed types")
    return {key: record[key] for key in types}


def _only_vector(
    content: RecordDict, name: str, dtype: np.dtype[_Scalar], length: int
) -> NDArray[_Scalar]:
    """The one array of ArrayRecord `name`: one dimension, agreed length and dtype."""
    record = content[name]
    if not isinstance(record, ArrayRecord) or set(record) != {_VECTOR}:
        raise WireError(f"record {name!r} must hold exactly one array")
    array = record[_VECTOR]
    # The declared shape and type are checked before the bytes are parsed, and again after.
    if array.dtype != str(dtype) or array.stype != "numpy.ndarray":
        raise WrongTypeError(f"record {name!r} must be {dtype}[{length}]")
    if tuple(array.shape) != (length,):
        raise WrongShapeError(f"record {name!r} must be {dtype}[{length}]")
    try:
        vector = array.numpy()
    except Exception:
        raise WireError(f"record {name!r} does not parse as an array") from None
    if vector.dtype != dtype or vector.shape != (length,):
        raise WireError(f"record {name!r} must be {dtype}[{length}]")
    return cast("NDArray[_Scalar]", vector)
