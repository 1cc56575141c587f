"""The plan's encoding, picked in one place: what leaves a device, and what a sum of it means.

Both encodings give one 32-bit word a coordinate here, so that a trainer, an outbox and a sum need
not know which it is: `gaussian_grid` an integer, `rounded_gaussian` a residue below 2^field_bits,
whose sum counts mod 2^field_bits alone.
"""

import numpy as np
from numpy.typing import NDArray

from tacitly_common.campaign import CampaignPlan
from tacitly_common.mechanisms import gaussian, rounded_gaussian


def release(
    update: NDArray[np.float32], plan: CampaignPlan, round_number: int, rng: np.random.Generator
) -> NDArray[np.int32]:
    """The clipped, noised, encoded update: int32[d]; residues are its bits, unsigned.

    Raises:
        EncodingError: wrong length, NaN or infinity, or noise beyond the grid's range.
    """
    if plan.masking is None:
        return gaussian.release(update, plan, rng)
    return rounded_gaussian.encode(update, plan, round_number, rng).view(np.int32)


def release_without_noise(
    update: NDArray[np.float32], plan: CampaignPlan, round_number: int, rng: np.random.Generator
) -> NDArray[np.int32]:
    """The same but *not private*: the simulation lab's baseline."""
    if plan.masking is None:
        return gaussian.release_without_noise(update, plan)
    return rounded_gaussian.encode_without_noise(update, plan, round_number, rng).view(np.int32)


def within_bounds(encoded: NDArray[np.int32], plan: CampaignPlan) -> bool:
    """Whether one device's answer can be honest: its norm, or of residues their range alone."""
    if plan.masking is None:
        norm = float(np.linalg.norm(encoded.astype(np.float64))) * plan.grid_step
        return norm <= gaussian.encoded_norm_bound(plan)
    return int(encoded.view(np.uint32).max(initial=0)) >> plan.field_bits == 0


def signed_sum(total: NDArray[np.int64], plan: CampaignPlan) -> NDArray[np.int64]:
    """The integers behind a plain sum of answers: of residues, those of one group's sum."""
    return total if plan.masking is None else rounded_gaussian.centred(total, plan)


def decode_mean(
    total: NDArray[np.int64], plan: CampaignPlan, round_number: int
) -> NDArray[np.float64]:
    """The mean update over the planned cohort from `signed_sum`s, added. float64[d]."""
    if plan.masking is None:
        return gaussian.decode_mean(total, plan)
    return rounded_gaussian.decode_mean(total, plan, round_number)
