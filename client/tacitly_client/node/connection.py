"""One device's connection to a SuperLink: Flower's Fleet calls in the order the agent needs them.

    connect -> pull -> claims -> fetch -> confirm -> push -> ... -> disconnect
    heartbeat: beside them, from its own thread

Every method raises FleetError (try again later) or WithdrawnError (nothing to answer any more)
and no other exception for what the network or the server does. Nothing here ends the process,
keeps a program of the server's, or opens a port.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import RecordDict

from tacitly_client.node.backoff import Trouble
from tacitly_client.node.contents import inflate_content
from tacitly_client.node.egress import Address, SealedReply
from tacitly_client.node.flower_port import (
    HEARTBEAT_MAX_INTERVAL,
    HEARTBEAT_MIN_INTERVAL,
    ActivateNodeRequest,
    ConfirmMessageReceivedRequest,
    DeactivateNodeRequest,
    GetRunRequest,
    Node,
    ObjectTree,
    ProtoMessage,
    PullMessagesRequest,
    PullObjectRequest,
    PushMessagesRequest,
    PushObjectRequest,
    SendNodeHeartbeatRequest,
    get_object_id,
    iterate_object_tree,
    public_key_to_bytes,
)
from tacitly_client.node.policy import Offer
from tacitly_client.node.transport import (
    FleetError,
    OversizeError,
    ServerClock,
    Transport,
    WithdrawnError,
)
from tacitly_common.errors import ValidationError
from tacitly_common.wire.messages import WireError

# Beside arrays: metadata, names, hashes, the parts' heads.
_OVERHEAD_BYTES: Final = 65_536
# A train message has five objects besides the model's chunks.
_OBJECTS_BESIDE_CHUNKS: Final = 5
_SMALLEST_FULL_CHUNK_BYTES: Final = 262_144
# A server asks for replies every few seconds while a round is open.
_COLLECTED_SECONDS: Final = 20.0

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


@dataclass(frozen=True, slots=True)
class Instruction:
    """A message for this device, without its content. Every value is the server's claim."""

    address: Address
    message_type: str
    object_ids: tuple[str, ...]

    @property
    def expires_at(self) -> float:
        """Server time after which no answer is taken."""
        return self.address.created_at + self.address.ttl


class Connection:
    """See the module."""

    def __init__(
        self,
        server: str,
        *,
        ca_certificate: Path,
        key: ec.EllipticCurvePrivateKey,
        node_id_file: Path,
        heartbeat_seconds: float,
        clock: ServerClock | None = None,
    ) -> None:
        if not HEARTBEAT_MIN_INTERVAL <= heartbeat_seconds <= HEARTBEAT_MAX_INTERVAL:
            raise ValidationError(
                f"heartbeat_seconds must lie in [{HEARTBEAT_MIN_INTERVAL}, "
                f"{HEARTBEAT_MAX_INTERVAL}], got {heartbeat_seconds}"
            )
        self.clock = clock or ServerClock()
        self._heartbeat_seconds = heartbeat_seconds
        self._node_id_file = node_id_file
        self._public_key = public_key_to_bytes(key.public_key())
        self._transport = Transport(
            server,
            ca_certificate=ca_certificate,
            key=key,
            clock=self.clock,
            max_response_bytes=_OVERHEAD_BYTES,
        )
        self._node: Node | None = None
        self._pushed_at = 0.0
        self.expect(array_bytes=0)

    def expect(self, *, array_bytes: int) -> None:
        """From now on a message may hold arrays of so many bytes, and little else."""
        self._largest_message_bytes = array_bytes + _OVERHEAD_BYTES
        self._most_objects = _OBJECTS_BESIDE_CHUNKS + 1 + array_bytes // _SMALLEST_FULL_CHUNK_BYTES
        self._transport.max_response_bytes = self._largest_message_bytes

    def connect(self) -> None:
        """Come online.

        The server refuses a node that it still believes online (412), which a killed process
        leaves behind for two heartbeats. Its number lies in `node_id_file` then, and a heartbeat
        under that number takes the place over at once.
        """
        request = ActivateNodeRequest(
            public_key=self._public_key, heartbeat_interval=self._heartbeat_seconds
        )
        try:
            node_id = self._call(self._transport.ActivateNode, request).node_id
        except FleetError as error:
            left_behind = self._left_behind()
            if error.trouble is not Trouble.STILL_ONLINE or left_behind is None:
                raise
            self._node = Node(node_id=left_behind)
            try:
                self.heartbeat()
            except FleetError:
                self._node = None
                raise error from None
            return
        self._node_id_file.write_text(f"{node_id}\n")
        self._node = Node(node_id=node_id)

    def _left_behind(self) -> int | None:
        try:
            return int(self._node_id_file.read_text())
        except (OSError, ValueError):
            return None

    @property
    def connected(self) -> bool:
        """Whether `connect` succeeded and the server still takes what it gave."""
        return self._node is not None

    def heartbeat(self) -> None:
        """Tell the server that this device is there; also brings it back after it was not."""
        if self._node is None:
            return
        request = SendNodeHeartbeatRequest(
            node=self._node, heartbeat_interval=self._heartbeat_seconds
        )
        if not self._call(self._transport.SendNodeHeartbeat, request).success:
            # The server knows no such node any more: an operator must register it again.
            raise FleetError(Trouble.UNAUTHENTICATED)

    def pull(self) -> Instruction | None:
        """The next message, if there is one. The server gives a message once."""
        try:
            response = self._call(
                self._transport.PullMessages, PullMessagesRequest(node=self._node)
            )
        except FleetError as error:
            if error.trouble is Trouble.UNAUTHENTICATED:
                # Perhaps the server was set up anew and knows this key under another number.
                self._node = None
            raise
        if not response.messages_list:
            return None
        if len(response.messages_list) != 1 or len(response.message_object_trees) != 1:
            raise FleetError(Trouble.PROTOCOL)
        metadata = response.messages_list[0].metadata
        tree = response.message_object_trees[0]
        ids = tuple(dict.fromkeys(part.object_id for part in iterate_object_tree(tree)))
        if tree.object_id != metadata.message_id:
            raise FleetError(Trouble.PROTOCOL)
        return Instruction(
            address=Address(
                run_id=metadata.run_id,
                message_id=metadata.message_id,
                node_id=self._node.node_id if self._node else 0,
                created_at=metadata.created_at,
                ttl=metadata.ttl,
            ),
            message_type=metadata.message_type,
            object_ids=ids,
        )

    def claims(self, instruction: Instruction) -> Offer:
        """What the message's run says it is. The run's configuration is not read."""
        request = GetRunRequest(node=self._node, run_id=instruction.address.run_id)
        run = self._call(self._transport.GetRun, request).run
        return Offer(run.fab_hash, run.primary_task_type, instruction.message_type)

    def fetch(self, instruction: Instruction, received: dict[str, bytes]) -> RecordDict:
        """The content of a message.

        `received` keeps what has arrived, so that a second call fetches only the rest.

        Raises:
            WireError: too many or too large parts, or not what Flower's formats say.
        """
        if len(instruction.object_ids) > self._most_objects:
            raise WireError("the message has too many parts")
        for object_id in instruction.object_ids:
            if object_id not in received:
                received[object_id] = self._pull_object(instruction.address.run_id, object_id)
            if sum(map(len, received.values())) > self._largest_message_bytes:
                raise WireError("the message is larger than the plan allows")
        return inflate_content(
            instruction.address.message_id, received, limit_bytes=self._largest_message_bytes
        )

    def _pull_object(self, run_id: int, object_id: str) -> bytes:
        request = PullObjectRequest(node=self._node, run_id=run_id, object_id=object_id)
        try:
            response = self._call(self._transport.PullObject, request)
        except OversizeError:
            raise WireError("a part of the message is larger than the plan allows") from None
        if not response.object_found:
            raise WithdrawnError("the server does not have the message any more")
        if not response.object_available:
            raise FleetError(Trouble.PENDING)
        content: bytes = response.object_content
        if get_object_id(content) != object_id:
            raise WireError("a part of the message is not what its hash says")
        return content

    def confirm(self, instruction: Instruction) -> None:
        """Tell the server that it may forget the message's content."""
        request = ConfirmMessageReceivedRequest(
            node=self._node,
            run_id=instruction.address.run_id,
            message_object_id=instruction.address.message_id,
        )
        self._call(self._transport.ConfirmMessageReceived, request)

    def push(self, reply: SealedReply) -> None:
        """Send a sealed reply. May be repeated with the same one: the server takes it once."""
        request = PushMessagesRequest(
            node=self._node,
            messages_list=[ProtoMessage.FromString(reply.header)],
            message_object_trees=[ObjectTree.FromString(reply.tree)],
        )
        response = self._call(self._transport.PushMessages, request)
        wanted = set(response.objects_to_push)
        self._pushed_at = self.clock.now()
        for object_id, content in reply.objects.items():
            if object_id in wanted:
                self._push_object(reply.run_id, response.session_id, object_id, content)

    def _push_object(self, run_id: int, session_id: str, object_id: str, content: bytes) -> None:
        request = PushObjectRequest(
            node=self._node,
            run_id=run_id,
            object_id=object_id,
            object_content=content,
            session_id=session_id,
        )
        if not self._call(self._transport.PushObject, request).stored:
            # The push session lapsed; a new `push` opens another.
            raise FleetError(Trouble.PENDING)

    def disconnect(self) -> None:
        """Go offline, so that the next start is not refused, and close. Errors are of no use.

        The server throws away an offline node's replies that it has not collected. After a
        recent reply a last, shortest heartbeat keeps the node online for 20 seconds instead.
        """
        try:
            if self._node is None:
                pass
            elif self.clock.now() - self._pushed_at < _COLLECTED_SECONDS:
                self._heartbeat_seconds = HEARTBEAT_MIN_INTERVAL
                self.heartbeat()
            else:
                request = DeactivateNodeRequest(node_id=self._node.node_id)
                self._call(self._transport.DeactivateNode, request)
                self._node_id_file.unlink(missing_ok=True)
        except (FleetError, WithdrawnError):
            pass
        finally:
            self._node = None
            self._transport.close()

    def _call(self, method: Callable[[_Request], _Response], request: _Request) -> _Response:
        try:
            return method(request)
        except ValueError:
            # Flower's client raises it for an answer that is not the expected protobuf.
            raise FleetError(Trouble.PROTOCOL) from None
