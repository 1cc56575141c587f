"""Trains cohorts block by block, on a pool of workers (`pool.py`).

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from tacitly_client.training.baseline import PlainSettings
from tacitly_common.campaign import CampaignPlan
from tacitly_common.mechanisms.gaussian import clip_l2
from tacitly_simulations.engines.client_file import OpenClients, SimulatedClients
from tacitly_simulations.engines.clipping import AdaptiveClip, clip_by_tensor
from tacitly_simulations.engines.pool import OneWorker, Pool, ProcessPool
from tacitly_simulations.engines.privacy import Privacy

# Half of what `block.py` computes at once, and no setting either.
_TOKENS_OF_A_BLOCK: Final = 4_096
_MOST_CLIENTS: Final = 16
_BLOCKS_OF_A_TASK: Final = 1

Block = tuple[int, ...]
_Result = TypeVar("_Result")


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
    def largest_batch(self) -> float:
        """How many windows the largest batch in a block has, about."""
        if self.privacy.protects_records:
            # Each window is drawn or not: two deviations above what is expected.
            expected = self.plan.record.expected_batch_windows
            return expected + 2 * math.sqrt(expected)
        return self.local.batch_windows


def clients_of_a_block(window_tokens: int, largest_batch: float) -> int:
    """How many clients a block should have: fewer where a batch of theirs is large."""
    fitting = _TOKENS_OF_A_BLOCK / (window_tokens * largest_batch)
    return int(min(max(fitting, 1), _MOST_CLIENTS))


def blocks_of(members: Iterable[int], counts: NDArray[np.int64], size: int) -> list[Block]:
    """The cohort in blocks of at most `size` clients, those with most windows first."""
    ordered = sorted(members, key=lambda client: (-counts[client], client))
    return [tuple(ordered[first : first + size]) for first in range(0, len(ordered), size)]


@dataclass(slots=True)
class Trainers:
    """Trains on `processes` processes; on one, in this very process.

    With `ray_address` on all CPUs of that Ray cluster instead. A process, or a node, that dies is
    replaced and its part is trained again: it costs nothing but time.
    `blocks_of_a_task` is a matter of speed alone. `progress` is told the clients trained so far
    in the round.
    """

    work: Work
    clients: SimulatedClients
    processes: int = 1
    ray_address: str | None = None
    blocks_of_a_task: int = _BLOCKS_OF_A_TASK
    progress: Callable[[int], None] = lambda _clients: None
    _pool: "Pool[_Trainer]" = field(init=False)

    def __enter__(self) -> Self:
        make = partial(_trainer, self.work, self.clients)
        if self.ray_address is not None:
            from tacitly_simulations.engines.ray_pool import RayPool, connect

            connect(self.ray_address)
            # With the windows in it: where a worker is, their file is not.
            self._pool = RayPool(partial(_Trainer, self.work, self.clients.open()))
        elif self.processes == 1:
            self._pool = OneWorker(make)
        else:
            self._pool = ProcessPool(make, self.processes)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.close()

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
        function: "Callable[[_Trainer, _Task, list[Block]], _Result]",
        model: NDArray[np.float32],
        number: int,
        attempt: int,
        members: Sequence[int],
    ) -> Iterator[tuple[list[Block], _Result]]:
        plan = self.work.plan
        size = clients_of_a_block(plan.record.window_tokens, self.work.largest_batch)
        blocks = blocks_of(members, self.clients.counts, size)
        step = self.blocks_of_a_task
        parts = [blocks[first : first + step] for first in range(0, len(blocks), step)]
        return self._pool.each(function, _Task(model, number, attempt), parts)


@dataclass(frozen=True, slots=True)
class _Task:
    """What all blocks of a round have in common: the model, float32[parameters]."""

    model: NDArray[np.float32] = field(repr=False)
    round: int
    attempt: int


class _Trainer:
    """A worker: the clients' windows and the buffers it computes in."""

    def __init__(self, work: Work, clients: OpenClients) -> None:

        from tacitly_simulations.engines.stacked import Buffers

        self.work = work
        self.clients = clients
        self.buffers = Buffers()

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


def _trainer(work: Work, clients: SimulatedClients) -> _Trainer:
    """On the machine where the clients' file lies."""
    return _Trainer(work, clients.open())


def _clipped_sum(
    trainer: _Trainer, task: _Task, blocks: list[Block], *, clip_norm: float
) -> tuple[NDArray[np.int64], int]:
    work, plan = trainer.work, trainer.work.plan
    grid_step = math.ldexp(clip_norm, -plan.subject.grid_bits)
    within = 0
    # Whole numbers below 2^53 are exact in float64, in whatever order they are added.
    total = np.zeros(plan.model.trainable_parameters)
    wide = np.empty_like(total)
    for block in blocks:
        for update in trainer.train(task, block):
            clipped = (
                clip_by_tensor(plan.model, update, clip_norm)
                if work.clip_by_tensor
                else clip_l2(update, clip_norm, out=wide)
            )
            np.divide(clipped, grid_step, out=clipped)
            total += np.rint(clipped, out=clipped)
            if work.adaptive_clip is not None:
                within += int(np.linalg.norm(update.astype(np.float64)) <= clip_norm)
    return total.astype(np.int64), within


def _updates(trainer: _Trainer, task: _Task, blocks: list[Block]) -> NDArray[np.float32]:
    return np.concatenate([trainer.train(task, block) for block in blocks])
