"""The two messages of a round, as Flower records, and nothing else.

    server -> device   train   {"task": {plan, round, attempt, grant}, "model": [float32 vector]}
    device -> server   reply   {"reply": {round, attempt, code}, "update": [int32 vector]}
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

TRAIN: Final = "train"
_TASK, _MODEL, _REPLY, _UPDATE, _VECTOR = "task", "model", "reply", "update", "vector"


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
class Reply:
    """A device's answer: an update exactly if the code is OK."""

    round: int
    attempt: int
    code: ReplyCode
    update: NDArray[np.int32] | None


def train_content(task: Task, model: NDArray[np.float32]) -> RecordDict:
    """The content of a train message. `model` is float32[parameters]."""
    config = ConfigRecord(
        {
            "plan": task.plan_hash,
            "round": task.round,
            "attempt": task.attempt,
            "grant": task.grant,
        }
    )
    return RecordDict({_TASK: config, _MODEL: ArrayRecord({_VECTOR: Array(model)})})


def parse_task(content: RecordDict) -> Task:
    """The task of a train message whose model is not looked at yet.

    Raises:
        WireError: anything but exactly the records `train_content` makes.
    """
    types = {"plan": str, "round": int, "attempt": int, "grant": bytes}
    config = _only_config(content, _TASK, types, {_MODEL})
    return Task(config["plan"], config["round"], config["attempt"], config["grant"])


def parse_train_content(
    content: RecordDict, *, parameters: int
) -> tuple[Task, NDArray[np.float32]]:
    """The task and the model vector of a train message.

    Raises:
        WireError: anything but exactly the records `train_content` makes, with a finite model.
    """
    task = parse_task(content)
    model = _only_vector(content, _MODEL, np.dtype(np.float32), parameters)
    if not np.isfinite(model).all():
        raise WireError("the model holds NaN or infinity")
    return task, model


def reply_content(reply: Reply) -> RecordDict:
    """The content of a reply. The egress guard of the device is the only caller there."""
    config = {"round": reply.round, "attempt": reply.attempt, "code": int(reply.code)}
    content = RecordDict({_REPLY: ConfigRecord(dict(config))})
    if reply.update is not None:
        content[_UPDATE] = ArrayRecord({_VECTOR: Array(reply.update)})
    return content


def parse_reply_content(content: RecordDict, *, coordinates: int) -> Reply:
    """A device's reply.

    Raises:
        WireError: anything but exactly the records `reply_content` makes.
    """
    arrays = {_UPDATE} & set(content)
    config = _only_config(content, _REPLY, {"round": int, "attempt": int, "code": int}, arrays)
    try:
        code = ReplyCode(config["code"])
    except ValueError:
        raise WireError("unknown reply code") from None
    if (code is ReplyCode.OK) != bool(arrays):
        raise WireError("an update comes with code OK and only then")
    update = _only_vector(content, _UPDATE, np.dtype(np.int32), coordinates) if arrays else None
    return Reply(config["round"], config["attempt"], code, update)


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
