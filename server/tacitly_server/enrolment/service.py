"""The desk's process: devices' and officers' calls, over TLS with the server's certificate.

    python -m tacitly_server.enrolment --home DIR --host H --port P --server-port P

Restarted by `tacitly-server up` when it ends. It keeps nothing in memory that matters.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from tacitly_common.errors import TacitlyError, ValidationError
from tacitly_common.processes import allow_many_files, end_with_parent
from tacitly_common.wire.desk_client import MOST_MESSAGE_BYTES
from tacitly_common.wire.desk_pb2_grpc import (
    add_EnrolmentServicer_to_server,
    add_OfficersServicer_to_server,
)
from tacitly_server import certificates
from tacitly_server.audit import AuditLog
from tacitly_server.campaigns.officers_log import OfficersLog
from tacitly_server.control import Control
from tacitly_server.enrolment.authority import Authority
from tacitly_server.enrolment.devices import Devices
from tacitly_server.enrolment.door import Door
from tacitly_server.enrolment.officers import Officers
from tacitly_server.enrolment.registry import Registry
from tacitly_server.home import ServerHome
from tacitly_server.ledger.place import database_of
from tacitly_server.private_files import read_private
from tacitly_server.superlink import bind_all, listening_at

_THREADS: Final = 4
_END_SECONDS: Final = 3
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MOST_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 8),
    # Who says nothing is cut off, in the handshake and after it; nobody stays for ever.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 60_000),
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
    # A second process at the same port would take half of the calls.
    ("grpc.so_reuseport", 0),
)


def serve(home: ServerHome, *, host: str, port: int, server_port: int) -> None:
    """Answer until a signal. `server_port` is SuperLink's.

    Raises:
        ValidationError: home, keys, certificates or address are not in order.
    """
    os.umask(0o077)
    certificates.check(home.tls, now=datetime.now(UTC))
    allow_many_files()
    for bound in bind_all(host, port):  # says clearly what gRPC says badly
        bound.close()
    with ExitStack() as stack:
        control = stack.enter_context(Control.of(home, server_port))
        registry = stack.enter_context(Registry(database_of(home)))
        threads = stack.enter_context(ThreadPoolExecutor(_THREADS))
        log = OfficersLog(home.officers_log)
        devices = Devices(registry, Authority.read(home), control, log, home)
        asyncio.run(_serve(home, devices, Officers(home, log), threads, host, port))


async def _serve(
    home: ServerHome,
    devices: Devices,
    officers: Officers,
    threads: Executor,
    host: str,
    port: int,
) -> None:
    ended = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, ended.set)
    server = grpc.aio.server(
        interceptors=[Door(AuditLog(home.desk_log), threads)], options=_OPTIONS
    )
    add_EnrolmentServicer_to_server(devices, server)
    add_OfficersServicer_to_server(officers, server)
    credentials = grpc.ssl_server_credentials(
        [(read_private(home.tls / "server.key"), (home.tls / "server.crt").read_bytes())]
    )
    for address in listening_at(host):
        shown = f"[{address}]" if ":" in address else address
        try:
            server.add_secure_port(f"{shown}:{port}", credentials)
        except RuntimeError as error:
            raise ValidationError(f"cannot listen at {shown}:{port}: {error}") from None
    await server.start()
    await ended.wait()
    await server.stop(_END_SECONDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """The process `tacitly-server up` runs and restarts. Exit 2: it cannot start like this."""
    parser = argparse.ArgumentParser(prog="tacitly_server.enrolment")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server-port", type=int, required=True)
    parser.add_argument("--parent-pid", type=int, help="end when this parent process ends")
    given = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    try:
        if given.parent_pid is not None:
            end_with_parent(given.parent_pid)
        serve(
            ServerHome(given.home),
            host=given.host,
            port=given.port,
            server_port=given.server_port,
        )
    except TacitlyError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0
