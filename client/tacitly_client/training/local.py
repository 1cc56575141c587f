"""One device's part of a round: a model and a person's windows -> an update.

`train` is what an agent runs: Poisson-sampled DP-SGD (Abadi et al. 2016, Algorithm 1) with
Opacus as the engine: its optimiser adds the noise and scales by the public denominator. The clipped
sums it starts from are ours (`gradient.py`); Opacus's own hooks give the same sums at 8 to 14 times
the cost. What the steps cost is charged before they begin (`ledger/`), so nothing is counted here.

Noise and sampling come from the generator the caller gives: `mechanisms.gaussian.
secure_generator`, a ChaCha20 stream under a fresh 256-bit key. A `torch.Generator`, the only
source Opacus takes without the unmaintained torchcsprng, is no substitute: it is a Mersenne
Twister that folds its seed to 32 bits. What this does not cover: the Gaussian is sampled in
double precision, rounded to single with the sum, and not exact in its tails (Mironov 2012);
Opacus's `secure_mode` claims to cover that, and is disputed (opacus #538, #616).

`train_without_privacy` is the lab's baseline; no agent imports it.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizerFastGradientClipping
from opacus.optimizers.optimizer import _check_processed_flag, _mark_as_processed
from torch import Tensor, nn

from tacitly_client.training.baseline import PlainSettings, TrainingError
from tacitly_client.training.gradient import clipped_gradient_sum
from tacitly_common.campaign import CampaignPlan
from tacitly_common.model import named_tensors
from tacitly_common.model_config import ModelConfig

# Records whose activations are in memory together; a speed setting, the sum is the same.
_RECORDS_AT_ONCE: Final = 128


def train(
    plan: CampaignPlan,
    start: NDArray[np.float32],
    windows: NDArray[np.int64],
    *,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """The update, float32[trainable_parameters], of `plan.record.steps` steps of DP-SGD.

    From `start`, on `training_windows` of this plan. The update is parameters after - before.

    Each step:
        1. take each window with probability `sample_rate`, independently
        2. sum the windows' gradients, each clipped to L2 norm `clip_norm`
        3. add Gaussian noise of standard deviation `noise_multiplier` x `clip_norm` to each
           coordinate, also where no window was taken
        4. divide by `expected_batch_windows`, a constant of the plan, and step against it

    Guarantee: with respect to one record, `rdp_of_steps` of the plan's noise multiplier, sample
    rate and steps. `rng` must be cryptographically secure.

    Training that leaves the finite numbers gives an update of zeros. It is noised and sent like
    any other: a failure that shows would tell the server something that no noise covers.
    """
    record = plan.record
    model = _TrainableModel(plan.model, start)
    sample_rate = float(record.sample_rate)
    optimizer = _Optimizer(
        torch.optim.SGD(model.trainable.values(), lr=float(record.learning_rate)),
        noise_multiplier=float(record.noise_multiplier),
        max_grad_norm=float(record.clip_norm),
        # Opacus types it as int; it only ever divides by it.
        expected_batch_size=record.expected_batch_windows,
        rng=rng,
    )
    rows = torch.from_numpy(windows)
    for _ in range(record.steps):
        taken = rows[torch.from_numpy(rng.random(len(rows)) < sample_rate)]
        optimizer.zero_grad(set_to_none=True)
        model.set_gradients(taken, clip_norm=float(record.clip_norm))
        optimizer.step()
    update = model.update()
    if not np.isfinite(update).all():
        update = np.zeros_like(update)
    return update


def train_without_privacy(
    config: ModelConfig,
    start: NDArray[np.float32],
    windows: NDArray[np.int64],
    settings: PlainSettings,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """The update of ordinary minibatch SGD, nothing clipped, nothing noised: *not private*.

    float32[trainable_parameters]; zeros without windows.

    Raises:
        TrainingError: NaN or infinity came up.
    """
    model = _TrainableModel(config, start)
    optimizer = torch.optim.SGD(
        model.trainable.values(), lr=settings.learning_rate, momentum=settings.momentum
    )
    rows = torch.from_numpy(windows)
    for _ in range(settings.epochs):
        shuffled = rows[torch.from_numpy(rng.permutation(len(rows)))]
        for batch in torch.split(shuffled, settings.batch_windows):
            model.set_gradients(batch, clip_norm=None, scale=1 / max(len(batch), 1))
            model.pull_back(settings.proximal)
            optimizer.step()
    update = model.update()
    if not np.isfinite(update).all():
        raise TrainingError("training left the finite numbers; lower the learning rate")
    return update


class _TrainableModel:
    """The tensors of a model by name; those that train are parameters for an optimiser."""

    def __init__(self, config: ModelConfig, start: NDArray[np.float32]) -> None:
        self._start = named_tensors(config, start)
        # A parameter shares the memory of its tensor: the optimiser moves both.
        self._tensors = named_tensors(config, start)
        self.trainable = {
            tensor.name: nn.Parameter(self._tensors[tensor.name])
            for tensor in config.trainable_layout()
        }

    def set_gradients(
        self, windows: Tensor, *, clip_norm: float | None, scale: float = 1.0
    ) -> None:
        """Put `scale` x the sum of the windows' clipped gradients into each parameter's `grad`."""
        for parameter in self.trainable.values():
            parameter.grad = torch.zeros_like(parameter)
        for batch in torch.split(windows, _RECORDS_AT_ONCE):
            result = clipped_gradient_sum(
                self._tensors, batch, trainable=frozenset(self.trainable), clip_norm=clip_norm
            )
            for name, parameter in self.trainable.items():
                if parameter.grad is not None:
                    parameter.grad.add_(result.gradients[name], alpha=scale)

    def pull_back(self, proximal: float) -> None:
        """Add FedProx's gradient, `proximal` x (parameters - start)."""
        if proximal == 0:
            return
        for name, parameter in self.trainable.items():
            if parameter.grad is not None:
                parameter.grad.add_(self._tensors[name] - self._start[name], alpha=proximal)

    def update(self) -> NDArray[np.float32]:
        """What training changed, float32[trainable_parameters]."""
        moved = [(self._tensors[name] - self._start[name]).flatten() for name in self.trainable]
        return torch.cat(moved).numpy()


class _Optimizer(DPOptimizerFastGradientClipping):  # type: ignore[misc]  # Opacus is untyped
    """Opacus's optimiser over gradient sums that are clipped already, with the caller's noise."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_batch_size: float,
        rng: np.random.Generator,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
        )
        self._rng = rng

    def add_noise(self) -> None:
        """Opacus's method with the noise from `rng`; its guards against a second use stay."""
        deviation = self.noise_multiplier * self.max_grad_norm
        for parameter in self.params:
            _check_processed_flag(parameter.summed_grad)
            noise = torch.from_numpy(self._rng.normal(0.0, deviation, tuple(parameter.shape)))
            # Added in double precision: the sum is rounded once.
            parameter.grad = (parameter.summed_grad.double() + noise).float()
            _mark_as_processed(parameter.summed_grad)
