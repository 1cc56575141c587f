"""The installed Flower is the one this device was written against, name by name."""

import ast
import inspect
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from flwr.supercore.protobuf.client import ProtobufClient

from tacitly_client.node import flower_port

CLIENT = Path(inspect.getfile(flower_port)).parents[1]
PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp"}


def test_the_installed_version_is_the_pinned_one() -> None:
    assert version("flwr") == flower_port.FLOWER_VERSION == "1.41.0"


@pytest.mark.parametrize("name", flower_port.__all__)
def test_every_listed_name_exists(name: str) -> None:
    assert getattr(flower_port, name) is not None


def imported_modules(source: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.split(".")[0] == "flwr"}


def test_no_other_module_of_the_client_imports_an_internal() -> None:
    internal = {
        str(path.relative_to(CLIENT)): names
        for path in CLIENT.rglob("*.py")
        if (names := imported_modules(path) - PUBLIC)
    }
    assert set(internal) == {"node/flower_port.py"}


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (flower_port.make_message, ["metadata", "content", "error"]),
        (flower_port.get_object_id, ["object_content"]),
        (flower_port.get_object_tree, ["obj"]),
        (flower_port.get_all_nested_objects, ["obj"]),
        (flower_port.iterate_object_tree, ["tree"]),
        (flower_port.get_object_head_values_from_object_content, ["object_content"]),
        (
            flower_port.inflate_object_from_contents,
            ["object_id", "object_contents", "keep_object_contents", "objects"],
        ),
        (flower_port.message_to_proto, ["message"]),
        (flower_port.sign_message, ["private_key", "message"]),
        (flower_port.public_key_to_bytes, ["public_key"]),
        (flower_port.FlowerError.from_json, ["value"]),
        # What `Transport` overrides and what calls it.
        (
            ProtobufClient.__init__,
            ["self", "base_url", "interceptors", "verify", "timeout", "retry_invoker"],
        ),
        (ProtobufClient._send, ["self", "context", "stream"]),
    ],
)
def test_functions_take_what_the_device_gives_them(function: object, parameters: list[str]) -> None:
    assert callable(function)
    assert list(inspect.signature(function).parameters) == parameters


def test_the_client_sends_through_the_attribute_that_the_transport_replaces() -> None:
    with ProtobufClient("https://127.0.0.1:1") as client:
        assert isinstance(client._client, httpx.Client)
        assert not client._interceptors


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (flower_port.ActivateNodeRequest, ["public_key", "heartbeat_interval"]),
        (flower_port.DeactivateNodeRequest, ["node_id"]),
        (flower_port.SendNodeHeartbeatRequest, ["node", "heartbeat_interval"]),
        (flower_port.PullMessagesRequest, ["node", "message_ids"]),
        (flower_port.GetRunRequest, ["node", "run_id"]),
        (flower_port.PullObjectRequest, ["node", "run_id", "object_id"]),
        (flower_port.ConfirmMessageReceivedRequest, ["node", "run_id", "message_object_id"]),
        (
            flower_port.PushMessagesRequest,
            ["node", "messages_list", "message_object_trees", "clientapp_runtime_list"],
        ),
        (
            flower_port.PushObjectRequest,
            ["node", "run_id", "object_id", "object_content", "session_id"],
        ),
        # What leaves in a reply besides its content: `egress.py` lists each of these.
        (flower_port.ProtoMessage, ["metadata", "content", "error"]),
    ],
)
def test_requests_have_exactly_the_known_fields(message: type, fields: list[str]) -> None:
    assert [field.name for field in message.DESCRIPTOR.fields] == fields  # type: ignore[attr-defined]


def test_the_metadata_of_a_message_has_exactly_the_known_fields() -> None:
    assert set(inspect.signature(flower_port.Metadata.__init__).parameters) - {"self"} == {
        "run_id",
        "message_id",
        "src_node_id",
        "dst_node_id",
        "reply_to_message_id",
        "group_id",
        "created_at",
        "ttl",
        "message_type",
        "src_task_id",
        "dst_task_id",
    }


def test_the_constants_that_decisions_rest_on_are_what_they_were() -> None:
    assert flower_port.TaskType.SERVER_APP.value == "flwr-serverapp"
    assert flower_port.SUPERLINK_NODE_ID == 1
    assert (flower_port.SYSTEM_TIME_TOLERANCE, flower_port.TIMESTAMP_TOLERANCE) == (5, 300)
    assert (flower_port.HEARTBEAT_MIN_INTERVAL, flower_port.HEARTBEAT_MAX_INTERVAL) == (10, 1800)
    assert flower_port.ApiErrorCode.FLEET_RUN_STATUS_NOT_ALLOWED == 2007
