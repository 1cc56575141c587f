"""The only module of the server that imports Flower's internals.

They move in nearly every release, so `flwr` is pinned to exactly `FLOWER_VERSION`;
tests/server/test_server_flower_port.py holds every name and signature used against the
installed package. What only SuperLink needs is imported when it is asked for: a client of the
Control API starts in half the time without it. `superlink.FLOWER_ENVIRONMENT` must be set
before `superlink_app` is called: Flower reads some of it at import.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID, Status, SubStatus
from flwr.common.event_log_plugin import EventLogWriterPlugin
from flwr.common.serde import user_config_from_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
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
from flwr.supercore.auth.typing import (
    AccountAuthCredentials,
    AccountAuthLoginDetails,
    AccountInfo,
)
from flwr.supercore.constant import NodeStatus
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.event_log.typing import Actor, Event, LogEntry
from flwr.superlink.auth_plugin import ControlAuthnPlugin

if TYPE_CHECKING:
    from starlette.types import ASGIApp

FLOWER_VERSION: Final = "1.41.0"

__all__ = [
    "FLOWER_VERSION",
    "NOOP_ACCOUNT_NAME",
    "NOOP_FLWR_AID",
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
    "UnregisterNodeRequest",
    "UnregisterNodeResponse",
    "refusal",
    "run_superexec",
    "superlink_app",
    "user_config_from_proto",
    "user_config_to_proto",
    "uvicorn_log_config",
]


def refusal(body: str) -> tuple[str, str] | None:
    """The name and the text of the refusal in an error answer of the Control API."""
    error = FlowerError.from_json(body)
    return (ApiErrorCode(error.code).name, error.message) if error is not None else None


def superlink_app(
    *,
    host: str,
    port: int,
    tls: Path,
    database: Path,
    superexec_secret: bytes,
    authentication: ControlAuthnPlugin,
    control_log: EventLogWriterPlugin,
    fleet_log: EventLogWriterPlugin,
) -> "ASGIApp":
    """Flower's SuperLink as an ASGI application.

    Node authentication on, process isolation with the SuperExec secret, no installation of a
    bundle's dependencies, no older API beside it.
    """
    from flwr.common.constant import ISOLATION_MODE_PROCESS, TRANSPORT_TYPE_GRPC_RERE
    from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
    from flwr.superlink.config_loader import SuperLinkLifespanConfig
    from flwr.superlink.main import create_app

    config = SuperLinkLifespanConfig(
        control_address="",
        health_server_address=None,
        host=host,
        port=port,
        insecure=False,
        certificates=(
            (tls / "ca.crt").read_bytes(),
            (tls / "server.crt").read_bytes(),
            (tls / "server.key").read_bytes(),
        ),
        superexec_auth_secret=superexec_secret,
        authn_plugin=authentication,
        event_log_plugin=control_log,
        fleet_event_log_plugin=fleet_log,
        enable_event_log=True,
        artifact_provider=None,
        enable_supernode_auth=True,
        fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
        fleet_api_address=None,
        simulation=False,
        ssl_ca_certfile=str(tls / "ca.crt"),
        ssl_certfile=str(tls / "server.crt"),
        ssl_keyfile=str(tls / "server.key"),
        database=str(database),
        isolation=ISOLATION_MODE_PROCESS,
        runtime_dependency_install=False,
    )
    return create_app(config, SuperLinkLifespan)


def run_superexec(address: str, ca_certificate: Path, secret: bytes) -> None:
    """Flower's SuperExec, until a signal. Nobody can dump its memory; it installs nothing."""
    from flwr.supercore.superexec.run_superexec import run_superexec as run
    from flwr.supercore.utils import disable_process_dumping

    disable_process_dumping(strict=False)
    run(
        runtime_api_address=address,
        insecure=False,
        root_certificates_path=str(ca_certificate),
        superexec_auth_secret=secret,
        runtime_dependency_install=False,
    )


def uvicorn_log_config(level: int) -> dict[str, Any]:
    """Flower's logging of HTTP requests: routine calls that succeed are left out."""
    from flwr.supercore.http_logging import get_uvicorn_log_config

    return get_uvicorn_log_config(level)
