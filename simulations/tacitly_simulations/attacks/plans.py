"""The plan of a campaign that is attacked: settings of the mechanisms, none about people."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from tacitly_common.campaign import (
    CampaignPlan,
    CohortPlan,
    LegalBasis,
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
from tacitly_simulations.engines.privacy import one_group
from tacitly_simulations.population import token_plan

# A campaign without persons, for records and settings that an attack does not look at.
NO_RECORDS: Final = RecordMechanism(
    window_tokens=32,
    max_windows=400,
    sample_rate=Decimal(1),
    steps=1,
    noise_multiplier=Decimal(1),
    clip_norm=Decimal(1),
    learning_rate=Decimal(1),
    cap_epsilon=Decimal(1_000),
)
_MASKED_GRID_BITS: Final = 12
_PLAIN_GRID_BITS: Final = 24
_NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)


def attacked_plan(
    model: ModelConfig,
    *,
    cohort: int,
    rounds: int,
    participations: int,
    noise_multiplier: Decimal,
    delta: Decimal,
    clip_norm: Decimal = Decimal(1),
    population: int | None = None,
    masked: bool = False,
    record: RecordMechanism = NO_RECORDS,
    tokens: TokenPlan | None = None,
    momentum: Decimal = Decimal(0),
) -> CampaignPlan:
    """A plan whose cohort answers whole, so that the noise is no more than is claimed.

    Without `momentum` the mean update is added to the model as it is.
    """
    return make_plan(
        name="attacked",
        purpose="evaluation",
        legal_basis=LegalBasis.CONSENT,
        tokens=tokens or token_plan("coauthor"),
        data_epochs=("2026-01",),
        model=model,
        initial_model_hash="0" * 64,
        app_hash="0" * 64,
        rounds=rounds,
        participation=ParticipationLimits(per_campaign=participations, per_epoch=participations),
        delta=delta,
        subject=SubjectMechanism(
            clip_norm=clip_norm,
            noise_multiplier=noise_multiplier,
            encoding="rounded_gaussian" if masked else "gaussian_grid",
            grid_bits=_MASKED_GRID_BITS if masked else _PLAIN_GRID_BITS,
        ),
        record=record,
        cohort=CohortPlan(
            population=max(population or cohort, cohort),
            target=cohort,
            minimum=cohort,
            deadline_seconds=60,
            selection_timeout_seconds=60,
        ),
        optimizer=ServerOptimizerPlan(
            name=ServerOptimizerName.MOMENTUM, learning_rate=Decimal(1), momentum=momentum
        ),
        stop=StopRules(lost_in_a_row=rounds),
        references=References(dpia="none: an attack", works_agreement="none: an attack"),
        expires=_NEVER,
        masking=one_group(cohort) if masked else None,
    )
