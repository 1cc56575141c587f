"""A pool of processes that trains cohorts block by block.

    with Trainers(work, clients, processes=2) as trainers:
        total = trainers.clipped_sum(model, 1, [0, 5, 9])                    # a round needs this
        for members, updates in trainers.updates(model, 1, [0, 5, 9]): ...   # an attack needs this

A cohort is cut into blocks of clients with about as many windows; a block is one computation
(`block.py`). The cut is a function of the cohort alone, each client has a generator of its own,
seeded by (study seed, round, attempt, client), and blocks are added up as integers. So a round's
result is the same to the bit for any number of processes and any number of blocks in a task.

Noise and sampling are seeded here, so that a study can be run again to the bit. A device draws
both from a secure source (`client/`).
"""

import math
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from tacitly_client.training.baseline import PlainSettings
from tacitly_common.campaign import CampaignPlan
from tacitly_common.errors import TacitlyError
from tacitly_common.mechanisms.gaussian import clip_l2
from tacitly_simulations.engines.client_file import SimulatedClients
from tacitly_simulations.engines.clipping import AdaptiveClip, clip_by_tensor
from tacitly_simulations.engines.privacy import Privacy

# A quarter of what `block.py` computes at once, and no setting either: what fits into a cache.
_TOKENS_OF_A_BLOCK: Final = 2_048
_MOST_CLIENTS: Final = 16
_BLOCKS_OF_A_TASK: Final = 2
_TASKS_AHEAD: Final = 2  # for each process: enough that none waits, few enough to hold in memory
_MOST_RESTARTS: Final = 3

Block = tuple[int, ...]
_Result = TypeVar("_Result")


class WorkerError(TacitlyError):
    """Training processes keep dying; usually memory is short."""


@dataclass(frozen=True, slots=True)
class Work:
    """What every client of a study does. `local` is how it trains without record-level privacy.

    `clip_by_tensor` and `adaptive_clip`: see `clipping.py`; `noise_coefficients`, normalised:
    `correlated_noise.py`.
    """

    plan: CampaignPlan
    privacy: Privacy
    local: PlainSettings
    seed: int
    clip_by_tensor: bool = False
    adaptive_clip: AdaptiveClip | None = None
    noise_coefficients: tuple[float, ...] = ()

    @property
    def batch_windows(self) -> float:
        """How many windows a client's step takes, about."""
        if self.privacy.protects_records:
            return self.plan.record.expected_batch_windows
        return self.local.batch_windows


def clients_of_a_block(window_tokens: int, batch_windows: float) -> int:
    """How many clients a block should have: fewer where a batch of theirs is large."""
    fitting = _TOKENS_OF_A_BLOCK / (window_tokens * batch_windows)
    return int(min(max(fitting, 1), _MOST_CLIENTS))


def blocks_of(members: Iterable[int], counts: NDArray[np.int64], size: int) -> list[Block]:
    """The cohort in blocks of at most `size` clients, those with most windows first."""
    ordered = sorted(members, key=lambda client: (-counts[client], client))
    return [tuple(ordered[first : first + size]) for first in range(0, len(ordered), size)]


@dataclass(slots=True)
class Trainers:
    """Trains on `processes` processes; on one, in this very process.

    A process that dies is replaced and its part is trained again: it costs nothing but time.
    `blocks_of_a_task` is a matter of speed alone. `progress` is told the clients trained so far
    in the round.
    """

    work: Work
    clients: SimulatedClients
    processes: int = 1
    blocks_of_a_task: int = _BLOCKS_OF_A_TASK
    progress: Callable[[int], None] = lambda _clients: None
    _pool: ProcessPoolExecutor | None = field(default=None, init=False)
    _here: "_Trainer | None" = field(default=None, init=False)

    def __enter__(self) -> Self:
        if self.processes > 1:
            self._pool = self._new_pool()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def clipped_sum(
        self, model: NDArray[np.float32], number: int, members: Sequence[int], *, attempt: int = 1
    ) -> NDArray[np.int64]:
        """Round `number`: the sum of the members' clipped updates on the plan's grid.

        int64[trainable_parameters], without subject-level noise. `decode_mean` and the server's
        optimiser take it from here.
        """
        clip_norm = float(self.work.plan.subject.clip_norm)
        return self.clipped_sum_and_count(
            model, number, members, attempt=attempt, clip_norm=clip_norm
        )[0]

    def clipped_sum_and_count(
        self,
        model: NDArray[np.float32],
        number: int,
        members: Sequence[int],
        *,
        attempt: int = 1,
        clip_norm: float,
    ) -> tuple[NDArray[np.int64], int]:
        """`clipped_sum` at another clip norm, on its grid, and how many updates were within it."""
        total, within = np.zeros(self.work.plan.model.trainable_parameters, dtype=np.int64), 0
        trained = 0
        function = partial(_clipped_sum, clip_norm=clip_norm)
        for blocks, (part, within_part) in self._each(function, model, number, attempt, members):
            total += part
            within += within_part
            trained += sum(map(len, blocks))
            self.progress(trained)
        return total, within

    def updates(
        self, model: NDArray[np.float32], number: int, members: Sequence[int], *, attempt: int = 1
    ) -> Iterator[tuple[tuple[int, ...], NDArray[np.float32]]]:
        """Some members, and their updates as training left them: float32[members, trainable].

        Neither clipped nor noised, and in no order: for whoever looks into a round.
        """
        for blocks, updates in self._each(_updates, model, number, attempt, members):
            yield tuple(client for block in blocks for client in block), updates

    def _each(
        self,
        function: Callable[["_Task", "_Trainer"], _Result],
        model: NDArray[np.float32],
        number: int,
        attempt: int,
        members: Sequence[int],
    ) -> Iterator[tuple[list[Block], _Result]]:
        plan = self.work.plan
        size = clients_of_a_block(plan.record.window_tokens, self.work.batch_windows)
        blocks = blocks_of(members, self.clients.counts, size)
        step = self.blocks_of_a_task
        tasks = [
            _Task(model, number, attempt, blocks[first : first + step])
            for first in range(0, len(blocks), step)
        ]
        if self._pool is None:
            if self._here is None:
                self._here = _Trainer(self.work, self.clients)
            for task in tasks:
                yield task.blocks, self._here.run(function, task)
            return
        restarts = 0
        waiting = deque(tasks)
        running: dict[Future[_Result], _Task] = {}
        order: deque[Future[_Result]] = deque()
        while waiting or order:
            while waiting and len(order) < _TASKS_AHEAD * self.processes:
                task = waiting.popleft()
                try:
                    future = self._pool.submit(_run, function, task)
                except BrokenProcessPool:
                    waiting.appendleft(task)
                    break
                running[future] = task
                order.append(future)
            try:
                if not order:
                    raise BrokenProcessPool
                first = order[0]
                result = first.result()
            except BrokenProcessPool:
                # Nothing of an unfinished task was used: all of them are done again.
                restarts += 1
                if restarts > _MOST_RESTARTS:
                    raise WorkerError(
                        "training processes keep dying; use fewer, or free memory"
                    ) from None
                waiting.extendleft(running[future] for future in reversed(order))
                order.clear()
                running.clear()
                self._pool.shutdown(wait=False)
                self._pool = self._new_pool()
                continue
            order.popleft()
            yield running.pop(first).blocks, result

    def _new_pool(self) -> ProcessPoolExecutor:
        # Each process is forked from one that has loaded everything, and shares its memory.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, "tacitly_simulations.engines.block"])
        pool = ProcessPoolExecutor(
            self.processes, context, initializer=_begin, initargs=(self.work, self.clients)
        )
        pool.submit(os.getpid)  # starts them now, while the caller still prepares
        return pool


@dataclass(frozen=True, slots=True)
class _Task:
    """Blocks to train from one model, float32[parameters]."""

    model: NDArray[np.float32] = field(repr=False)
    round: int
    attempt: int
    blocks: list[Block] = field(repr=False)


class _Trainer:
    """One process's part: the mapped clients and the buffers it computes in."""

    def __init__(self, work: Work, clients: SimulatedClients) -> None:

        from tacitly_simulations.engines.stacked import Buffers

        self.work = work
        self.clients = clients.open()
        self.buffers = Buffers()

    def run(self, function: Callable[["_Task", "_Trainer"], _Result], task: _Task) -> _Result:
        """The task's result."""
        return function(task, self)

    def train(self, task: _Task, block: Block) -> NDArray[np.float32]:
        """float32[clients of the block, trainable_parameters]."""
        from tacitly_simulations.engines.block import train_block, train_block_without_privacy

        work = self.work
        windows = [self.clients.windows(client) for client in block]
        rngs = [
            np.random.default_rng((work.seed, task.round, task.attempt, client)) for client in block
        ]
        if work.privacy.protects_records:
            return train_block(work.plan, task.model, windows, rngs, self.buffers)
        return train_block_without_privacy(
            work.plan.model, task.model, windows, work.local, rngs, self.buffers
        )


_trainer: _Trainer | None = None


def _begin(work: Work, clients: SimulatedClients) -> None:
    global _trainer
    _trainer = _Trainer(work, clients)


def _run(function: Callable[["_Task", "_Trainer"], _Result], task: _Task) -> _Result:
    if _trainer is None:
        raise RuntimeError("a training process was not initialised")
    return _trainer.run(function, task)


def _clipped_sum(
    task: _Task, trainer: _Trainer, *, clip_norm: float
) -> tuple[NDArray[np.int64], int]:
    work, plan = trainer.work, trainer.work.plan
    grid_step = math.ldexp(clip_norm, -plan.subject.grid_bits)
    within = 0
    # Whole numbers below 2^53 are exact in float64, in whatever order they are added.
    total = np.zeros(plan.model.trainable_parameters)
    for block in task.blocks:
        for update in trainer.train(task, block):
            clipped = (
                clip_by_tensor(plan.model, update, clip_norm)
                if work.clip_by_tensor
                else clip_l2(update, clip_norm)
            )
            total += np.rint(clipped / grid_step)
            if work.adaptive_clip is not None:
                within += int(np.linalg.norm(update.astype(np.float64)) <= clip_norm)
    return total.astype(np.int64), within


def _updates(task: _Task, trainer: _Trainer) -> NDArray[np.float32]:
    return np.concatenate([trainer.train(task, block) for block in task.blocks])
