"""The server's optimiser: the mean update, taken as a negative gradient, moves the model.

Works on the trainable coordinates only, in float64; its state is plain arrays, so that a
checkpoint holds all of it. Equal to torch.optim's SGD and Adam and to Flower's FedYogi (tests
compare them).

| name     | step                                                        | state       |
|----------|-------------------------------------------------------------|-------------|
| sgd      | x += lr·u                                                   | none        |
| momentum | b = β·b + u; x += lr·b                                      | b           |
| adam     | m, v debiased moments of u; x += lr·m/(sqrt(v) + τ)         | m, v, steps |
| yogi     | v -= (1 - β₂)·u²·sign(v - u²), m as Adam's, neither debiased | m, v       |

Adam and Yogi: Reddi et al. 2021, "Adaptive Federated Optimization", Algorithm 2, Adam with its own
debiasing, Yogi's v from τ² on; β₂ and τ are that paper's (section 5 and appendix D), β₁ is the
plan's momentum. Yogi's v changes by at most (1 - β₂)·u² a round, so it forgets a round of large
updates more slowly than Adam's, and steps do not jump where updates become small.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tacitly_common.campaign import ServerOptimizerName, ServerOptimizerPlan
from tacitly_common.model_config import ModelConfig

BETA2: Final = 0.99
TAU: Final = 1e-3

Moments = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class OptimizerState:
    """What carries over between rounds. `moments` are float64[trainable_parameters]."""

    steps: int = 0
    moments: Moments = field(default_factory=dict)


def step(
    plan: ServerOptimizerPlan, state: OptimizerState, mean: NDArray[np.float64]
) -> tuple[NDArray[np.float64], OptimizerState]:
    """What to add to the trainable coordinates, and the state after. Changes nothing in place."""
    learning_rate, beta = float(plan.learning_rate), float(plan.momentum)
    steps = state.steps + 1
    zero = np.zeros_like(mean)
    match plan.name:
        case ServerOptimizerName.SGD:
            return learning_rate * mean, OptimizerState(steps)
        case ServerOptimizerName.MOMENTUM:
            buffer = beta * state.moments.get("first", zero) + mean
            return learning_rate * buffer, OptimizerState(steps, {"first": buffer})
        case ServerOptimizerName.ADAM:
            first = beta * state.moments.get("first", zero) + (1 - beta) * mean
            second = BETA2 * state.moments.get("second", zero) + (1 - BETA2) * mean**2
            m = first / (1 - beta**steps)
            v = second / (1 - BETA2**steps)
            delta = learning_rate * m / (np.sqrt(v) + TAU)
            return delta, OptimizerState(steps, {"first": first, "second": second})
        case ServerOptimizerName.YOGI:
            first = beta * state.moments.get("first", zero) + (1 - beta) * mean
            before, square = state.moments.get("second", zero + TAU**2), mean**2
            second = before - (1 - BETA2) * square * np.sign(before - square)
            delta = learning_rate * first / (np.sqrt(second) + TAU)
            return delta, OptimizerState(steps, {"first": first, "second": second})


def apply(
    config: ModelConfig, model: NDArray[np.float32], delta: NDArray[np.float64]
) -> NDArray[np.float32]:
    """A new model, float32[parameters]: `delta` added to the trainable tensors."""
    moved = model.copy()
    offset = 0
    for tensor in config.trainable_layout():
        moved[tensor.start : tensor.stop] += delta[offset : offset + tensor.size].astype(np.float32)
        offset += tensor.size
    return moved
