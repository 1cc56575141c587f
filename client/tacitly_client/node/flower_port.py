"""Everything of Flower's internals that the device uses, and nothing else imports them.

Flower moves these in nearly every release, so the package is pinned exactly and
`tests/client/test_node_flower_port.py` holds this list against the installed version. To move to
another version: change the pin, run that test, read the differences of the files named here.

Not used on purpose: `flwr.supernode.fleet_http_connection.http_request_response` and
`flwr.supercore.retry`, which end the process on HTTP 401 and 412, and `GetFab`, which brings a
program of the server's onto the device.
"""

from typing import Final

from flwr.app.message.message import make_message
from flwr.app.metadata import Metadata
from flwr.common.constant import (
    HEARTBEAT_CALL_TIMEOUT,
    HEARTBEAT_MAX_INTERVAL,
    HEARTBEAT_MIN_INTERVAL,
    SUPERLINK_NODE_ID,
    SYSTEM_TIME_TOLERANCE,
    TIMESTAMP_HEADER,
    TIMESTAMP_TOLERANCE,
)
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    TaskType,
)
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_head_values_from_object_content,
    get_object_id,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supercore.protobuf.client import ProtobufRequestContext
from flwr.supernode.fleet_http_client import FleetHttpClient

FLOWER_VERSION: Final = "1.41.0"

__all__ = [
    "FLEET_HTTP_PUBLIC_KEY_HEADER",
    "FLEET_HTTP_SIGNATURE_HEADER",
    "FLOWER_VERSION",
    "HEARTBEAT_CALL_TIMEOUT",
    "HEARTBEAT_MAX_INTERVAL",
    "HEARTBEAT_MIN_INTERVAL",
    "SUPERLINK_NODE_ID",
    "SYSTEM_TIME_TOLERANCE",
    "TIMESTAMP_HEADER",
    "TIMESTAMP_TOLERANCE",
    "ActivateNodeRequest",
    "ApiErrorCode",
    "ConfirmMessageReceivedRequest",
    "DeactivateNodeRequest",
    "FleetHttpClient",
    "FlowerError",
    "GetRunRequest",
    "Metadata",
    "Node",
    "ObjectTree",
    "ProtoMessage",
    "ProtobufRequestContext",
    "PullMessagesRequest",
    "PullObjectRequest",
    "PushMessagesRequest",
    "PushObjectRequest",
    "SendNodeHeartbeatRequest",
    "TaskType",
    "get_all_nested_objects",
    "get_object_head_values_from_object_content",
    "get_object_id",
    "get_object_tree",
    "inflate_object_from_contents",
    "iterate_object_tree",
    "make_message",
    "message_to_proto",
    "public_key_to_bytes",
    "sign_message",
]
