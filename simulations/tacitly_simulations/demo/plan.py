"""The demo's plan: what its officers agree on."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tacitly_common.campaign import (
    CampaignPlan,
    CohortPlan,
    LegalBasis,
    MaskingPlan,
    ParticipationLimits,
    RecordMechanism,
    References,
    ServerOptimizerName,
    ServerOptimizerPlan,
    StopRules,
    SubjectMechanism,
    TokenPlan,
    make_plan,
)
from tacitly_common.model_config import ModelConfig
from tacitly_common.vocabulary import Vocabulary
from tacitly_server.bundle import app_hash
from tacitly_server.rounds.receipts import model_sha256

# What a lost attempt costs is not lost to the demo: everybody may pay for a few more.
_SPARE_ATTEMPTS: Final = 4
# Waited for only where a machine is gone: each of a masked round's five exchanges has its share.
_DEADLINE_SECONDS: Final = 120
# A device's share of this noise is then still several hundred steps.
_GRID_BITS: Final = 16
RECORD: Final = RecordMechanism(
    window_tokens=32,
    max_windows=512,
    sample_rate=Decimal("0.5"),
    steps=10,
    noise_multiplier=Decimal("0.5"),
    clip_norm=Decimal("0.4"),
    learning_rate=Decimal(12),
    cap_epsilon=Decimal(10_000),
)


def model_config(tokens: TokenPlan) -> ModelConfig:
    """A small model over a plan's tokens, of which the last layer is trained."""
    return ModelConfig(
        vocabulary_size=Vocabulary(tokens).size,
        embedding=32,
        hidden=64,
        trainable=("output.weight", "output.bias"),
    )


def demo_plan(
    tokens: TokenPlan,
    data_epochs: Sequence[str],
    model: NDArray[np.float32],
    *,
    people: int,
    minimum: int,
    rounds: int,
    noise_multiplier: Decimal,
) -> CampaignPlan:
    """A plan in which everybody takes part in every round, and `minimum` of them are enough.

    Its sums are masked, in one group of all.
    """
    attempts = rounds + _SPARE_ATTEMPTS
    return make_plan(
        name="demo",
        purpose="next-interaction",
        legal_basis=LegalBasis.CONSENT,
        tokens=tokens,
        data_epochs=tuple(data_epochs),
        model=model_config(tokens),
        initial_model_hash=model_sha256(model),
        app_hash=app_hash(),
        rounds=rounds,
        participation=ParticipationLimits(per_campaign=attempts, per_epoch=attempts),
        delta=Decimal("0.001"),
        subject=SubjectMechanism(
            clip_norm=Decimal(2),
            noise_multiplier=noise_multiplier,
            encoding="rounded_gaussian",
            grid_bits=_GRID_BITS,
        ),
        record=RECORD,
        cohort=CohortPlan(
            population=people,
            target=people,
            minimum=minimum,
            deadline_seconds=_DEADLINE_SECONDS,
            selection_timeout_seconds=60,
        ),
        optimizer=ServerOptimizerPlan(
            name=ServerOptimizerName.MOMENTUM,
            learning_rate=Decimal(1),
            momentum=Decimal("0.5"),
        ),
        stop=StopRules(lost_in_a_row=attempts),
        references=References(
            dpia="none: a demonstration", works_agreement="none: a demonstration"
        ),
        masking=MaskingPlan(
            dropout=Decimal("0.2"),
            corruption=Decimal("0.1"),
            failure_bits=40,
            group_size=people,
            wrap_bits=40,
        ),
        expires=datetime.now(UTC).replace(microsecond=0) + timedelta(days=1),
    )
