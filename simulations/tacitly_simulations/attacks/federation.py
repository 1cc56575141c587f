"""A small federation in one process, for attacks on what it learns.

Clips, noise, encoding, sum, decoding and optimiser are those that deploy; devices train without
the record level, so that what the attack sees is what the person level alone protects.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from tacitly_client.training.baseline import PlainSettings
from tacitly_client.training.local import train_without_privacy
from tacitly_common.campaign import CampaignPlan
from tacitly_common.mechanisms.encodings import (
    decode_mean,
    release,
    release_without_noise,
    signed_sum,
)
from tacitly_common.mechanisms.gaussian import secure_generator
from tacitly_server.aggregation.streaming_sum import StreamingSum
from tacitly_server.rounds.optimizer import OptimizerState, apply, step

Windows = NDArray[np.int64]
Update = NDArray[np.float32]


class Protection(StrEnum):
    """What is done to an update before it is added up. Only `NOISED` is private."""

    NONE = "unprotected"
    CLIPPED = "clipped"
    NOISED = "clipped and noised"


def federate(
    plan: CampaignPlan,
    start: NDArray[np.float32],
    persons: Sequence[Windows | None],
    *,
    local: PlainSettings,
    protection: Protection,
    rng: np.random.Generator,
    on_round: Callable[[int], None] = lambda _round: None,
) -> NDArray[np.float32]:
    """The model after all the plan's rounds, in each of which everybody takes part.

    None stands for a person who is not there: zeros, with their share of the noise. `rng` shuffles
    minibatches; noise comes from a secure source. Without protection the updates' mean is exact.
    """
    model, state = start, OptimizerState()
    mean: NDArray[np.float64]
    for number in range(1, plan.rounds + 1):
        updates = (
            np.zeros(plan.model.trainable_parameters, dtype=np.float32)
            if windows is None
            else train_without_privacy(plan.model, model, windows, local, rng)
            for windows in persons
        )
        if protection is Protection.NONE:
            mean = np.stack(list(updates)).mean(axis=0, dtype=np.float64)
        else:
            encode = release if protection is Protection.NOISED else release_without_noise
            total, generator = StreamingSum(plan.model.trainable_parameters), secure_generator()
            for update in updates:
                total.add(encode(update, plan, number, generator))
            mean = decode_mean(signed_sum(total.total, plan), plan, number)
        move, state = step(plan.optimizer, state, mean)
        model = apply(plan.model, model, move)
        on_round(number)
    return model
