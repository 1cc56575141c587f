"""Clip, noise and encode an update; decode the sum. All bounds come from the plan.

On the device (`release`):
    1. refuse NaN and infinity
    2. clip to L2 norm C
    3. add this device's share of the Gaussian noise, from a cryptographically secure stream
    4. round to the grid C·2^-bits and emit int32

On the server: the integer vectors are added exactly, and `decode_mean` divides by the
planned cohort, so the L2 sensitivity of the sum is C under add/remove of one subject.

Rounding comes after the noise, so it is post-processing and costs nothing. What this does not
cover: the Gaussian is sampled in float64, so the distribution's tails are those of a
floating-point sampler (Mironov 2012); the grid hides the low-order bits that attack reads.
"""

import secrets

import numpy as np
from numpy.typing import NDArray
from randomgen import ChaCha

from tacitly_common.campaign import CampaignPlan
from tacitly_common.errors import TacitlyError

_INT32_MAX = 2**31 - 1


class EncodingError(TacitlyError, ValueError):
    """An update cannot be encoded or decoded. The message holds no coordinate."""


def secure_generator() -> np.random.Generator:
    """A numpy generator over the ChaCha20 stream of a fresh 256-bit key from the system."""
    return np.random.Generator(ChaCha(key=secrets.randbits(256), rounds=20))


def clip_l2(
    update: NDArray[np.float32], bound: float, *, out: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """The update scaled to an L2 norm of at most `bound`; shorter ones are unchanged.

    It is written to `out` where there is one, else to fresh memory.

    Raises:
        EncodingError: a coordinate is NaN or infinite (min(1, nan) would let it pass unclipped).

    | update       | result              |
    |--------------|---------------------|
    | zero         | zero                |
    | norm > bound | norm <= bound       |
    | NaN, ±inf    | EncodingError       |
    """
    if not np.isfinite(update).all():
        raise EncodingError("the update holds NaN or infinity; it was not clipped")
    wide = np.empty(update.shape) if out is None else out
    wide[...] = update
    norm = float(np.linalg.norm(wide))
    if norm > bound:
        wide *= bound / norm
    return wide


def release(
    update: NDArray[np.float32], plan: CampaignPlan, rng: np.random.Generator
) -> NDArray[np.int32]:
    """What may leave the device: clipped, noised, on the grid. int32[d], d = len(update).

    Raises:
        EncodingError: wrong length, NaN or infinity, or noise beyond the grid's range.
    """
    check_length(update, plan)
    noisy = clip_l2(update, float(plan.subject.clip_norm))
    noisy += rng.normal(0.0, plan.noise_share_std, size=noisy.shape)
    return _to_grid(noisy, plan)


def release_without_noise(update: NDArray[np.float32], plan: CampaignPlan) -> NDArray[np.int32]:
    """Clipped and on the grid but *not private*: the simulation lab's baseline."""
    check_length(update, plan)
    return _to_grid(clip_l2(update, float(plan.subject.clip_norm)), plan)


def decode_mean(total: NDArray[np.int64], plan: CampaignPlan) -> NDArray[np.float64]:
    """The mean update from the integer sum, over the planned cohort. float64[d]."""
    return total.astype(np.float64) * (plan.grid_step / plan.cohort.target)


def encoded_norm_bound(plan: CampaignPlan) -> float:
    """An L2 bound, in parameter units, that one honest encoded update exceeds with odds < 1e-9.

    C + s·(sqrt(d) + sqrt(2 ln 1e9)) with s the share's standard deviation (Laurent and Massart
    2000, Lemma 1) + half a grid step per coordinate for the rounding.
    """
    d = plan.model.trainable_parameters
    noise = plan.noise_share_std * (np.sqrt(d) + np.sqrt(2 * np.log(1e9)))
    return float(plan.subject.clip_norm) + float(noise) + plan.grid_step * float(np.sqrt(d)) / 2


def check_length(update: NDArray[np.float32], plan: CampaignPlan) -> None:
    """Refuse an update that is not of the plan's trained coordinates.

    Raises:
        EncodingError: with both lengths.
    """
    if update.shape != (plan.model.trainable_parameters,):
        raise EncodingError(
            f"the update has shape {update.shape}; the plan trains "
            f"{plan.model.trainable_parameters} coordinates"
        )


def _to_grid(noisy: NDArray[np.float64], plan: CampaignPlan) -> NDArray[np.int32]:
    scaled = np.rint(noisy / plan.grid_step)
    if np.abs(scaled).max(initial=0.0) > _INT32_MAX:
        raise EncodingError(
            "a coordinate leaves the 32-bit grid; "
            f"use fewer than {plan.subject.grid_bits} grid_bits"
        )
    return scaled.astype(np.int32)
