"""HTTPS to the server's Fleet API: signed, bounded, verified against the given authority only.

What differs from Flower's own client, which this extends:

- Errors are `FleetError`s with a `Trouble`; nothing ends the process.
- Requests are signed with the *server's* time (`ServerClock`). Flower accepts a signed timestamp
  from 305 s before to 5 s after its own clock and answers 401 outside; a laptop's clock is often
  further off. Signing aims at the middle of that window.
- Only the given certificate authority is trusted, TLS 1.3 at least. No redirect is followed.
- An answer may not exceed `max_response_bytes`, nor be compressed (a small answer could unpack
  into a huge one).
- Proxies: `HTTPS_PROXY` and `NO_PROXY` are honoured, so an office proxy sees a CONNECT and then
  ciphertext. A server on this machine's loopback is never reached through a proxy, whatever the
  environment says. The proxy's password, if it needs one, stands in the variable's URL.
- No header tells more than it must: no Flower version, a fixed user agent.
"""

import ssl
import time
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
from cryptography.hazmat.primitives.asymmetric import ec

from tacitly_client.node.backoff import Trouble
from tacitly_client.node.flower_port import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    SYSTEM_TIME_TOLERANCE,
    TIMESTAMP_HEADER,
    TIMESTAMP_TOLERANCE,
    ApiErrorCode,
    FleetHttpClient,
    FlowerError,
    ProtobufRequestContext,
    public_key_to_bytes,
    sign_message,
)
from tacitly_common.errors import TacitlyError, ValidationError

_TIMEOUT_SECONDS: Final = 30.0
# A whole answer, however slowly it drips.
_LONGEST_ANSWER_SECONDS: Final = 300.0
_MIDDLE_OF_WINDOW_SECONDS: Final = TIMESTAMP_TOLERANCE / 2
# A Date header that moves the clock by less than this cannot be why a request was refused.
_NOTABLE_SHIFT_SECONDS: Final = float(SYSTEM_TIME_TOLERANCE)

_TROUBLE_OF_STATUS: Final = {
    401: Trouble.UNAUTHENTICATED,
    403: Trouble.FORBIDDEN,
    407: Trouble.PROXY,
    412: Trouble.STILL_ONLINE,
    429: Trouble.THROTTLED,
}


class FleetError(TacitlyError):
    """The server could not be used; `trouble` says why. Holds nothing the server wrote."""

    def __init__(self, trouble: Trouble, retry_after_seconds: float | None = None) -> None:
        super().__init__(f"the server could not be used: {trouble.name}")
        self.trouble = trouble
        self.retry_after_seconds = retry_after_seconds


class OversizeError(FleetError):
    """The server's answer is longer than anything honest to this device could be."""


class WithdrawnError(TacitlyError):
    """The run has ended, or the message is gone: there is nothing to answer any more."""


class ServerClock:
    """The server's clock, learnt from its Date header: what signatures and expiry need.

    Only this server ever sees what is signed with it, so a server that lies about its time
    gets signatures that are of use to nobody else.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._offset_seconds = 0.0

    def now(self) -> float:
        """Seconds since the epoch, as the server counts them (within about a second)."""
        return self._wall() + self._offset_seconds

    def learn(self, date: str | None) -> float:
        """Take over an HTTP date; by how many seconds that moved the clock."""
        moment = _http_date(date)
        if moment is None:
            return 0.0
        # The header counts whole seconds: on average the truth is half a second later.
        offset = moment + 0.5 - self._wall()
        shift = abs(offset - self._offset_seconds)
        self._offset_seconds = offset
        return shift


class Transport(FleetHttpClient):
    """Flower's Fleet calls (`ActivateNode`, `PullMessages`, ...) as this module's text says.

    Every call raises FleetError or WithdrawnError, never another exception for what the network
    or the server does. `max_response_bytes` may be changed between calls.
    """

    def __init__(
        self,
        server: str,
        *,
        ca_certificate: Path,
        key: ec.EllipticCurvePrivateKey,
        clock: ServerClock,
        max_response_bytes: int,
    ) -> None:
        host = _host(server)
        context = _tls(ca_certificate)
        super().__init__(f"https://{server}", verify=context)
        # Flower's client follows redirects and always trusts the environment's proxies.
        self._client.close()
        self._client = httpx.Client(
            verify=context,
            timeout=_TIMEOUT_SECONDS,
            follow_redirects=False,
            trust_env=not _is_loopback(host),
            headers={"user-agent": "tacitly", "accept-encoding": "identity"},
        )
        self._key = key
        self._public_key = b64encode(public_key_to_bytes(key.public_key())).decode("ascii")
        self._clock = clock
        self.max_response_bytes = max_response_bytes

    def _send(self, context: ProtobufRequestContext, *, stream: bool = False) -> httpx.Response:
        """One signed exchange; once more if its answer showed that our clock was wrong."""
        if stream:
            raise FleetError(Trouble.PROTOCOL)
        response, shift = self._exchange(context.request)
        if response.status_code == httpx.codes.UNAUTHORIZED and shift > _NOTABLE_SHIFT_SECONDS:
            response, _ = self._exchange(context.request)
        if response.status_code != httpx.codes.OK:
            raise _error_of(response, self._clock.now())
        return response

    def _exchange(self, request: httpx.Request) -> tuple[httpx.Response, float]:
        """Sign, send, read at most `max_response_bytes`; the answer and the clock's shift."""
        self._sign(request)
        began = time.monotonic()
        body = bytearray()
        try:
            response = self._client.send(request, stream=True)
            try:
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise FleetError(Trouble.PROTOCOL)
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > self.max_response_bytes:
                        raise OversizeError(Trouble.PROTOCOL)
                    if time.monotonic() - began > _LONGEST_ANSWER_SECONDS:
                        raise FleetError(Trouble.TRANSPORT)
            finally:
                response.close()
        except httpx.HTTPError as error:
            raise FleetError(_trouble_of(error)) from error
        shift = self._clock.learn(response.headers.get("date"))
        return (
            httpx.Response(
                response.status_code,
                headers={"retry-after": response.headers.get("retry-after", "")},
                content=bytes(body),
                request=request,
            ),
            shift,
        )

    def _sign(self, request: httpx.Request) -> None:
        moment = datetime.fromtimestamp(self._clock.now() - _MIDDLE_OF_WINDOW_SECONDS, UTC)
        timestamp = moment.isoformat()
        signature = sign_message(self._key, timestamp.encode("ascii"))
        request.headers[FLEET_HTTP_PUBLIC_KEY_HEADER] = self._public_key
        request.headers[TIMESTAMP_HEADER] = timestamp
        request.headers[FLEET_HTTP_SIGNATURE_HEADER] = b64encode(signature).decode("ascii")


def _error_of(response: httpx.Response, now: float) -> TacitlyError:
    """The error that an answer other than 200 stands for."""
    status = response.status_code
    if status == httpx.codes.FORBIDDEN:
        flower = FlowerError.from_json(response.text)
        if flower is not None and flower.code == ApiErrorCode.FLEET_RUN_STATUS_NOT_ALLOWED:
            return WithdrawnError("the run has ended")
    trouble = _TROUBLE_OF_STATUS.get(status)
    if trouble is None:
        trouble = Trouble.SERVER if status >= 500 else Trouble.PROTOCOL
    return FleetError(trouble, _retry_after(response.headers["retry-after"], now))


def _trouble_of(error: httpx.HTTPError) -> Trouble:
    if isinstance(error, httpx.ProxyError):
        return Trouble.PROXY
    cause: BaseException | None = error
    while cause is not None:
        # A handshake that a dying server cut off is a broken connection, not a bad certificate.
        if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
            return Trouble.TRANSPORT
        if isinstance(cause, ssl.SSLError):
            return Trouble.TLS
        cause = cause.__cause__ or cause.__context__
    return Trouble.TRANSPORT if isinstance(error, httpx.TransportError) else Trouble.PROTOCOL


def _retry_after(value: str, now: float) -> float | None:
    """Seconds of a Retry-After header (a number or a date), None if there is none."""
    if value.isdecimal():
        return float(value[:9])
    moment = _http_date(value)
    return None if moment is None else max(0.0, moment - now)


def _http_date(value: str | None) -> float | None:
    """Seconds since the epoch of an HTTP date, None if it is none or far from any real time."""
    try:
        moment = parsedate_to_datetime(value or "").timestamp()
    except (ValueError, OverflowError):
        return None
    # Years 2001 to 2100: beyond, `datetime` arithmetic of the signature could overflow.
    return moment if 1e9 < moment < 4.1e9 else None


def _tls(ca_certificate: Path) -> ssl.SSLContext:
    """Verification against `ca_certificate` alone (not the system's authorities)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=ca_certificate.read_text("ascii"))
    except (OSError, ValueError) as error:
        raise ValidationError(
            f"{ca_certificate} is no readable PEM certificate; ask the operator for ca.crt"
        ) from error
    return context


def _host(server: str) -> str:
    """The host of HOST:PORT.

    Raises:
        ValidationError: anything else.
    """
    try:
        parts = urlsplit(f"//{server}")
        if parts.hostname and parts.port and parts.netloc == server and "@" not in server:
            return parts.hostname
    except ValueError:
        pass
    raise ValidationError(f"server must be HOST:PORT, got {server!r:.200}")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
