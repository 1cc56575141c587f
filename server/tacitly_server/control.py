"""A client of SuperLink's Control API, with the operator's token.

    with Control.of(home, port) as control:
        node_id = control.register(public_key_pem)
        run_id = control.start(bundle(), campaign=plan.hash)

Only at 127.0.0.1 (nothing else is answered), over TLS with our own authority, and never through
a proxy from the environment.
"""

import hashlib
import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Self

import httpx

from tacitly_common.errors import TacitlyError
from tacitly_server import flower_port as flower
from tacitly_server.home import ServerHome
from tacitly_server.private_files import read_private
from tacitly_server.request_guard import OPERATOR_ADDRESS

_MEDIA_TYPE = "application/protobuf"


class ControlError(TacitlyError):
    """SuperLink cannot be reached, or refused. `reason` is Flower's name of the refusal."""

    exit_code: ClassVar[int] = 7

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Node:
    """A registered device: `status` is registered, online, offline or unregistered."""

    node_id: int
    status: str
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """A run: `status` is pending, starting, running or finished; then `sub_status` says how."""

    run_id: int
    campaign: str
    status: str
    sub_status: str
    details: str

    @property
    def finished(self) -> bool:
        """Flower will do nothing more for it."""
        return self.status == flower.Status.FINISHED


class Control:
    """Calls of the Control API. All raise `ControlError`."""

    def __init__(
        self, url: str, authority: ssl.SSLContext, token: str, *, timeout_seconds: float = 10.0
    ) -> None:
        self._client = httpx.Client(
            base_url=url,
            verify=authority,
            timeout=timeout_seconds,
            trust_env=False,
            headers={"authorization": f"Bearer {token}", "content-type": _MEDIA_TYPE},
        )

    @classmethod
    def of(cls, home: ServerHome, port: int) -> Self:
        """A client of the SuperLink of this home.

        Raises:
            ValidationError: the home is not initialised.
        """
        read_private(home.tls / "server.key")
        authority = ssl.create_default_context(cafile=home.tls / "ca.crt")
        token = read_private(home.control_token).decode().strip()
        return cls(f"https://{OPERATOR_ADDRESS}:{port}", authority, token)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def healthy(self) -> bool:
        """Whether SuperLink answers."""
        try:
            return self._client.get("/health").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def register(self, public_key_pem: bytes) -> int:
        """Admit a device by its public key (PEM, NIST curve); its node id."""
        request = flower.RegisterNodeRequest(public_key=public_key_pem)
        response = self._call("register-node", request, flower.RegisterNodeResponse())
        return int(response.node_id)

    def unregister(self, node_id: int) -> None:
        """Shut a device out, for ever: its key cannot be registered again."""
        request = flower.UnregisterNodeRequest(node_id=node_id)
        self._call("unregister-node", request, flower.UnregisterNodeResponse())

    def nodes(self) -> list[Node]:
        """All devices, in the order of Flower's answer."""
        response = self._call("list-nodes", flower.ListNodesRequest(), flower.ListNodesResponse())
        return [Node(info.node_id, info.status, info.public_key) for info in response.nodes_info]

    def start(self, fab: bytes, *, campaign: str) -> int:
        """Start a run of the bundle for a campaign; the run's id."""
        config = flower.user_config_to_proto({"campaign": campaign})
        named = flower.Fab(hash_str=hashlib.sha256(fab).hexdigest(), content=fab)
        request = flower.StartRunRequest(fab=named, override_config=config)
        response = self._call("start-run", request, flower.StartRunResponse())
        return int(response.run_id)

    def runs(self) -> list[Run]:
        """The twenty newest runs, newest first."""
        response = self._call("list-runs", flower.ListRunsRequest(), flower.ListRunsResponse())
        runs = sorted(response.run_dict.values(), key=lambda run: run.pending_at, reverse=True)
        return [
            Run(
                run.run_id,
                str(flower.user_config_from_proto(run.override_config).get("campaign", "")),
                run.status.status,
                run.status.sub_status,
                run.status.details,
            )
            for run in runs
        ]

    def stop(self, run_id: int) -> None:
        """End a run; one that has finished already stays as it is."""
        try:
            self._call("stop-run", flower.StopRunRequest(run_id=run_id), flower.StopRunResponse())
        except ControlError as error:
            if error.reason != "RUN_ALREADY_FINISHED":
                raise

    def _call(self, name: str, request: Any, response: Any) -> Any:
        """`response`, filled with the answer."""
        try:
            answer = self._client.post(
                f"/v1/control/{name}", content=request.SerializeToString(deterministic=True)
            )
        except httpx.HTTPError as error:
            raise ControlError(
                f"no SuperLink at {self._client.base_url} ({type(error).__name__}); "
                "start it with `tacitly-server up`"
            ) from error
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise ControlError(
                "SuperLink refused the token; restart `tacitly-server up` so that it reads "
                "control.token again",
                "UNAUTHORIZED",
            )
        if answer.is_error:
            refusal = flower.refusal(answer.text)
            if refusal is None:
                raise ControlError(f"SuperLink answered {name} with HTTP {answer.status_code}")
            reason, text = refusal
            raise ControlError(f"SuperLink refused {name}: {text} ({reason})", reason)
        response.ParseFromString(answer.content)
        return response
