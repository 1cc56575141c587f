"""The campaign that every measurement runs: about 100,000 parameters, all of them trained."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tacitly_common.campaign import (
    CampaignPlan,
    CohortPlan,
    Family,
    LegalBasis,
    Level,
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
from tacitly_common.vocabulary import VOCABULARY_VERSION, Vocabulary

TOKENS: Final = TokenPlan(
    vocabulary_version=VOCABULARY_VERSION, level=Level.CHARACTERS, families=(Family.KEYS,)
)
RECORD: Final = RecordMechanism(
    window_tokens=32,
    max_windows=320,
    sample_rate=Decimal("0.2"),
    steps=20,
    noise_multiplier=Decimal(1),
    clip_norm=Decimal(1),
    learning_rate=Decimal("0.1"),
    cap_epsilon=Decimal(1_000),
)
EMBEDDING: Final = 32
HIDDEN: Final = 128
DEVICES: Final = 2
_SPARE_ATTEMPTS: Final = 4


def model_config() -> ModelConfig:
    """The model of every measurement."""
    return ModelConfig(vocabulary_size=Vocabulary(TOKENS).size, embedding=EMBEDDING, hidden=HIDDEN)


def initial_model() -> NDArray[np.float32]:
    """float32[parameters]: what the first round starts from."""
    from tacitly_common.model import initial_vector

    return initial_vector(model_config(), 0)


def rounds_plan(
    name: str,
    rounds: int,
    *,
    campaigns: int = 1,
    app_hash: str,
    initial_model_hash: str,
    data_epochs: tuple[str, ...],
) -> CampaignPlan:
    """A campaign of `rounds` rounds in which every device takes part, one of `campaigns` like it.

    The deadline leaves time for an idle agent's first poll, which comes up to 75 s late.
    """
    attempts = rounds + _SPARE_ATTEMPTS
    return make_plan(
        name=name,
        purpose="bench",
        legal_basis=LegalBasis.CONSENT,
        tokens=TOKENS,
        data_epochs=data_epochs,
        model=model_config(),
        initial_model_hash=initial_model_hash,
        app_hash=app_hash,
        rounds=rounds,
        participation=ParticipationLimits(per_campaign=attempts, per_epoch=campaigns * attempts),
        delta=Decimal("1e-6"),
        subject=SubjectMechanism(clip_norm=Decimal("0.1"), noise_multiplier=Decimal("0.5")),
        record=RECORD,
        cohort=CohortPlan(
            population=DEVICES,
            target=DEVICES,
            minimum=DEVICES,
            deadline_seconds=150,
            selection_timeout_seconds=60,
        ),
        optimizer=ServerOptimizerPlan(name=ServerOptimizerName.SGD, learning_rate=Decimal(1)),
        stop=StopRules(lost_in_a_row=attempts),
        references=References(dpia="none: a benchmark", works_agreement="none: a benchmark"),
        expires=datetime.now(UTC).replace(microsecond=0) + timedelta(days=1),
    )
