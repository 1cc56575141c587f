"""The egress guard: everything that leaves this device as a reply is made here, and only here.

For the auditor. The claim: **the bytes of a reply are a function of (round, attempt, code) and,
if the code is OK, of one int32 vector of exactly the plan's length or, if the plan masks, of one
step of the masking protocol and nothing but that, and of identifiers the server itself chose.**
How this module makes it true:

1. `seal` takes those values alone, checks their exact types and copies the vector's numbers into
   a new array: no subclass, view, other memory order, other type, label or hidden attribute of
   the caller's array survives (a float, and with it NaN or infinity, is refused as a type).
   Whoever calls says by `check_step` that the plan masks: then no update passes, only a step that
   the strict parser of its phase reads (`secagg/messages.py`: lengths fixed by the plan, no field
   that is free). Without it no step passes.
2. It builds the content with `wire.messages.reply_content` and Flower's message around it.
3. It serialises, then reads its own bytes back with the server's parser, compares every value,
   and serialises what was read a second time: the two must be equal byte for byte. So the bytes
   hold nothing that is not in the values.
4. It counts: exactly these Flower objects, by type, and no more bytes than they can need.
5. `EgressJournal` (egress_journal.py) writes one line, on the disk before the first byte is sent,
   for the person to read: when, which round, how many bytes, and the SHA-256 of the vector or step.
   Any failure in 1 to 4 is an `EgressError`: nothing is sent. The caller then seals the bare
   code DEVICE_FAULT instead; the text of an exception has no way out (Flower's own
   `Error(code, reason)`, which carries it in the stock client, is not used at all).

Flower's message carries these other fields; all are constants or echoes of the server's message:

| field | value here |
|---|---|
| run_id, reply_to_message_id | echo |
| src_node_id | the number the server gave this device |
| dst_node_id | 1, the SuperLink |
| message_id | SHA-256 of the message object |
| message_type | "train" |
| created_at, ttl | echo: not this device's clock, and no hint of how long training took |
| group_id, src_task_id, dst_task_id, delivered_at | empty |
| error | absent |
| clientapp_runtime_list (in PushMessages) | empty: the stock client reports its run time here |

Not covered by the bytes: when they are sent, and from which network address. The time between
task and reply grows with the machine's slowness, but also with the number of stored events and
of training windows (up to the plan's `max_windows`): a server that times many rounds learns about
how much a person works. Nothing accounts for that yet.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from flwr.app import Message, RecordDict
from numpy.typing import NDArray

from tacitly_client.node.egress_journal import EgressError
from tacitly_client.node.flower_port import (
    SUPERLINK_NODE_ID,
    Metadata,
    get_all_nested_objects,
    get_object_head_values_from_object_content,
    get_object_id,
    get_object_tree,
    inflate_object_from_contents,
    make_message,
    message_to_proto,
)
from tacitly_common.errors import TacitlyError
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import (
    TRAIN,
    Reply,
    Step,
    parse_reply_content,
    parse_step_reply,
    reply_content,
)
from tacitly_common.wire.phases import Phase

_REFUSAL_OBJECTS: Final = {"Message": 1, "RecordDict": 1, "ConfigRecord": 1}
_UPDATE_OBJECTS: Final = {**_REFUSAL_OBJECTS, "ArrayRecord": 1, "Array": 1}
# numpy's header is 128 bytes; names, hashes and metadata of six objects stay below this.
_OVERHEAD_BYTES: Final = 4_096
_NUMPY_HEADER_BYTES: Final = 128
_LARGEST_INTEGER: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Address:
    """Which message is answered. All values are the server's own."""

    run_id: int
    message_id: str
    node_id: int
    created_at: float
    ttl: float


@dataclass(frozen=True, slots=True)
class SealedReply:
    """A reply as bytes, ready to send. Only `seal` makes one.

    `header` is Flower's `Message` protobuf without content, `tree` its `ObjectTree`, `objects`
    the content-addressed parts by id.
    """

    run_id: int
    header: bytes
    tree: bytes
    objects: dict[str, bytes]
    payload_sha256: str

    @property
    def size_bytes(self) -> int:
        """Bytes of content: header, tree and objects."""
        return len(self.header) + len(self.tree) + sum(map(len, self.objects.values()))


def seal(
    address: Address,
    reply: Reply,
    *,
    coordinates: int,
    check_step: Callable[[Step], None] | None = None,
) -> SealedReply:
    """The bytes of a reply, proven to hold `reply` and nothing else.

    Args:
        address: the message that is answered.
        reply: an update, int32[coordinates], or a step, exactly if the code is OK.
        coordinates: `plan.model.trainable_parameters`.
        check_step: exactly if the plan masks: raises if a step is not what its phase sends.

    Raises:
        EgressError: a value is not of its exact type or range, or the bytes hold anything else.
    """
    clean = _checked(reply, coordinates, check_step)
    objects = _serialised(address, clean)
    message_id, message = _message(address, reply_content(clean))
    sealed = SealedReply(
        run_id=address.run_id,
        header=_header(address, message_id),
        tree=get_object_tree(message).SerializeToString(deterministic=True),
        objects=objects,
        payload_sha256=_sha256(_payload(clean)) if clean.code is ReplyCode.OK else "",
    )
    _verify(sealed, message_id, address, clean, coordinates)
    return sealed


def seal_fault(address: Address, *, round_: int, attempt: int) -> SealedReply:
    """The bare answer DEVICE_FAULT: what leaves when something went wrong on this device."""
    reply = Reply(round_, attempt, ReplyCode.DEVICE_FAULT, None)
    return seal(address, reply, coordinates=0)


def _checked(reply: Reply, coordinates: int, check_step: Callable[[Step], None] | None) -> Reply:
    """Step 1: a reply of fresh values of exact types."""
    if type(reply) is not Reply or type(reply.code) is not ReplyCode:
        raise EgressError("the reply is not a Reply")
    for number in (reply.round, reply.attempt):
        # `type(...) is`: True is an int to isinstance.
        if type(number) is not int or not 0 <= number <= _LARGEST_INTEGER:
            raise EgressError("round and attempt must be integers in [0, 2^31)")
    given = [each for each in (reply.update, reply.step) if each is not None]
    if len(given) != (reply.code is ReplyCode.OK):
        raise EgressError("one update or step leaves with code OK and only then")
    if reply.step is not None:
        return Reply(reply.round, reply.attempt, reply.code, None, _same(reply.step, check_step))
    if reply.update is None:
        return Reply(reply.round, reply.attempt, reply.code, None)
    if check_step is not None:
        raise EgressError("an update of a plan that masks leaves masked or not at all")
    return Reply(reply.round, reply.attempt, reply.code, _fresh(reply.update, coordinates))


def _same(step: Step, check_step: Callable[[Step], None] | None) -> Step:
    """A step of exact types that the protocol's parser reads."""
    if check_step is None:
        raise EgressError("a step leaves only for a plan that masks")
    if type(step) is not Step or type(step.phase) is not Phase or type(step.payload) is not bytes:
        raise EgressError("the step is not a Step")
    try:
        check_step(step)
    except TacitlyError:
        raise EgressError("the step is not what its phase sends") from None
    return Step(step.phase, step.payload)


def _fresh(update: NDArray[np.int32], coordinates: int) -> NDArray[np.int32]:
    """A plain, contiguous, little-endian copy of int32[coordinates] and of its numbers alone."""
    if type(update) is not np.ndarray:
        raise EgressError("the update must be a plain numpy array")
    # `str` also tells the byte order; `==` between dtypes would accept structured aliases.
    if update.dtype.str != "<i4" or update.dtype.fields is not None:
        raise EgressError("the update must be int32")
    if update.shape != (coordinates,) or coordinates < 1:
        raise EgressError(f"the update must have exactly {coordinates} coordinates")
    return np.frombuffer(update.tobytes(), dtype="<i4").copy()


def _message(address: Address, content: RecordDict) -> tuple[str, Message]:
    """Step 2: Flower's message around the content, and its id."""
    message = make_message(metadata=_metadata(address, message_id=""), content=content)
    return message.object_id, message


def _metadata(address: Address, *, message_id: str) -> Metadata:
    return Metadata(
        run_id=address.run_id,
        message_id=message_id,
        src_node_id=address.node_id,
        dst_node_id=SUPERLINK_NODE_ID,
        reply_to_message_id=address.message_id,
        group_id="",
        created_at=address.created_at,
        ttl=address.ttl,
        message_type=TRAIN,
    )


def _header(address: Address, message_id: str) -> bytes:
    metadata = _metadata(address, message_id=message_id)
    empty = make_message(metadata=metadata, content=RecordDict())
    document: bytes = message_to_proto(empty).SerializeToString(deterministic=True)
    return document


def _serialised(address: Address, reply: Reply) -> dict[str, bytes]:
    """Step 3, first half: every object of the message as bytes, by the SHA-256 of the bytes."""
    _, message = _message(address, reply_content(reply))
    return {name: part.deflate() for name, part in get_all_nested_objects(message).items()}


def _verify(
    sealed: SealedReply, message_id: str, address: Address, reply: Reply, coordinates: int
) -> None:
    """Steps 3 and 4: the bytes say `reply`, and `reply` alone."""
    objects = sealed.objects
    if any(get_object_id(content) != name for name, content in objects.items()):
        raise EgressError("an object's name is not its hash")
    read = inflate_object_from_contents(message_id, dict(objects))
    if not isinstance(read, Message) or read.has_error():
        raise EgressError("the bytes are not a message")
    _, expected = _message(address, RecordDict())
    if vars(read.metadata) != vars(expected.metadata):
        raise EgressError("the bytes carry other metadata")
    if reply.step is None:
        said = parse_reply_content(read.content, coordinates=coordinates)
    else:
        said = parse_step_reply(
            read.content, phase=reply.step.phase, most_bytes=len(reply.step.payload)
        )
    if (said.round, said.attempt, said.code) != (reply.round, reply.attempt, reply.code):
        raise EgressError("the bytes say another round, attempt or code")
    if _payload(said) != _payload(reply):
        raise EgressError("the bytes carry another vector or step")
    if _serialised(address, said) != objects:
        raise EgressError("the bytes carry more than was said")
    _verify_amount(objects, reply)


def _verify_amount(objects: dict[str, bytes], reply: Reply) -> None:
    types = Counter(get_object_head_values_from_object_content(o)[0] for o in objects.values())
    chunks = types.pop("ArrayChunk", 0)
    if types != (_UPDATE_OBJECTS if reply.holds_update else _REFUSAL_OBJECTS):
        raise EgressError("the message holds other objects than a reply has")
    vector_bytes = _NUMPY_HEADER_BYTES + len(_payload(reply))
    # Every chunk has its own short head; Flower cuts at 5 MB.
    allowed = vector_bytes + _OVERHEAD_BYTES * (1 + chunks)
    if sum(map(len, objects.values())) > allowed:
        raise EgressError("the message is larger than a reply can be")


def _payload(reply: Reply) -> bytes:
    if reply.step is not None:
        return reply.step.payload
    return b"" if reply.update is None else reply.update.tobytes()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
