"""Our SuperLink: Flower's server application with the doors shut.

    python -m tacitly_server.superlink --home DIR --host H --port P

Stock Flower lets anybody who reaches the port register nodes, start runs and take the ServerApp's
task. This entry gives Flower's own application a bearer token for the Control API, the SuperExec
secret for the Runtime API, an audit log and TLS, and serves it behind `RequestGuard`.
"""

import argparse
import ipaddress
import logging
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tacitly_common.errors import TacitlyError, ValidationError
from tacitly_common.processes import allow_many_files, end_with_parent
from tacitly_server import certificates
from tacitly_server.home import ServerHome
from tacitly_server.private_files import read_private
from tacitly_server.request_guard import FLEET, OPERATOR_ADDRESS, RequestGuard, RequestLimits

if TYPE_CHECKING:
    from starlette.types import ASGIApp


# Flower reads these when it is imported: no telemetry, no look for updates, no installation of a
# bundle's dependencies, no second API over gRPC, no other sign-in.
FLOWER_ENVIRONMENT: Final[Mapping[str, str]] = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_INTERNAL_GRPC_FLEET_API": "0",
    "FLWR_INTERNAL_GRPC_CONTROL_API": "0",
    "FLWR_OIDC_ENABLED": "0",
}
_HEADER_BYTES: Final = 16 * 1024
_SHUTDOWN_SECONDS: Final = 3
_CONNECTIONS: Final = 1000
_LOG_LEVEL: Final = logging.INFO


@dataclass(frozen=True, slots=True)
class Secrets:
    """What SuperLink is given from files of mode 0600."""

    control_token: bytes
    superexec_secret: bytes

    def __repr__(self) -> str:
        return "Secrets()"


def read_secrets(home: ServerHome) -> Secrets:
    """The secrets of an initialised server.

    Raises:
        ValidationError: missing or readable by others.
    """
    return Secrets(read_private(home.control_token).strip(), read_private(home.superexec_secret))


def superlink_app(
    home: ServerHome, secrets: Secrets, limits: RequestLimits, *, host: str, port: int
) -> "ASGIApp":
    """Flower's application with our authentication and audit log, behind our guard."""
    from tacitly_server import flower_port as flower
    from tacitly_server.audit import AuditLog
    from tacitly_server.superlink_plugins import CallLog, TokenAuthentication

    audit, fleet_log = AuditLog(home.audit_log), AuditLog(home.fleet_log)

    def refused(status: int, path: str, client: str, arrival: str) -> None:
        operators = arrival == OPERATOR_ADDRESS and not path.startswith(FLEET)
        (audit if operators else fleet_log).refused(status, path, client, arrival)

    app = flower.superlink_app(
        host=host,
        port=port,
        tls=home.tls,
        database=home.superlink_database,
        superexec_secret=secrets.superexec_secret,
        authentication=TokenAuthentication(secrets.control_token),
        control_log=CallLog(audit),
        fleet_log=CallLog(fleet_log),
    )
    return RequestGuard(app, limits, refused)


def listening_at(host: str) -> list[str]:
    """The address and, if it is not covered by that, 127.0.0.1."""
    return [host] if host in {OPERATOR_ADDRESS, "0.0.0.0"} else [host, OPERATOR_ADDRESS]  # noqa: S104


def bind_all(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to each of `listening_at`.

    Raises:
        ValidationError: in use, not this machine's, or not an address.
    """
    sockets: list[socket.socket] = []
    try:
        sockets.extend(_bind(one, port) for one in listening_at(host))
    except ValidationError:
        for bound in sockets:
            bound.close()
        raise
    return sockets


def _bind(host: str, port: int) -> socket.socket:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        raise ValidationError(
            f"--host must be an address of this machine such as 127.0.0.1 or 0.0.0.0, got {host!r}"
        ) from None
    bound = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if version == 6:
            # An IPv4 caller would arrive at "::ffff:127.0.0.1", which is nobody's address.
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ValidationError(
            f"cannot listen at {host}:{port}: {error.strerror}; "
            "end what uses it, or choose another port"
        ) from error
    return bound


def serve(home: ServerHome, *, host: str, port: int) -> None:
    """Run SuperLink until a signal.

    Raises:
        ValidationError: home, secrets, certificates or address are not in order.
    """
    os.umask(0o077)
    os.environ.update(FLOWER_ENVIRONMENT)
    certificates.check(home.tls, now=datetime.now(UTC))
    secrets = read_secrets(home)
    listening = bind_all(host, port)

    import uvicorn

    from tacitly_server import flower_port as flower
    from tacitly_server.connections import BoundedConnection

    allow_many_files()
    config = uvicorn.Config(
        superlink_app(home, secrets, RequestLimits(), host=host, port=port),
        # On h11: httptools sets no bound on headers.
        http=BoundedConnection,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        ws="none",
        # A header does not decide where a request comes from.
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        log_config=flower.uvicorn_log_config(_LOG_LEVEL),
        ssl_certfile=str(home.tls / "server.crt"),
        ssl_keyfile=str(home.tls / "server.key"),
    )
    uvicorn.Server(config).run(sockets=listening)


def main(arguments: Sequence[str] | None = None) -> int:
    """The process `tacitly-server up` runs and restarts. Exit 2: it cannot start like this."""
    parser = argparse.ArgumentParser(prog="tacitly_server.superlink")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--parent-pid", type=int, help="end when this parent process ends")
    given = parser.parse_args(arguments)
    try:
        if given.parent_pid is not None:
            end_with_parent(given.parent_pid)
        serve(ServerHome(given.home), host=given.host, port=given.port)
    except TacitlyError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
