"""What a model is good for: keys saved as the device counts them, clicks whose place it knows."""

import numpy as np
import pytest

from assist_models import CONFIG, VOCABULARY, tokens_of
from homes import training_plan
from tacitly_client.assist.recurrent import RecurrentModel
from tacitly_client.assist.savings import measure
from tacitly_common.model import initial_vector
from tacitly_common.vocabulary import START
from tacitly_simulations.lab.usefulness import click_top1, keys_saved

PLAN = training_plan().tokens
VECTOR = initial_vector(CONFIG, 0)


def always(token: int) -> np.ndarray:
    """A model whose every guess is `token`."""
    vector = np.zeros(CONFIG.parameters, dtype=np.float32)
    vector[CONFIG.layout()[-1].start + token] = 5
    return vector


def test_keys_saved_are_the_share_that_a_device_would_count() -> None:
    persons = [tokens_of("write and return the value\n" * 20), tokens_of("the object " * 30)]
    saved = keys_saved(CONFIG, PLAN, VECTOR, persons)
    model = RecurrentModel(CONFIG, VECTOR)
    rows = [measure(each, model, VOCABULARY).rows[1] for each in persons]
    assert {row.method for row in rows} == {"model"}
    assert saved == sum(row.keys_saved for row in rows) / sum(row.keys for row in rows)
    assert 0 < saved < 1


def test_without_keys_or_clicks_there_is_no_figure() -> None:
    clicks = np.array([START, *[VOCABULARY.token("<left 0,0>")] * 20])
    assert keys_saved(CONFIG, PLAN, VECTOR, [clicks]) is None
    assert click_top1(CONFIG, PLAN, VECTOR, [tokens_of("no click")]) is None


def test_a_clicks_place_is_known_where_its_token_is_the_most_likely_of_all() -> None:
    left, right = VOCABULARY.token("<left 0,0>"), VOCABULARY.token("<left 2,0>")
    a = VOCABULARY.token("a")
    newer = [np.array([START, left, a, right, left, left]), np.array([START, a, a])]
    assert click_top1(CONFIG, PLAN, always(left), newer) == pytest.approx(3 / 4)
    assert click_top1(CONFIG, PLAN, always(a), newer) == 0
