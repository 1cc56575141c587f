"""How the lab clips beside the plan's way: tensor by tensor, or at a norm that follows a quantile.

A device clips its whole update to the plan's norm (`mechanisms/gaussian.py`); what is here no
deployed plan can ask for.

    clip_by_tensor(config, update, bound)                    # float64[d], each tensor's share
    adaptive.plan_of_round(plan, last_receipt, noised=True)  # with this round's norm and noise
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from tacitly_common.campaign import CampaignPlan, revise
from tacitly_common.errors import ValidationError
from tacitly_common.mechanisms.gaussian import clip_l2
from tacitly_common.model_config import ModelConfig
from tacitly_common.validation import in_range, positive
from tacitly_server.rounds.receipts import AdaptedClip, Receipt

_NOISE_STEP: Final = Decimal("1e-9")


def clip_by_tensor(
    config: ModelConfig, update: NDArray[np.float32], bound: float
) -> NDArray[np.float64]:
    """Each of the m trained tensors clipped to `bound`/sqrt(m): float64[trainable_parameters].

    The whole has an L2 norm of at most `bound`, so that noise and ε are those of the plan. McMahan
    et al. 2018, "Learning differentially private recurrent language models", section 3: per-layer
    clipping with S_j = S/sqrt(m).

    Raises:
        EncodingError: a coordinate is NaN or infinite.
    """
    sizes = [tensor.size for tensor in config.trainable_layout()]
    share = bound / math.sqrt(len(sizes))
    parts = np.split(update, np.cumsum(sizes)[:-1])
    return np.concatenate([clip_l2(part, share) for part in parts])


@dataclass(frozen=True, slots=True)
class AdaptiveClip:
    """A clip norm that moves to a quantile of the updates' norms.

    Andrew et al. 2021, "Differentially private learning with adaptive clipping", Algorithm 1.
    `quantile` is γ there, `rate` η_C, `count_noise` σ_b: the standard deviation of the noise on
    how many updates were within the norm, when the plan's minimum cohort answers.
    """

    quantile: float
    rate: float
    count_noise: float

    def __post_init__(self) -> None:
        in_range(0.001, 0.999, quantile=self.quantile)
        positive(rate=self.rate, count_noise=self.count_noise)

    def noise_of_updates(self, noise_multiplier: Decimal) -> Decimal:
        """z_Δ = (z^-2 - (2σ_b)^-2)^-1/2: updates and count together cost what z costs.

        Theorem 1 there: an indicator less 1/2 moves the count by 1/2, so that the count has the
        noise multiplier 2σ_b. Rounded up, by less than 1e-9.

        Raises:
            ValidationError: the count alone would cost as much.
        """
        z, of_count = float(noise_multiplier), 2 * self.count_noise
        if of_count <= z:
            raise ValidationError(
                f"plan.clip_count_noise is {self.count_noise:g}; the count alone would cost all "
                f"of ε: give more than {z / 2:.3g}, half the noise multiplier, or a larger cohort"
            )
        of_updates = Decimal((z**-2 - of_count**-2) ** -0.5)
        return of_updates.quantize(_NOISE_STEP, rounding=ROUND_CEILING)

    def plan_of_round(
        self, plan: CampaignPlan, last: Receipt | None, *, noised: bool
    ) -> CampaignPlan:
        """The plan with the clip norm that follows from the last released round's receipt.

        Where sums are `noised` its noise is that of the updates; what a round costs in all is said
        by `plan` alone.
        """
        clip_norm = float(plan.subject.clip_norm)
        if last is not None and last.clip is not None:
            error = last.clip.within - self.quantile
            clip_norm = last.clip.norm * math.exp(-self.rate * error)
        noise = plan.subject.noise_multiplier
        subject = msgspec.structs.replace(
            plan.subject,
            clip_norm=Decimal(clip_norm),
            noise_multiplier=self.noise_of_updates(noise) if noised else noise,
        )
        return revise(plan, subject=subject)

    def outcome(
        self,
        of_round: CampaignPlan,
        within: int,
        answers: int,
        noise_seed: Sequence[int] | None,
    ) -> AdaptedClip:
        """What a round's receipt says: its norm, and the share within it, noised by `noise_seed`.

        The sum of (indicator - 1/2) is divided by the planned cohort, as updates are: who gave no
        answer counts for one half.
        """
        total = within - answers / 2
        if noise_seed is not None:
            deviation = self.count_noise * math.sqrt(answers / of_round.cohort.minimum)
            total += np.random.default_rng(tuple(noise_seed)).normal(0.0, deviation)
        share = 0.5 + float(total) / of_round.cohort.target
        return AdaptedClip(norm=float(of_round.subject.clip_norm), within=share)
