"""What record-level privacy costs in time: three ways to train, alternating in one run.

Same model, same windows in every batch, one thread, whole steps (gradient, noise, update):

    plain    torch's nn.GRU with autograd and SGD, no privacy
    tacitly  `tacitly_client.training.local.train`, as an agent runs it
    opacus   Opacus's hooks on its DPGRU, its DPOptimizer clips and adds noise
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from tacitly_common.campaign import CampaignPlan, RecordMechanism, revise
from tacitly_simulations.bench.plan import EMBEDDING, HIDDEN, rounds_plan

WINDOW: Final = 32
BATCH: Final = 32
CLIP: Final = 1.0
NOISE: Final = 1.0
LEARNING_RATE: Final = 0.1
STEPS: Final = 5  # of each kind before the next has its turn


@dataclass(frozen=True, slots=True)
class Timing:
    """Medians over the repetitions, milliseconds a step."""

    plain_ms: float
    tacitly_ms: float
    opacus_ms: float

    @property
    def tacitly_ratio(self) -> float:
        """Cost of a private step as a multiple of a plain one."""
        return self.tacitly_ms / self.plain_ms

    @property
    def opacus_ratio(self) -> float:
        """The same for Opacus's hooks."""
        return self.opacus_ms / self.plain_ms


def measure(repetitions: int) -> Timing:
    """Time the three steps in turn, so that whatever else the machine does hits all alike."""

    steps = _steps()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(repetitions):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            seconds[name].append((time.perf_counter() - began) / STEPS)
    median = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
    return Timing(median["plain"], median["tacitly"], median["opacus"])


def _steps() -> dict[str, Callable[[], None]]:
    """Each runs `STEPS` steps."""
    import torch
    from opacus.grad_sample import GradSampleModule
    from opacus.layers import DPGRU
    from opacus.optimizers import DPOptimizer
    from torch import Tensor, nn

    from tacitly_client.training.local import train
    from tacitly_common.mechanisms.gaussian import secure_generator
    from tacitly_common.model import InteractionModel, initial_vector, load_vector

    plan = _plan()
    vocabulary = plan.model.vocabulary_size
    vector = initial_vector(plan.model, 0)
    windows = torch.randint(
        1, vocabulary, (BATCH, WINDOW + 1), generator=torch.Generator().manual_seed(0)
    )

    class OpacusModel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(vocabulary, EMBEDDING)
            self.gru = DPGRU(EMBEDDING, HIDDEN, batch_first=True)
            self.output = nn.Linear(HIDDEN, vocabulary)

        def forward(self, tokens: Tensor) -> Tensor:
            logits: Tensor = self.output(self.gru(self.embedding(tokens))[0])
            return logits

    def sgd(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)

    plain_model = InteractionModel(plan.model)
    load_vector(plain_model, vector)
    opacus_model = GradSampleModule(OpacusModel(), batch_first=True, loss_reduction="sum")
    opacus_optimizer = DPOptimizer(
        sgd(opacus_model), noise_multiplier=NOISE, max_grad_norm=CLIP, expected_batch_size=BATCH
    )

    def autograd(model: nn.Module, optimizer: torch.optim.Optimizer, denominator: int) -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            logits = model(windows[:, :-1])
            loss = nn.functional.cross_entropy(
                logits.flatten(0, 1), windows[:, 1:].flatten(), reduction="sum"
            )
            torch.autograd.backward(loss / denominator)
            optimizer.step()

    def tacitly() -> None:
        train(plan, vector, windows.numpy(), rng=secure_generator())

    plain_optimizer = sgd(plain_model)
    return {
        "plain": lambda: autograd(plain_model, plain_optimizer, WINDOW * BATCH),
        "tacitly": tacitly,
        "opacus": lambda: autograd(opacus_model, opacus_optimizer, WINDOW),
    }


def _plan() -> CampaignPlan:
    """Every window in every batch; what concerns rounds and cohort plays no part."""
    return revise(
        rounds_plan(
            "step",
            1,
            app_hash="0" * 64,
            initial_model_hash="0" * 64,
            data_epochs=("2026-01",),
        ),
        record=RecordMechanism(
            window_tokens=WINDOW,
            max_windows=BATCH,
            sample_rate=Decimal(1),
            steps=STEPS,
            noise_multiplier=Decimal(NOISE),
            clip_norm=Decimal(CLIP),
            learning_rate=Decimal(LEARNING_RATE),
            cap_epsilon=Decimal(1_000),
        ),
    )
