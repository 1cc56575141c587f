"""Encode an update as residues that can be summed under masks; decode the sum. Bounds: the plan's.

On the device (`encode`):
    1. refuse NaN and infinity; clip to L2 norm C
    2. rotate, if the plan says so (`rotation.py`), so that no coordinate is large
    3. scale to grid steps C·2^-grid_bits and round without bias to integers, again and again until
       the norm keeps to the plan's bound: the very bound that is accounted for
    4. add this device's share of integer noise, round(N(0, s²)) from a secure stream
    5. wrap: residues mod 2^field_bits, uint32

On the server: the residues of a group are added mod 2^field_bits, `centred` makes signed integers
of that sum, groups' are added, and `decode_mean` undoes 3 and 2 over the planned cohort.

The wrap is post-processing and costs no privacy. What it may cost is a wrong coordinate, with odds
of at most 2^-wrap_bits for a group's sum (`field.py`). A structure bound comes with it: whatever a
hostile device sends is a residue. It is no bound on that device's norm: nobody sees it.
"""

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tacitly_common.campaign import CampaignPlan
from tacitly_common.mechanisms.gaussian import check_length, clip_l2
from tacitly_common.mechanisms.rotation import rotate, unrotate

# A draw fails with odds below 1e-8 (accounting/rounded_gaussian.py); this many do not, ever.
_DRAWS: Final = 100
_SEED_PURPOSE: Final = b"tacitly rotation 1\0"


def encode(
    update: NDArray[np.float32], plan: CampaignPlan, round_number: int, rng: np.random.Generator
) -> NDArray[np.uint32]:
    """What may go under a mask: uint32[d] below 2^field_bits.

    Raises:
        EncodingError: wrong length, NaN or infinity.
    """
    integers = bounded_integers(update, plan, round_number, rng)
    noise = np.rint(rng.normal(0.0, plan.share_steps, size=integers.shape)).astype(np.int64)
    return _wrap(integers + noise, plan)


def encode_without_noise(
    update: NDArray[np.float32], plan: CampaignPlan, round_number: int, rng: np.random.Generator
) -> NDArray[np.uint32]:
    """Clipped, rounded and wrapped but *not private*: the simulation lab's baseline."""
    return _wrap(bounded_integers(update, plan, round_number, rng), plan)


def bounded_integers(
    update: NDArray[np.float32], plan: CampaignPlan, round_number: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Steps 1 to 3: int64[d] whose squared norm is at most `plan.squared_norm_bound`, exactly.

    Raises:
        EncodingError: wrong length, NaN or infinity.
    """
    check_length(update, plan)
    clipped = clip_l2(update, float(plan.subject.clip_norm))
    if plan.rotates:
        clipped = rotate(clipped, rotation_seed(plan, round_number))
    steps = clipped / plan.grid_step
    for _ in range(_DRAWS):
        rounded = np.floor(steps + rng.random(steps.shape)).astype(np.int64)
        if int(rounded @ rounded) <= plan.squared_norm_bound:
            return rounded
    return np.trunc(steps).astype(np.int64)  # no longer than what was clipped; biased, but bounded


def centred(
    residues: NDArray[np.uint32 | np.uint64 | np.int64], plan: CampaignPlan
) -> NDArray[np.int64]:
    """A group's sum mod 2^field_bits as signed integers: int64[d] in [-2^(b-1), 2^(b-1)).

    `residues` may be an unreduced sum; only its low bits count.
    """
    modulus = 1 << plan.field_bits
    reduced = residues.astype(np.int64) & (modulus - 1)
    return reduced - modulus * (reduced >= modulus // 2)


def decode_mean(
    total: NDArray[np.int64], plan: CampaignPlan, round_number: int
) -> NDArray[np.float64]:
    """The mean update over the planned cohort from the groups' centred sums, added. float64[d]."""
    mean = total.astype(np.float64) * (plan.grid_step / plan.cohort.target)
    return unrotate(mean, rotation_seed(plan, round_number)) if plan.rotates else mean


def rotation_seed(plan: CampaignPlan, round_number: int) -> bytes:
    """Public, and fixed before anything is learned: SHA-256 of the plan's hash and the round."""
    return hashlib.sha256(_SEED_PURPOSE + f"{plan.hash}.{round_number}".encode()).digest()


def _wrap(integers: NDArray[np.int64], plan: CampaignPlan) -> NDArray[np.uint32]:
    return (integers & ((1 << plan.field_bits) - 1)).astype(np.uint32)
