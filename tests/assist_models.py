"""Small models and typed text for tests of suggestions."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from homes import training_plan
from tacitly_client.assist.history import typed_tokens
from tacitly_client.assist.recurrent import RecurrentModel
from tacitly_common.campaign import Level, TokenPlan
from tacitly_common.model import initial_vector
from tacitly_common.model_config import ModelConfig
from tacitly_common.vocabulary import START, Vocabulary

VOCABULARY: Final = Vocabulary(training_plan().tokens)
CONFIG: Final = ModelConfig(vocabulary_size=VOCABULARY.size, embedding=5, hidden=7)


def random_model(seed: int = 0) -> RecurrentModel:
    """A model that learned nothing: every token is about as likely."""
    return RecurrentModel(CONFIG, initial_vector(CONFIG, seed))


def tokens_of(text: str) -> NDArray[np.int64]:
    """A session in which `text` is typed."""
    return np.array([START, *typed_tokens(text, VOCABULARY)])


def at_level(level: Level) -> Vocabulary:
    """The vocabulary of another level of content."""
    tokens = training_plan().tokens
    return Vocabulary(
        TokenPlan(
            vocabulary_version=tokens.vocabulary_version, level=level, families=tokens.families
        )
    )
