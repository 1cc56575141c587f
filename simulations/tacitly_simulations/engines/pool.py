"""Workers that do the parts of a piece of work: in this process, or in others of this machine.

    pool = ProcessPool(make, processes=2)
    for part, result in pool.each(function, common, parts): ...
    pool.close()

`make()` gives a worker what it works with, and is called once in each; a part's result is
`function(worker, common, part)`. It must not depend on what the worker did before: a worker that
dies is replaced and its parts are done again, so that it costs nothing but time. `ray_pool.py` has
the same on other machines.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from typing import Any, Final, Generic, Protocol, TypeVar

from tacitly_common.errors import TacitlyError

_PARTS_AHEAD: Final = 2  # for each process: enough that none waits, few enough to hold in memory
_MOST_RESTARTS: Final = 3
_LOADED: Final = "tacitly_simulations.engines.loaded"

Worker = TypeVar("Worker")
Worker_co = TypeVar("Worker_co", covariant=True)
Common = TypeVar("Common")
Part = TypeVar("Part")
Result = TypeVar("Result")


class WorkerError(TacitlyError):
    """Workers keep dying; usually memory is short."""


class Pool(Protocol[Worker_co]):
    """Whatever has workers."""

    def each(
        self,
        function: Callable[[Worker_co, Common, Part], Result],
        common: Common,
        parts: Sequence[Part],
    ) -> Iterator[tuple[Part, Result]]:
        """Each part with its result, in no promised order.

        Raises:
            WorkerError: workers keep dying.
        """

    def close(self) -> None:
        """End the workers."""


def load_ahead() -> None:
    """Begin to load what the processes of pools to come need, beside what the caller does next."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([_LOADED])
    forkserver.ensure_running()


class OneWorker(Generic[Worker]):
    """A pool of one worker, in this very process."""

    def __init__(self, make: Callable[[], Worker]) -> None:
        self._make = make
        self._worker: Worker | None = None

    def each(
        self,
        function: Callable[[Worker, Common, Part], Result],
        common: Common,
        parts: Sequence[Part],
    ) -> Iterator[tuple[Part, Result]]:
        """See `Pool`."""
        if self._worker is None:
            self._worker = self._make()
        for part in parts:
            yield part, function(self._worker, common, part)

    def close(self) -> None:
        """Nothing is to be ended."""


class ProcessPool(Generic[Worker]):
    """A pool of processes, forked from one that has loaded what training needs (`loaded.py`)."""

    def __init__(self, make: Callable[[], Worker], processes: int) -> None:
        self._make = make
        self._processes = processes
        self._executor = self._start()

    def each(
        self,
        function: Callable[[Worker, Common, Part], Result],
        common: Common,
        parts: Sequence[Part],
    ) -> Iterator[tuple[Part, Result]]:
        """See `Pool`."""
        restarts = 0
        waiting = deque(parts)
        running: deque[tuple[Part, Future[Result]]] = deque()
        while waiting or running:
            try:
                while waiting and len(running) < _PARTS_AHEAD * self._processes:
                    future = self._executor.submit(_run, function, common, waiting[0])
                    running.append((waiting.popleft(), future))
                part, first = running[0]
                result = first.result()
            except BrokenProcessPool:
                # Nothing of an unfinished part was used: all of them are done again.
                restarts += 1
                if restarts > _MOST_RESTARTS:
                    raise WorkerError(
                        "training processes keep dying; use fewer, or free memory"
                    ) from None
                waiting.extendleft(part for part, _ in reversed(running))
                running.clear()
                self._executor.shutdown(wait=False)
                self._executor = self._start()
                continue
            running.popleft()
            yield part, result

    def close(self) -> None:
        """End the processes, when what they do now is done."""
        self._executor.shutdown(cancel_futures=True)

    def _start(self) -> ProcessPoolExecutor:
        load_ahead()
        context = multiprocessing.get_context("forkserver")
        executor = ProcessPoolExecutor(
            self._processes, context, initializer=_begin, initargs=(self._make,)
        )
        # Starts them now, while the caller still prepares; and all: an executor that starts one
        # later does so beside the thread that counts them when one has died, which then fails.
        for _ in range(self._processes):
            executor.submit(os.getpid)
        return executor


# A process belongs to one pool.
_worker: Any = None


def _begin(make: Callable[[], object]) -> None:
    global _worker
    _worker = make()


def _run(function: Callable[[Any, Common, Part], Result], common: Common, part: Part) -> Result:
    return function(_worker, common, part)
