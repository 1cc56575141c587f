"""A block of clients trained side by side: a model and each client's windows -> their updates.

Client by client the same steps as `tacitly_client.training.local`, which is the oracle in the
tests: given the same generators, each update is that module's to float32 rounding, noise included.

The clients of a block are padded to the largest batch among them, so a block is cheap if its
clients have about as many windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacitly_client.training.baseline import PlainSettings, TrainingError
from tacitly_common.campaign import CampaignPlan, RecordMechanism
from tacitly_common.model import named_tensors
from tacitly_common.model_config import ModelConfig
from tacitly_common.vocabulary import START
from tacitly_simulations.engines.stacked import Buffers, clipped_gradient_sums

# What is in memory together, some 7 KB a token at a hidden size of 128; larger batches are summed
# in parts. It is no setting: it decides the last bit of a float.
_TOKENS_AT_ONCE: Final = 8_192

Windows = NDArray[np.int64]


def train_block(
    plan: CampaignPlan,
    start: NDArray[np.float32],
    windows: Sequence[Windows],
    rngs: Sequence[np.random.Generator],
    buffers: Buffers,
) -> NDArray[np.float32]:
    """`local.train` of each client: float32[clients, trainable_parameters]."""
    record = plan.record
    models = _Models(plan.model, start, len(windows), buffers)
    sample_rate, clip_norm = float(record.sample_rate), float(record.clip_norm)
    deviation = float(record.noise_multiplier) * clip_norm
    noise = np.empty((len(windows), models.trained))
    for _ in range(record.steps):
        taken = [
            rows[rng.random(len(rows)) < sample_rate]
            for rows, rng in zip(windows, rngs, strict=True)
        ]
        sums = models.gradient_sums(_side_by_side(taken, record.window_tokens), clip_norm)
        for row, rng in zip(noise, rngs, strict=True):
            # One draw a client: the same stream as a draw a tensor, in the layout's order.
            rng.standard_normal(out=row)
        noise *= deviation
        models.descend(sums, noise, record)
    updates = models.updates()
    updates[~np.isfinite(updates).all(axis=1)] = 0
    return updates


def train_block_without_privacy(
    config: ModelConfig,
    start: NDArray[np.float32],
    windows: Sequence[Windows],
    settings: PlainSettings,
    rngs: Sequence[np.random.Generator],
    buffers: Buffers,
) -> NDArray[np.float32]:
    """`local.train_without_privacy` of each client: float32[clients, trainable_parameters].

    Raises:
        TrainingError: NaN or infinity came up for some client.
    """
    # Most windows first: those who still have a batch left are always the first so many.
    order = sorted(range(len(windows)), key=lambda client: -len(windows[client]))
    batches = [_batches(windows[client], settings, rngs[client]) for client in order]
    models = _Models(config, start, len(windows), buffers)
    length = max((rows.shape[1] for rows in windows), default=2) - 1
    for step in range(max(map(len, batches), default=0)):
        now = [of_client[step] for of_client in batches if step < len(of_client)]
        sums = models.gradient_sums(_side_by_side(now, length), None)
        scale = torch.tensor([1 / len(batch) for batch in now])
        models.descend_plainly(sums, scale, settings)
    updates = models.updates()
    if not np.isfinite(updates).all():
        raise TrainingError("training left the finite numbers; lower the learning rate")
    unsorted = np.empty_like(updates)
    unsorted[order] = updates
    return unsorted


def _batches(rows: Windows, settings: PlainSettings, rng: np.random.Generator) -> list[Windows]:
    size = settings.batch_windows
    batches: list[Windows] = []
    for _ in range(settings.epochs):
        shuffled = rows[rng.permutation(len(rows))]
        batches += [shuffled[first : first + size] for first in range(0, len(rows), size)]
    return batches


def _side_by_side(batches: Sequence[Windows], window_tokens: int) -> Tensor:
    """int64[clients, largest batch, window_tokens + 1], filled up with rows of START."""
    largest = max(len(batch) for batch in batches)
    rows = np.full((len(batches), largest, window_tokens + 1), START, dtype=np.int64)
    for row, batch in zip(rows, batches, strict=True):
        row[: len(batch)] = batch
    return torch.from_numpy(rows)


@dataclass(slots=True)
class _Models:
    """The parameters of a block's clients, [clients, ...] by tensor name."""

    config: ModelConfig
    start: NDArray[np.float32]
    clients: int
    buffers: Buffers
    trainable: frozenset[str] = field(init=False)
    trained: int = field(init=False)
    _start: dict[str, Tensor] = field(init=False)
    _now: dict[str, Tensor] = field(init=False)
    _separate: bool = field(init=False)
    _velocity: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.trainable = frozenset(tensor.name for tensor in self.config.trainable_layout())
        self.trained = self.config.trainable_parameters
        self._start = named_tensors(self.config, self.start)
        # One for all, until a step separates them.
        self._now = {
            name: tensor.expand(self.clients, *tensor.shape) for name, tensor in self._start.items()
        }
        self._separate = False
        self._velocity = {}

    def gradient_sums(self, windows: Tensor, clip_norm: float | None) -> dict[str, Tensor]:
        """Of the first clients, as many as `windows` has: their sums by tensor name."""
        active = len(windows)
        now = {name: tensor[:active] for name, tensor in self._now.items()}
        at_once = max(_TOKENS_AT_ONCE // (active * (windows.shape[2] - 1)), 1)
        parts = torch.split(windows, at_once, dim=1) if windows.shape[1] else (windows,)
        total: dict[str, Tensor] = {}
        for part in parts:
            sums = clipped_gradient_sums(
                now,
                part.contiguous(),
                trainable=self.trainable,
                clip_norm=clip_norm,
                buffers=self.buffers,
            )
            if len(parts) == 1:
                return sums
            for name, tensor in sums.items():
                if name in total:
                    total[name].add_(tensor)
                else:
                    total[name] = tensor.clone()
        return total

    def descend(
        self, sums: dict[str, Tensor], noise: NDArray[np.float64], record: RecordMechanism
    ) -> None:
        """A step of DP-SGD; the sum is rounded to float32 once, with its noise."""
        self._separate_clients()
        offset = 0
        for tensor in self.config.trainable_layout():
            part = torch.from_numpy(noise[:, offset : offset + tensor.size])
            gradient = sums[tensor.name].flatten(1) + part
            gradient = gradient.float().div_(record.expected_batch_windows)
            self._now[tensor.name].flatten(1).sub_(gradient, alpha=float(record.learning_rate))
            offset += tensor.size

    def descend_plainly(
        self, sums: dict[str, Tensor], scale: Tensor, settings: PlainSettings
    ) -> None:
        """A step of SGD by the first clients, each with `scale` x its sum."""
        self._separate_clients()
        for name, gradient in sums.items():
            now = self._now[name][: len(gradient)]
            gradient.mul_(scale.view(-1, *[1] * (gradient.dim() - 1)))
            if settings.proximal:
                gradient.add_(now - self._start[name], alpha=settings.proximal)
            if settings.momentum:
                if name not in self._velocity:
                    whole = self._now[name].shape
                    self._velocity[name] = self.buffers.take(f"velocity {name}", *whole).zero_()
                velocity = self._velocity[name][: len(gradient)]
                gradient = velocity.mul_(settings.momentum).add_(gradient)
            now.sub_(gradient, alpha=settings.learning_rate)

    def _separate_clients(self) -> None:
        """Give each client trained parameters of its own, unless it has them."""
        if self._separate:
            return
        for name in self.trainable:
            shared = self._now[name]
            self._now[name] = self.buffers.take(f"now {name}", *shared.shape).copy_(shared)
        self._separate = True

    def updates(self) -> NDArray[np.float32]:
        """What training changed: float32[clients, trainable_parameters]."""
        moved = np.empty((self.clients, self.trained), dtype=np.float32)
        offset = 0
        for tensor in self.config.trainable_layout():
            part = torch.from_numpy(moved[:, offset : offset + tensor.size])
            torch.sub(
                self._now[tensor.name].flatten(1), self._start[tensor.name].flatten(), out=part
            )
            offset += tensor.size
        return moved
