"""How devices and officers call the enrolment desk.

    with desk_channel("tacitly.example.org:8001", ca_pem) as channel:
        desk = EnrolmentStub(channel)
        response = ask(desk.Enrol, request)            # DeskError and its kinds

Only over TLS, only with the one authority given, never through a proxy of the environment.
"""

from collections.abc import Callable
from typing import Any, Final

import grpc

from tacitly_common.errors import ValidationError
from tacitly_common.validation import host_and_port
from tacitly_common.wire.desk_errors import DeskError, error_of
from tacitly_common.wire.desk_pb2 import ReadLogRequest
from tacitly_common.wire.desk_pb2_grpc import OfficersStub

# The desk takes and gives no larger message. A model of 4 million parameters fits.
MOST_MESSAGE_BYTES: Final = 17 * 1024 * 1024
_MOST_LOG_BYTES: Final = 256 * 1024 * 1024
_TIMEOUT_SECONDS: Final = 30.0


def desk_channel(address: str, ca_pem: bytes) -> grpc.Channel:
    """A channel to the desk at "host:port". Close it, or use it in a `with` block.

    Raises:
        ValidationError: the address is none, or there is no certificate. Whether the desk
            answers shows with the first call.
    """
    host_and_port(desk=address)
    if not ca_pem:
        raise ValidationError("the desk's certificate authority is empty; give the server's ca.crt")
    options = [
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MOST_MESSAGE_BYTES),
    ]
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca_pem), options)


def ask(
    method: Callable[..., Any], request: Any, *, timeout_seconds: float = _TIMEOUT_SECONDS
) -> Any:
    """The answer to one call of a stub's `method`.

    Raises:
        DeskError: or one of its kinds: refused, or no answer in time.
    """
    try:
        return method(request, timeout=timeout_seconds)
    except grpc.RpcError as error:
        raise error_of(error) from None


def read_whole_log(officers: OfficersStub, first: int = 0) -> list[bytes]:
    """The officers' log from entry `first` on, as served: not verified.

    Raises:
        DeskError: as `ask`; also a log that does not end.
    """
    entries: list[bytes] = []
    held_bytes = 0
    while page := ask(officers.ReadLog, ReadLogRequest(first=first + len(entries))).entries:
        entries.extend(page)
        held_bytes += sum(map(len, page))
        if held_bytes > _MOST_LOG_BYTES:
            raise DeskError(f"the desk's log is beyond {_MOST_LOG_BYTES} bytes; ask its operator")
    return entries
