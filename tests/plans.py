"""A small, valid plan that tests vary."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tacitly_common.campaign import (
    CampaignPlan,
    CohortPlan,
    Family,
    LegalBasis,
    Level,
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
    revise,
)
from tacitly_common.model_config import ModelConfig

# The month of the events that tests make.
EPOCH = "2023-11"


def small_plan(*, participations: int = 10, **changes: Any) -> CampaignPlan:
    """A plan over a tiny model; `changes` replaces whole fields."""
    plan = make_plan(
        name="test",
        purpose="next-interaction",
        legal_basis=LegalBasis.CONSENT,
        data_epochs=(EPOCH,),
        tokens=TokenPlan(
            vocabulary_version=1,
            level=Level.CHARACTERS,
            families=(Family.APPLICATIONS, Family.KEYS),
        ),
        model=ModelConfig(vocabulary_size=11, embedding=3, hidden=4),
        initial_model_hash="0" * 64,
        app_hash="1" * 64,
        rounds=20,
        participation=ParticipationLimits(per_campaign=participations, per_epoch=participations),
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
            cap_epsilon=Decimal(1_000),
        ),
        cohort=CohortPlan(
            population=100, target=8, minimum=4, deadline_seconds=30, selection_timeout_seconds=30
        ),
        optimizer=ServerOptimizerPlan(name=ServerOptimizerName.SGD, learning_rate=Decimal(1)),
        stop=StopRules(lost_in_a_row=1_000),
        references=References(dpia="DPIA-1", works_agreement="WA-1"),
        expires=datetime(2100, 1, 1, tzinfo=UTC),
    )
    return revise(plan, **changes)


def masked_plan(**changes: Any) -> CampaignPlan:
    """`small_plan` with sums under masks; `changes` replaces whole fields."""
    masked: dict[str, Any] = {
        "subject": SubjectMechanism(
            clip_norm=Decimal("0.5"),
            noise_multiplier=Decimal("3.78"),
            encoding="rounded_gaussian",
            grid_bits=12,
        ),
        "masking": MaskingPlan(
            dropout=Decimal("0.25"),
            corruption=Decimal("0.1"),
            failure_bits=20,
            group_size=8,
            wrap_bits=40,
        ),
    }
    return small_plan(**masked | changes)
