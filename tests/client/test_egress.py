"""The egress guard: exactly the agreed values leave, and nothing that was hidden beside them."""

import hashlib
import inspect
import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tacitly_client.node import egress
from tacitly_client.node.egress import Address, SealedReply, seal, seal_fault
from tacitly_client.node.egress_journal import EgressError, EgressJournal
from tacitly_client.node.flower_port import (
    ObjectTree,
    ProtoMessage,
    get_object_id,
    inflate_object_from_contents,
    iterate_object_tree,
)
from tacitly_common.secagg.terms import SecaggError
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import Reply, Step, parse_reply_content, parse_step_reply
from tacitly_common.wire.phases import Phase

N = 12
ADDRESS = Address(run_id=7, message_id="a" * 64, node_id=42, created_at=1.8e9, ttl=60.0)
VECTOR = np.arange(N, dtype=np.int32) * 1_000 - 5_000


def ok(update: Any = VECTOR, round_: Any = 3, attempt: Any = 1) -> Reply:
    return Reply(round_, attempt, ReplyCode.OK, update)


def message_of(sealed: SealedReply) -> Message:
    """What the server makes of a sealed reply."""
    tree = ObjectTree.FromString(sealed.tree)
    assert {part.object_id for part in iterate_object_tree(tree)} == set(sealed.objects)
    message = inflate_object_from_contents(tree.object_id, dict(sealed.objects))
    assert isinstance(message, Message)
    return message


@given(hnp.arrays(np.int32, N), st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_the_server_reads_what_was_meant(update: Any, round_: int, attempt: int) -> None:
    sealed = seal(ADDRESS, ok(update, round_, attempt), coordinates=N)
    read = parse_reply_content(message_of(sealed).content, coordinates=N)
    assert (read.round, read.attempt, read.code) == (round_, attempt, ReplyCode.OK)
    np.testing.assert_array_equal(read.update, update)


@pytest.mark.parametrize("code", [code for code in ReplyCode if code is not ReplyCode.OK])
def test_a_refusal_is_three_integers(code: ReplyCode) -> None:
    sealed = seal(ADDRESS, Reply(3, 1, code, None), coordinates=N)
    assert len(sealed.objects) == 3
    content = message_of(sealed).content
    assert parse_reply_content(content, coordinates=N) == Reply(3, 1, code, None)


def nothing(_step: Step) -> None:
    """A check that every step passes."""


def step(phase: Phase, payload: bytes = b"what secagg made") -> Reply:
    return Reply(3, 1, ReplyCode.OK, None, Step(phase, payload))


@pytest.mark.parametrize("phase", Phase)
def test_a_step_is_three_integers_and_its_bytes(phase: Phase) -> None:
    sealed = seal(ADDRESS, step(phase), coordinates=N, check_step=nothing)
    content = message_of(sealed).content
    assert parse_step_reply(content, phase=phase, most_bytes=64) == step(phase)
    assert len(sealed.objects) == (6 if phase is Phase.UPLOAD else 3)
    assert sealed.payload_sha256 == hashlib.sha256(b"what secagg made").hexdigest()


def test_a_plan_that_masks_is_answered_masked_and_no_other_is() -> None:
    with pytest.raises(EgressError, match="masked or not at all"):
        seal(ADDRESS, ok(), coordinates=N, check_step=nothing)
    with pytest.raises(EgressError, match="plan that masks"):
        seal(ADDRESS, step(Phase.SHARE), coordinates=N)
    both = Reply(3, 1, ReplyCode.OK, VECTOR, Step(Phase.UPLOAD, b""))
    with pytest.raises(EgressError, match="and only then"):
        seal(ADDRESS, both, coordinates=N, check_step=nothing)


def test_a_step_that_its_phase_does_not_send_stays_here() -> None:
    def refuse(_step: Step) -> None:
        raise SecaggError("no such message")

    with pytest.raises(EgressError, match="not what its phase sends"):
        seal(ADDRESS, step(Phase.SHARE), coordinates=N, check_step=refuse)
    note: Any = bytearray(b"what was typed")
    with pytest.raises(EgressError, match="not a Step"):
        seal(ADDRESS, step(Phase.SHARE, note), coordinates=N, check_step=nothing)


class Labelled(np.ndarray[Any, Any]):
    """An array that carries more than numbers."""


def hidden_in_a_subclass() -> Any:
    array = VECTOR.copy().view(Labelled)
    array.note = "what was typed"  # type: ignore[attr-defined]
    return array


@pytest.mark.parametrize(
    "update",
    [
        VECTOR[:-1],
        np.append(VECTOR, np.int32(0)),
        VECTOR.reshape(3, 4),
        np.asfortranarray(VECTOR.reshape(3, 4)),
        np.int32(5),
        VECTOR.astype(np.int64),
        VECTOR.astype(np.uint32),
        VECTOR.astype(">i4"),
        VECTOR.astype(np.float32),
        np.full(N, np.nan, dtype=np.float32),
        np.full(N, np.inf),
        VECTOR.astype(object),
        np.array(["what"] * N),
        np.zeros(N, dtype=[("a", "<i4")]),
        np.zeros(N, dtype=[("a", "<i2"), ("b", "<i2")]),
        np.ma.masked_array(VECTOR, mask=VECTOR > 0),
        hidden_in_a_subclass(),
        list(range(N)),
        VECTOR.tobytes(),
        "what was typed",
    ],
    ids=lambda update: f"{type(update).__name__}-{getattr(update, 'dtype', '')}",
)
def test_anything_but_the_agreed_vector_is_refused(update: Any) -> None:
    with pytest.raises(EgressError) as caught:
        seal(ADDRESS, ok(update), coordinates=N)
    assert "typed" not in str(caught.value)


@pytest.mark.parametrize("number", [True, 1.0, "1", None, -1, 2**31, np.int64(3)])
def test_a_round_or_attempt_that_is_no_plain_integer_is_refused(number: Any) -> None:
    for reply in (ok(round_=number), ok(attempt=number)):
        with pytest.raises(EgressError):
            seal(ADDRESS, reply, coordinates=N)


def test_an_update_leaves_with_ok_and_only_then() -> None:
    for reply in (Reply(3, 1, ReplyCode.OK, None), Reply(3, 1, ReplyCode.WRONG_MODEL, VECTOR)):
        with pytest.raises(EgressError, match="only then"):
            seal(ADDRESS, reply, coordinates=N)


def test_a_code_that_is_only_a_number_is_refused() -> None:
    with pytest.raises(EgressError):
        seal(ADDRESS, Reply(3, 1, 10, None), coordinates=N)  # type: ignore[arg-type]


def test_a_reply_of_another_class_is_refused() -> None:
    class Richer(Reply):
        pass

    with pytest.raises(EgressError):
        seal(ADDRESS, Richer(3, 1, ReplyCode.OK, VECTOR), coordinates=N)


def test_the_layout_in_memory_does_not_show_in_the_bytes() -> None:
    """Views, strides and type labels carry data of their own; the same numbers, the same bytes."""
    wide = np.full((N, 2), 77, dtype=np.int32)
    wide[:, 0] = VECTOR
    labelled = VECTOR.astype(np.dtype("<i4", metadata={"note": "what was typed"}))
    plain = seal(ADDRESS, ok(), coordinates=N)
    for update in (wide[:, 0], VECTOR[::-1].copy()[::-1], labelled):
        assert seal(ADDRESS, ok(update), coordinates=N) == plain


def test_two_seals_of_the_same_values_are_the_same_bytes() -> None:
    assert seal(ADDRESS, ok(), coordinates=N) == seal(ADDRESS, ok(VECTOR.copy()), coordinates=N)


def test_the_metadata_is_constants_and_echoes() -> None:
    sealed = seal(ADDRESS, ok(), coordinates=N)
    header = ProtoMessage.FromString(sealed.header)
    set_fields = {field.name: value for field, value in header.metadata.ListFields()}
    assert set_fields == {
        "run_id": 7,
        "message_id": ObjectTree.FromString(sealed.tree).object_id,
        "src_node_id": 42,
        "dst_node_id": 1,
        "reply_to_message_id": "a" * 64,
        "created_at": 1.8e9,
        "ttl": 60.0,
        "message_type": "train",
    }
    assert header.HasField("content")
    assert not header.content.ByteSize()
    assert not header.HasField("error")


@pytest.mark.parametrize("coordinates", [1, 1_000, 105_472])
def test_the_overhead_is_small_and_bounded(coordinates: int) -> None:
    update = np.full(coordinates, 123_456_789, dtype=np.int32)
    sealed = seal(ADDRESS, ok(update), coordinates=coordinates)
    assert 4 * coordinates < sealed.size_bytes < 4 * coordinates + 4_096


def test_a_long_vector_is_sent_in_several_chunks() -> None:
    update = np.arange(1_500_000, dtype=np.int32)
    sealed = seal(ADDRESS, ok(update), coordinates=update.size)
    assert len(sealed.objects) == 7
    read = parse_reply_content(message_of(sealed).content, coordinates=update.size)
    np.testing.assert_array_equal(read.update, update)


def test_equal_chunks_are_sent_once() -> None:
    update = np.zeros(4_000_000, dtype=np.int32)
    sealed = seal(ADDRESS, ok(update), coordinates=update.size)
    assert sealed.size_bytes < update.nbytes


def test_a_fault_is_a_bare_code() -> None:
    sealed = seal_fault(ADDRESS, round_=3, attempt=1)
    read = parse_reply_content(message_of(sealed).content, coordinates=0)
    assert read == Reply(3, 1, ReplyCode.DEVICE_FAULT, None)


def leaks(content: RecordDict) -> None:
    content["reply"]["note"] = "what was typed"  # type: ignore[index]


def adds_a_record(content: RecordDict) -> None:
    content["state"] = ConfigRecord({"text": "what was typed"})


def changes_the_vector(content: RecordDict) -> None:
    array = content["update"]["vector"]  # type: ignore[index]
    array.data = array.data[:-4] + b"typd"


def trails_the_vector(content: RecordDict) -> None:
    array = content["update"]["vector"]  # type: ignore[index]
    array.data += b"what was typed"


def labels_the_vector(content: RecordDict) -> None:
    array = content["update"]["vector"]  # type: ignore[index]
    array.data = array.data.replace(b"<i4'", b"<i4' ").replace(b" \n", b"\n", 1)


@pytest.mark.parametrize(
    "tamper", [leaks, adds_a_record, changes_the_vector, trails_the_vector, labels_the_vector]
)
def test_an_encoder_that_adds_anything_is_caught_before_sending(
    monkeypatch: pytest.MonkeyPatch, tamper: Any
) -> None:
    """The second defence: were `reply_content` itself to put more in, nothing would leave."""
    honest = egress.reply_content
    calls: list[int] = []

    def dishonest(reply: Reply) -> RecordDict:
        content = honest(reply)
        calls.append(1)
        # Only when encoding what is to be sent, not when checking it: the harder case.
        if len(calls) <= 2:
            tamper(content)
        return content

    monkeypatch.setattr(egress, "reply_content", dishonest)
    with pytest.raises(Exception) as caught:  # noqa: PT011 (EgressError or WireError)
        seal(ADDRESS, ok(), coordinates=N)
    assert type(caught.value).__name__ in {"EgressError", "WireError"} | {
        "WrongShapeError",
        "WrongTypeError",
    }


def test_a_leak_that_is_in_every_encoding_is_caught_too(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = egress.reply_content

    def dishonest(reply: Reply) -> RecordDict:
        content = honest(reply)
        adds_a_record(content)
        return content

    monkeypatch.setattr(egress, "reply_content", dishonest)
    with pytest.raises(ValueError, match="exactly the records"):
        seal(ADDRESS, ok(), coordinates=N)


def test_the_guard_is_the_only_maker_of_replies_on_the_device() -> None:
    client = Path(inspect.getfile(egress)).parents[1]
    makers = [
        path.name
        for path in client.rglob("*.py")
        if any(name in path.read_text() for name in ("reply_content(", "SealedReply(\n"))
    ]
    assert makers == ["egress.py"]


def entry(sealed: SealedReply) -> dict[str, Any]:
    return {"plan_hash": "f" * 64, "reply": ok(), "sealed": sealed, "now": 1.8e9}


def test_the_journal_says_what_left(tmp_path: Path) -> None:
    sealed = seal(ADDRESS, ok(), coordinates=N)
    journal = EgressJournal(tmp_path / "egress.jsonl")
    journal.record(**entry(sealed))
    assert json.loads((tmp_path / "egress.jsonl").read_text()) == {
        "time": 1.8e9,
        "plan": "f" * 64,
        "round": 3,
        "attempt": 1,
        "code": "OK",
        "bytes": sealed.size_bytes,
        "sha256": hashlib.sha256(VECTOR.tobytes()).hexdigest(),
    }
    assert stat.S_IMODE((tmp_path / "egress.jsonl").stat().st_mode) == 0o600


def test_the_journal_knows_which_rounds_of_a_plan_were_answered(tmp_path: Path) -> None:
    journal = EgressJournal(tmp_path / "egress.jsonl")
    assert journal.answered("f" * 64) == {}
    for plan, reply in (
        ("f", ok(round_=4, attempt=2)),
        ("f", ok(round_=3, attempt=9)),
        ("f", Reply(9, 0, ReplyCode.WRONG_MODEL, None)),
        ("e", ok(round_=8)),
    ):
        sealed = seal(ADDRESS, reply, coordinates=N)
        journal.record(plan * 64, reply, sealed, now=0.0)
    assert EgressJournal(tmp_path / "egress.jsonl").answered("f" * 64) == {3: 9, 4: 2}


def test_only_the_phase_with_an_update_in_it_answers_a_round(tmp_path: Path) -> None:
    journal = EgressJournal(tmp_path / "egress.jsonl")
    for number, phase in enumerate(Phase, 1):
        reply = Reply(number, 1, ReplyCode.OK, None, Step(phase, b"made"))
        sealed = seal(ADDRESS, reply, coordinates=N, check_step=nothing)
        journal.record("p" * 64, reply, sealed, now=1.0)
    assert journal.answered("p" * 64) == {int(Phase.UPLOAD): 1}


def test_a_torn_line_harms_neither_its_neighbours_nor_the_start(tmp_path: Path) -> None:
    path = tmp_path / "egress.jsonl"
    sealed = seal(ADDRESS, ok(), coordinates=N)
    EgressJournal(path).record(**entry(sealed))
    path.write_bytes(path.read_bytes() + b'{"time": 1.8e9, "pl')
    EgressJournal(path).record(**entry(sealed))
    first, torn, last = path.read_bytes().splitlines()
    assert first == last != torn
    assert EgressJournal(path).answered("f" * 64) == {3: 1}


def test_a_full_disk_stops_the_message_and_says_so() -> None:
    sealed = seal(ADDRESS, ok(), coordinates=N)
    with pytest.raises(EgressError, match="No space left on device"):
        EgressJournal(Path("/dev/full")).record(**entry(sealed))


def test_object_names_are_hashes_of_what_is_sent() -> None:
    sealed = seal(ADDRESS, ok(), coordinates=N)
    assert all(get_object_id(content) == name for name, content in sealed.objects.items())
