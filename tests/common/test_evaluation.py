import math

import numpy as np
import pytest
import torch

from tacitly_common.errors import ValidationError
from tacitly_common.evaluation import NOTHING, Evaluation, evaluate, evaluate_each
from tacitly_common.model import InteractionModel, initial_vector, load_vector
from tacitly_common.model_config import ModelConfig
from tacitly_common.vocabulary import START, UNKNOWN

CONFIG = ModelConfig(vocabulary_size=9, embedding=4, hidden=6)
VECTOR = 3 * initial_vector(CONFIG, 5)


def one_by_one(stream):
    """The definition: each token predicted from all before it, from the stream's beginning."""
    model = InteractionModel(CONFIG)
    load_vector(model, VECTOR)
    counts = [0, 0, 0]
    likelihood = 0.0
    for place, target in enumerate(stream):
        if target == START:
            continue
        with torch.no_grad():
            before = torch.tensor([[START, *stream[:place]]])
            scores = torch.log_softmax(model(before)[0, -1], 0)
        best = [
            token
            for token in scores.argsort(descending=True).tolist()
            if token not in (START, UNKNOWN)
        ][:3]
        counts[0] += 1
        if target != UNKNOWN:
            counts[1] += best[0] == target
            counts[2] += target in best
        likelihood -= float(scores[target])
    return Evaluation(*counts, likelihood)


def streams(*lengths):
    rng = np.random.default_rng(1)
    return [rng.integers(0, 9, size=length) for length in lengths]


def assert_same(actual, expected):
    assert (actual.predictions, actual.top1_hits, actual.top3_hits) == (
        expected.predictions,
        expected.top1_hits,
        expected.top3_hits,
    )
    assert actual.negative_log_likelihood == pytest.approx(expected.negative_log_likelihood)


def test_equals_predicting_every_token_from_all_before_it():
    # 300 is more than one piece of time; the others end before it.
    data = streams(300, 7, 0, 129, 1)
    for actual, stream in zip(evaluate_each(CONFIG, VECTOR, data), data, strict=True):
        assert_same(actual, one_by_one(stream))


def test_pooling_counts_each_prediction_once():
    data = streams(50, 20)
    each = evaluate_each(CONFIG, VECTOR, data)
    pooled = evaluate(CONFIG, VECTOR, data)
    assert_same(pooled, each[0] + each[1])
    assert pooled.predictions == sum(int((stream != START).sum()) for stream in data)
    assert pooled.top1 == pooled.top1_hits / pooled.predictions
    assert pooled.perplexity == pytest.approx(
        math.exp(pooled.negative_log_likelihood / pooled.predictions)
    )


def model_of_biases(*biases):
    """Says the same of every token: each token's logit is its bias."""
    config = ModelConfig(vocabulary_size=len(biases), embedding=2, hidden=2)
    vector = np.zeros(config.parameters, dtype=np.float32)
    vector[config.layout()[-1].start :] = biases
    return config, vector


def test_an_unknown_target_is_a_miss_even_if_it_is_the_most_likely():
    config, vector = model_of_biases(0, 5, 0, 0)
    result = evaluate(config, vector, [np.full(10, UNKNOWN)])
    assert (result.predictions, result.top1, result.top3) == (10, 0.0, 0.0)
    assert result.perplexity == pytest.approx(1 + 3 * math.exp(-5))


@pytest.mark.parametrize(
    ("target", "top1", "top3"), [(3, 1.0, 1.0), (2, 0.0, 1.0), (4, 0.0, 1.0), (5, 0.0, 0.0)]
)
def test_what_nobody_can_be_offered_leaves_its_place_to_the_next_most_likely(target, top1, top3):
    config, vector = model_of_biases(9, 8, 2, 3, 1, 0)
    result = evaluate(config, vector, [np.full(10, target)])
    assert (result.predictions, result.top1, result.top3) == (10, top1, top3)


def test_a_uniform_model_has_the_vocabulary_as_its_perplexity():
    result = evaluate(CONFIG, np.zeros(CONFIG.parameters, dtype=np.float32), streams(40))
    assert result.perplexity == pytest.approx(9)


@pytest.mark.parametrize("data", [[], [np.array([], dtype=np.int64)], [np.array([START])]])
def test_nothing_to_predict_gives_no_figures(data):
    result = evaluate(CONFIG, VECTOR, data)
    assert result == NOTHING
    assert math.isnan(result.top1)
    assert math.isnan(result.top3)
    assert math.isnan(result.perplexity)


def test_a_vector_of_another_model_is_refused():
    with pytest.raises(ValidationError):
        evaluate(CONFIG, VECTOR[1:], streams(5))


def test_only_some_targets_are_counted_and_the_others_stay_context():
    data = streams(300, 7)
    whole = evaluate_each(CONFIG, VECTOR, data)
    parts = [
        evaluate_each(CONFIG, VECTOR, data, only=some) for some in ({3, 7}, {1, 2, 4, 5, 6, 8})
    ]
    for of_all, *of_parts in zip(whole, *parts, strict=True):
        assert_same(sum(of_parts, NOTHING), of_all)
    assert parts[0][0].predictions == int(np.isin(data[0], [3, 7]).sum())
    assert evaluate(CONFIG, VECTOR, data).predictions > sum(p.predictions for p in parts[0]) > 0
