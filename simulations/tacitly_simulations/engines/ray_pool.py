"""A pool of workers (`pool.py`) on a Ray cluster.

    connect("10.0.0.1:6379")
    pool = RayPool(make)

Each part is a task of Ray's, for one CPU of whatever node has one free: nodes may come and go, and
parts of a worker or a node that dies are done again elsewhere. What `make` holds, and what parts
have in common, is put into Ray's object store once; each node takes a copy, which its workers map.
"""

import logging
import os
import platform
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Final, Generic

import grpc

from tacitly_common.errors import TacitlyError
from tacitly_simulations.engines.pool import Common, Part, Result, Worker, WorkerError

# Read when Ray is loaded.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.exceptions import LocalRayletDiedError, RayError, RayTaskError

QUIET: Final[dict[str, Any]] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
_PARTS_AHEAD: Final = 2  # for each CPU: enough that none waits
# Of one part. Not the local pool's few: machines that are lent come and go.
_MOST_RETRIES: Final = 10
_SECONDS_TO_ANSWER: Final = 5.0
_CHECK_ALIVE: Final = "/ray.rpc.NodeInfoGcsService/CheckAlive"  # what `ray health-check` calls


class ClusterError(TacitlyError):
    """There is no such cluster, or its nodes cannot take part."""

    exit_code = 2


def connect(address: str) -> None:
    """Connect this process to the cluster at HOST:PORT, if it is not connected.

    This machine must be a node of it (its CPUs may be none).

    Raises:
        ClusterError: nobody there, no Ray, another Ray, no node here, or no CPU.
    """
    if ray.is_initialized():
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise ClusterError(
            f"the address of a Ray cluster is HOST:PORT, as in 127.0.0.1:6379, got {address!r:.80}"
        )
    # Ray itself would try for minutes, and then end this process.
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_CHECK_ALIVE)(b"", timeout=_SECONDS_TO_ANSWER)
        except grpc.RpcError:
            raise ClusterError(
                f"no Ray cluster answers at {address}; start one with `ray start --head`, "
                "which tells its address"
            ) from None
    try:
        ray.init(address, **QUIET)
    except (RayError, OSError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"cannot join the Ray cluster at {address}: {str(error).splitlines()[0]} "
            f"Run this on one of its nodes, with Ray {ray.__version__} on all"
        ) from None
    if not _cpus():
        raise ClusterError(f"no node of the Ray cluster at {address} has a CPU; add one")


def share(value: Worker) -> Callable[[], Worker]:
    """Put `value` where every node of the cluster gets it with what is returned."""
    get: Callable[[Any], Worker] = ray.get
    return partial(get, ray.put(value))


class RayPool(Generic[Worker]):
    """As many workers as the cluster that this process is connected to has CPUs."""

    def __init__(self, make: Callable[[], Worker]) -> None:
        # In a list Ray hands on the reference, and a worker fetches its content once.
        self._make = [ray.put(make)]
        self._run: Any = ray.remote(num_cpus=1, max_retries=_MOST_RETRIES)(_run)

    def each(
        self,
        function: Callable[[Worker, Common, Part], Result],
        common: Common,
        parts: Sequence[Part],
    ) -> Iterator[tuple[Part, Result]]:
        """See `Pool`.

        Raises:
            WorkerError: see `Pool`.
            ClusterError: a node has other versions than this machine.
        """
        shared = ray.put(common)
        waiting = deque(parts)
        running: dict[Any, Part] = {}
        while waiting or running:
            while waiting and len(running) < _PARTS_AHEAD * max(1, _cpus()):
                part = waiting.popleft()
                task = self._run.remote(self._make, _versions(), function, shared, part)
                running[task] = part
            (ended, *_), _ = ray.wait(list(running), num_returns=1)
            yield running.pop(ended), _result(ended)

    def close(self) -> None:
        """Give back what was put into the object store; the workers may serve the next pool."""
        self._make.clear()


def _result(task: Any) -> Any:
    try:
        return ray.get(task)
    except RayTaskError as error:
        if isinstance(error.cause, ImportError):
            raise ClusterError(
                f"a node of the Ray cluster cannot run Tacitly ({error.cause}); install the same "
                "on every node"
            ) from None
        raise error.cause from None
    except LocalRayletDiedError:
        raise ClusterError(
            "the Ray node of this machine ended; start it again and run the study on"
        ) from None
    except RayError:
        raise WorkerError(
            f"workers of the Ray cluster died {_MOST_RETRIES + 1} times over one part; "
            "give its nodes fewer CPUs, or free memory"
        ) from None


def _cpus() -> int:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return int(resources.get("CPU", 0))


def _versions() -> dict[str, str]:
    """What must be the same for the same bits."""
    packages = {name: version(name) for name in ("tacitly", "torch", "numpy")}
    return {"machine": platform.machine(), **packages}


# A worker's process serves one pool after the other.
_made: tuple[Any, Any] | None = None


def _run(
    make: list[Any],
    versions: dict[str, str],
    function: Callable[[Any, Common, Part], Result],
    common: Common,
    part: Part,
) -> Result:
    global _made
    if _made is None or _made[0] != make[0]:
        for name, here in _versions().items():
            if here != versions[name]:
                raise ClusterError(
                    f"node {platform.node()} has {name} {here}, where the study began has "
                    f"{versions[name]}; results would differ; install the same on every node"
                )
        _made = None  # frees the last pool's first
        _made = (make[0], ray.get(make[0])())
    return function(_made[1], common, part)
