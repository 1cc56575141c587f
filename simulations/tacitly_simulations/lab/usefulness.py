"""What a model would be good for: keys that suggestions save, clicks whose place it knows.

Loads torch (the clicks' accuracy).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tacitly_client.assist.recurrent import RecurrentModel
from tacitly_client.assist.savings import measure_model
from tacitly_common.campaign import TokenPlan
from tacitly_common.evaluation import evaluate_each
from tacitly_common.model_config import ModelConfig
from tacitly_common.vocabulary import Vocabulary

# A token takes half a millisecond: four seconds for a point at most, whatever the data set.
_MOST_TOKENS_EACH: Final = 200
_MOST_TOKENS: Final = 8_000

Tokens = NDArray[np.int64]


def keys_saved(
    config: ModelConfig, plan: TokenPlan, vector: NDArray[np.float32], persons: Sequence[Tokens]
) -> float | None:
    """The share of keys that the model alone would have saved these persons, pooled.

    As `tacitly-sim assist` measures it: three words before each key, the right one taken with one
    key (`assist/savings.py`), on each person's newest tokens that nobody trained on. `persons`
    hold each one's whole stream, int64[n]. None if there are no keys among them.
    """
    vocabulary = Vocabulary(plan)
    model = RecurrentModel(config, vector)
    most = max(1, min(_MOST_TOKENS_EACH, _MOST_TOKENS // len(persons)))
    rows = [measure_model(each, model, vocabulary, most_tokens=most) for each in persons]
    keys = sum(row.keys for row in rows)
    return sum(row.keys_saved for row in rows) / keys if keys else None


def click_top1(
    config: ModelConfig, plan: TokenPlan, vector: NDArray[np.float32], newer: Sequence[Tokens]
) -> float | None:
    """The share of held-out clicks of which the most likely token was button and cell, or None.

    Any token may be the guess: that there will be a click at all must be right too.
    """
    clicks = Vocabulary(plan).clicks
    if not any(np.isin(tokens, clicks).any() for tokens in newer):
        return None
    scores = evaluate_each(config, vector, newer, only=clicks)
    hits = sum(score.top1_hits for score in scores)
    return hits / sum(score.predictions for score in scores)
