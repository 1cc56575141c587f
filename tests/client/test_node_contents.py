"""A task's content from hostile parts: the honest one is read, every other one is a WireError."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from tacitly_client.node.contents import inflate_content
from tacitly_client.node.flower_port import (
    Metadata,
    get_all_nested_objects,
    get_object_id,
    make_message,
)
from tacitly_common.wire.messages import (
    Task,
    WireError,
    parse_train_content,
    train_content,
)

LIMIT = 10_000
TASK = Task("0" * 64, 3, 1)
MODEL = np.linspace(-1, 1, 20, dtype=np.float32)


def parts_of(content: RecordDict) -> tuple[str, dict[str, bytes]]:
    """A message's id and parts, as a server holds them."""
    metadata = Metadata(1, "", 1, 2, "", "", 1.8e9, 60.0, "train")
    message: Message = make_message(metadata=metadata, content=content)
    parts = {name: part.deflate() for name, part in get_all_nested_objects(message).items()}
    return message.object_id, parts


def test_an_honest_task_is_read() -> None:
    message_id, parts = parts_of(train_content(TASK, MODEL))
    content = inflate_content(message_id, parts, limit_bytes=LIMIT)
    task, model = parse_train_content(content, parameters=20)
    assert task == TASK
    np.testing.assert_array_equal(model, MODEL)


def with_part(
    parts: dict[str, bytes], kind: str, change: Callable[[bytes], bytes]
) -> dict[str, bytes]:
    """The parts with one of a kind changed, under its old name as a liar would have it."""
    (name,) = [name for name, part in parts.items() if part.startswith(kind.encode() + b" ")]
    return parts | {name: change(parts[name])}


def many_chunks(part: bytes) -> bytes:
    head, body = part.split(b"\0", 1)
    kind, children, _ = head.split(b" ")
    changed = json.dumps(json.loads(body) | {"arraychunk_ids": [0] * 1_000_000}).encode()
    return b"%b %b %d\0" % (kind, children, len(changed)) + changed


def test_a_small_message_that_unpacks_into_a_huge_array_is_refused() -> None:
    message_id, parts = parts_of(train_content(TASK, MODEL))
    with pytest.raises(WireError, match="larger than the plan's model"):
        inflate_content(message_id, with_part(parts, "Array", many_chunks), limit_bytes=LIMIT)


@pytest.mark.parametrize(
    "kind", ["Message", "RecordDict", "ConfigRecord", "ArrayRecord", "Array", "ArrayChunk"]
)
@given(garbage=st.binary(max_size=200))
def test_garbage_in_any_part_raises_nothing_but_a_wire_error(kind: str, garbage: bytes) -> None:
    message_id, parts = parts_of(train_content(TASK, MODEL))
    changed = with_part(parts, kind, lambda part: part[: len(part) // 2] + garbage)
    try:
        content = inflate_content(message_id, changed, limit_bytes=LIMIT)
        task, model = parse_train_content(content, parameters=20)
    except WireError:
        return
    # Half of a part and luck: still the agreed types, in the agreed sizes.
    assert task == TASK or kind == "ConfigRecord"
    assert model.shape == (20,)


def test_a_missing_part_is_refused() -> None:
    message_id, parts = parts_of(train_content(TASK, MODEL))
    for name in parts:
        rest = {other: part for other, part in parts.items() if other != name}
        with pytest.raises(WireError):
            inflate_content(message_id, rest, limit_bytes=LIMIT)


def test_a_part_of_another_kind_is_refused() -> None:
    content = train_content(TASK, MODEL)
    content["extra"] = MetricRecord({"loss": 1.0})
    message_id, parts = parts_of(content)
    with pytest.raises(WireError, match="unknown kind"):
        inflate_content(message_id, parts, limit_bytes=LIMIT)


def test_what_flower_can_read_the_protocol_may_still_refuse() -> None:
    wrong = [
        RecordDict({"task": ConfigRecord({"plan": "x"})}),
        RecordDict({"model": ArrayRecord({"vector": Array(MODEL)})}),
        train_content(TASK, MODEL.astype(np.float64)),  # type: ignore[arg-type]
        train_content(TASK, MODEL[:19]),
        train_content(TASK, np.full(20, np.nan, dtype=np.float32)),
    ]
    for content in wrong:
        message_id, parts = parts_of(content)
        read = inflate_content(message_id, parts, limit_bytes=LIMIT)
        with pytest.raises(WireError):
            parse_train_content(read, parameters=20)


def test_the_names_of_parts_are_their_hashes() -> None:
    _, parts = parts_of(train_content(TASK, MODEL))
    assert all(get_object_id(part) == name for name, part in parts.items())
