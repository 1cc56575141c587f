"""The guard in front of SuperLink: door, rate, body; and what is told to the audit log."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tacitly_common.errors import ValidationError
from tacitly_server.request_guard import RateLimit, RequestGuard, RequestLimits

OPERATOR, OUTSIDE = "127.0.0.1", "10.0.0.5"


@dataclass
class Setting:
    """A guard before an application that notes what it was given and answers 200."""

    limits: RequestLimits = field(default_factory=RequestLimits)
    now: float = 0.0
    served: list[tuple[str, bytes]] = field(default_factory=list)
    refused: list[tuple[int, str, str, str]] = field(default_factory=list)
    answer: int = 200
    refused_before_answer: int = 0

    def __post_init__(self) -> None:
        self.guard = RequestGuard(
            self._app, self.limits, lambda *entry: self.refused.append(entry), lambda: self.now
        )

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        assert message["more_body"] is False
        self.served.append((scope["path"], message["body"]))
        await send({"type": "http.response.start", "status": self.answer, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def call(
        self,
        path: str,
        *,
        arrival: str = OPERATOR,
        client: str = "10.9.9.9",
        body: Iterable[bytes | None] = (b"",),
        headers: Iterable[tuple[bytes, bytes]] = (),
        complete: bool = True,
    ) -> int | None:
        """The status of the answer; a `None` in `body` is a disconnect.

        What is not `complete` announces more after its last part, which never comes.
        """
        scope = {
            "type": "http",
            "path": path,
            "headers": list(headers),
            "client": (client, 5),
            "server": (arrival, 8000),
        }
        chunks = list(body)
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            if not chunks:
                await asyncio.Event().wait()
            chunk = chunks.pop(0)
            if chunk is None:
                return {"type": "http.disconnect"}
            return {
                "type": "http.request",
                "body": chunk,
                "more_body": bool(chunks) or not complete,
            }

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.refused_before_answer = len(self.refused)
            sent.append(message)

        await self.guard(scope, receive, send)
        return sent[0]["status"] if sent else None

    def get(self, path: str, **options: Any) -> int | None:
        return asyncio.run(self.call(path, **options))


@pytest.mark.parametrize(
    "path", ["/v1/fleet/pull-messages", "/v1/fleet/get-run", "/v1/fleet/push-object"]
)
@pytest.mark.parametrize("arrival", [OPERATOR, OUTSIDE, "127.0.0.2", "::1"])
def test_devices_calls_pass_at_every_address(path: str, arrival: str) -> None:
    assert Setting().get(path, arrival=arrival) == 200


@pytest.mark.parametrize(
    "path",
    ["/health", "/v1/control/start-run", "/v1/control/register-node", "/v1/runtime/acquire-task"],
)
def test_operators_calls_pass_at_the_operators_address_only(path: str) -> None:
    setting = Setting()
    assert setting.get(path) == 200
    for arrival in (OUTSIDE, "127.0.0.2", "::1", "::ffff:127.0.0.1", ""):
        assert setting.get(path, arrival=arrival) == 404
    assert len(setting.served) == 1
    assert setting.refused[0] == (404, path, "10.9.9.9", OUTSIDE)


@pytest.mark.parametrize(
    "path",
    [
        "/docs",
        "/openapi.json",
        "/",
        "/v1/responses",
        "/v1/control/get-auth-tokens",
        "/v1/control/start-automation",
        "/v1/control/start-run/",
        "/v1/fleet",
        "//v1/fleet/get-run",
    ],
)
def test_everything_else_is_closed_to_everybody(path: str) -> None:
    assert Setting().get(path) == 404
    assert Setting().get(path, arrival=OUTSIDE) == 404


def test_where_a_request_arrived_is_no_header() -> None:
    forged = [(b"host", b"127.0.0.1"), (b"x-forwarded-for", b"127.0.0.1")]
    assert Setting().get("/v1/control/start-run", arrival=OUTSIDE, headers=forged) == 404


def test_a_body_in_parts_arrives_whole() -> None:
    setting = Setting()
    assert setting.get("/v1/fleet/push-object", body=[b"ab", b"", b"cd"]) == 200
    assert setting.served == [("/v1/fleet/push-object", b"abcd")]


def test_a_body_at_the_limit_passes_and_one_byte_more_does_not() -> None:
    setting = Setting(RequestLimits(body_bytes=4))
    assert setting.get("/v1/fleet/x", body=[b"ab", b"cd"]) == 200
    assert setting.get("/v1/fleet/x", body=[b"ab", b"cde"]) == 413
    assert setting.served == [("/v1/fleet/x", b"abcd")]


def test_a_declared_length_is_refused_before_anything_is_read() -> None:
    setting = Setting(RequestLimits(body_bytes=4))
    assert setting.get("/v1/fleet/x", headers=[(b"content-length", b"5")], body=[]) == 413


def test_all_bodies_together_have_a_limit_and_are_counted_off_at_the_end() -> None:
    setting = Setting(RequestLimits(body_bytes=8, all_bodies_bytes=10))

    async def one_waits_while_others_come() -> list[int | None]:
        slow = asyncio.create_task(setting.call("/v1/fleet/x", body=[b"12345678"], complete=False))
        await asyncio.sleep(0)
        answers = [
            await setting.call("/v1/fleet/x", body=[b"123"]),
            await setting.call("/v1/fleet/x", body=[b"12"]),
        ]
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        return [*answers, await setting.call("/v1/fleet/x", body=[b"123"])]

    assert asyncio.run(one_waits_while_others_come()) == [503, 200, 200]


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    setting = Setting(RequestLimits(body_seconds=0.01))
    assert setting.get("/v1/fleet/x", body=[b"a"], complete=False) == 408
    assert setting.served == []


def test_a_client_that_goes_away_is_not_served() -> None:
    setting = Setting()
    setting.get("/v1/fleet/x", body=[b"half", None])
    assert setting.served == []


def test_a_client_from_outside_has_a_rate_of_its_own() -> None:
    setting = Setting(RequestLimits(requests_per_second=2, burst_requests=3))

    def ask(client: str) -> int | None:
        return setting.get("/v1/fleet/x", arrival=OUTSIDE, client=client)

    assert [ask("a") for _ in range(4)] == [200, 200, 200, 429]
    assert ask("b") == 200
    setting.now = 0.5
    assert [ask("a"), ask("a")] == [200, 429]
    setting.now = 1_000.0
    assert [ask("a") for _ in range(4)] == [200, 200, 200, 429]


def test_a_flood_is_not_audited_and_the_operator_has_no_rate() -> None:
    setting = Setting(RequestLimits(requests_per_second=1, burst_requests=1))
    for _ in range(5):
        setting.get("/v1/fleet/x", arrival=OUTSIDE)
        assert setting.get("/v1/runtime/x") == 200
    assert setting.refused == []


def test_buckets_are_kept_for_the_most_recent_clients_only() -> None:
    rate = RateLimit(0.001, 1, lambda: 0.0, clients=2)
    assert [rate.allow(client) for client in "aab"] == [True, False, True]
    assert rate.allow("c")  # pushes "a" out
    assert rate.allow("a")


@pytest.mark.parametrize(("status", "audited"), [(200, False), (401, True), (403, True)])
def test_the_applications_refusals_are_audited_too(status: int, audited: bool) -> None:
    setting = Setting(answer=status)
    assert setting.get("/v1/control/start-run") == status
    assert setting.refused == [(status, "/v1/control/start-run", "10.9.9.9", OPERATOR)] * audited


def test_limits_are_positive() -> None:
    with pytest.raises(ValidationError, match="body_bytes must be > 0, got 0"):
        RequestLimits(body_bytes=0)


@pytest.mark.parametrize("path", ["/docs", "/v1/control/start-run"])
def test_a_refusal_is_in_the_log_before_its_answer_is_sent(path: str) -> None:
    setting = Setting(answer=401)
    assert setting.get(path) in {401, 404}
    assert setting.refused_before_answer == 1
