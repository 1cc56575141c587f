"""The only module of the server that imports Flower's internals.

They move in nearly every release, so `flwr` is pinned to exactly `FLOWER_VERSION`;
tests/server/test_server_flower_port.py holds every name and signature used against the
installed package. `superlink.FLOWER_ENVIRONMENT` must be set before this module is imported:
Flower reads some of it at import.
"""

from typing import Final

from flwr.common.constant import (
    ISOLATION_MODE_PROCESS,
    NOOP_ACCOUNT_NAME,
    NOOP_FLWR_AID,
    TRANSPORT_TYPE_GRPC_RERE,
    Status,
    SubStatus,
)
from flwr.common.event_log_plugin import EventLogWriterPlugin
from flwr.common.serde import user_config_from_proto, user_config_to_proto
from flwr.proto.control_pb2 import (  # pylint: disable=no-name-in-module
    ListNodesRequest,
    ListNodesResponse,
    ListRunsRequest,
    ListRunsResponse,
    RegisterNodeRequest,
    RegisterNodeResponse,
    StartRunRequest,
    StartRunResponse,
    StopRunRequest,
    StopRunResponse,
    UnregisterNodeRequest,
    UnregisterNodeResponse,
)
from flwr.proto.fab_pb2 import Fab
from flwr.supercore.app_utils import start_parent_process_monitor
from flwr.supercore.auth.typing import (
    AccountAuthCredentials,
    AccountAuthLoginDetails,
    AccountInfo,
)
from flwr.supercore.constant import NodeStatus
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.event_log.typing import Actor, Event, LogEntry
from flwr.supercore.http_logging import get_uvicorn_log_config
from flwr.superlink.auth_plugin import ControlAuthnPlugin
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.main import create_app

FLOWER_VERSION: Final = "1.41.0"

__all__ = [
    "FLOWER_VERSION",
    "ISOLATION_MODE_PROCESS",
    "NOOP_ACCOUNT_NAME",
    "NOOP_FLWR_AID",
    "TRANSPORT_TYPE_GRPC_RERE",
    "AccountAuthCredentials",
    "AccountAuthLoginDetails",
    "AccountInfo",
    "Actor",
    "ApiErrorCode",
    "ControlAuthnPlugin",
    "Event",
    "EventLogWriterPlugin",
    "Fab",
    "FlowerError",
    "ListNodesRequest",
    "ListNodesResponse",
    "ListRunsRequest",
    "ListRunsResponse",
    "LogEntry",
    "NodeStatus",
    "RegisterNodeRequest",
    "RegisterNodeResponse",
    "StartRunRequest",
    "StartRunResponse",
    "Status",
    "StopRunRequest",
    "StopRunResponse",
    "SubStatus",
    "SuperLinkLifespan",
    "SuperLinkLifespanConfig",
    "UnregisterNodeRequest",
    "UnregisterNodeResponse",
    "create_app",
    "get_uvicorn_log_config",
    "start_parent_process_monitor",
    "user_config_from_proto",
    "user_config_to_proto",
]
