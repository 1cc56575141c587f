"""A small, valid plan that tests vary."""

from decimal import Decimal
from typing import Any

import msgspec

from tacitly_common.campaign import (
    CampaignPlan,
    CohortPlan,
    Family,
    Level,
    RecordMechanism,
    ServerOptimizerName,
    ServerOptimizerPlan,
    SubjectMechanism,
    TokenPlan,
)
from tacitly_common.model_config import ModelConfig


def small_plan(**changes: Any) -> CampaignPlan:
    """A plan over a tiny model; `changes` replaces whole fields."""
    plan = CampaignPlan(
        name="test",
        purpose="next-interaction",
        tokens=TokenPlan(
            vocabulary_version=1,
            level=Level.CHARACTERS,
            families=(Family.APPLICATIONS, Family.KEYS),
        ),
        model=ModelConfig(vocabulary_size=11, embedding=3, hidden=4),
        initial_model_hash="0" * 64,
        app_hash="1" * 64,
        rounds=20,
        participations=10,
        delta=Decimal("1e-6"),
        subject=SubjectMechanism(clip_norm=Decimal("0.5"), noise_multiplier=Decimal("3.78")),
        record=RecordMechanism(
            window_tokens=8,
            max_windows=100,
            sample_rate=Decimal("0.1"),
            steps=5,
            noise_multiplier=Decimal("0.8"),
            clip_norm=Decimal(1),
            learning_rate=Decimal("0.5"),
        ),
        cohort=CohortPlan(
            population=100, target=8, minimum=4, deadline_seconds=30, selection_timeout_seconds=30
        ),
        optimizer=ServerOptimizerPlan(name=ServerOptimizerName.SGD, learning_rate=Decimal(1)),
    )
    return msgspec.structs.replace(plan, **changes)
