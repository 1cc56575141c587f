"""The n-gram predictors: against a plain loop, against hand counts, against recorded figures."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tacitly_common.campaign import Family, Level, TokenPlan
from tacitly_common.errors import ValidationError
from tacitly_common.vocabulary import START, UNKNOWN, Vocabulary
from tacitly_simulations.datasets import load
from tacitly_simulations.ngram import NgramScore, pooled_ngram


def plain_ngram(streams: list[list[int]], order: int) -> NgramScore:
    """The module's formulas as a loop over dictionaries."""
    train: list[tuple[int, tuple[int, ...]]] = []
    test: list[tuple[int, tuple[int, ...]]] = []
    for stream in streams:
        rows = []
        session: list[int] = []
        for token in stream:
            if token == START:
                session = []
                continue
            padded = [START] * order + session
            rows.append((token, tuple(padded[len(padded) - order + 1 :])))
            session.append(token)
        cut = int(0.8 * len(rows))
        train += rows[:cut]
        test += rows[cut:]
    counts: dict[tuple[int, ...], Counter[int]] = {}
    for token, history in train:
        for length in range(order):
            counts.setdefault(history[len(history) - length :], Counter())[token] += 1
    uniform = 1 / (len({token for token, _ in train}) + 1)
    top1 = top3 = 0
    log_likelihood = 0.0
    for token, history in test:
        probability, guesses = uniform, []
        for length in range(order):
            seen = counts.get(history[len(history) - length :])
            if seen:
                probability = (seen[token] + len(seen) * probability) / (seen.total() + len(seen))
                known = sorted(set(seen) - {UNKNOWN}, key=lambda t: (-seen[t], t))
                guesses = known[:3] or guesses
        top1 += guesses[:1] == [token]
        top3 += token in guesses
        log_likelihood += math.log(probability)
    n = len(test)
    return NgramScore(top1 / n, top3 / n, math.exp(-log_likelihood / n), n)


@given(
    st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=40), min_size=1, max_size=3),
    st.integers(1, 5),
)
def test_equals_the_plain_loop(streams: list[list[int]], order: int) -> None:
    # Each stream ends with what is surely held out.
    streams = [[START, *stream, 1, 2] for stream in streams]
    fast = pooled_ngram([np.array(stream) for stream in streams], order)
    plain = plain_ngram(streams, order)
    assert (fast.top1, fast.top3) == pytest.approx((plain.top1, plain.top3))
    assert fast.perplexity == pytest.approx(plain.perplexity)
    assert fast.predictions == plain.predictions


def test_a_bigram_counted_by_hand() -> None:
    # Training: 2 3 2 3 2 3 2 3, held out: 2 3. Unigram P(2) = P(3) = (4 + 2/3) / 10 = 7/15.
    # P(2 | 3) = (3 + 7/15) / (3 + 1) = 13/15, P(3 | 2) = (4 + 7/15) / 5 = 67/75.
    score = pooled_ngram([np.array([START] + [2, 3] * 5)], 2)
    assert (score.top1, score.top3, score.predictions) == (1.0, 1.0, 2)
    assert score.perplexity == pytest.approx((13 / 15 * 67 / 75) ** -0.5)


def test_a_token_never_seen_in_training_is_a_miss_with_a_finite_perplexity() -> None:
    score = pooled_ngram([np.array([START, 2, 2, 2, 2, 9])], 3)
    assert (score.top1, score.top3, score.predictions) == (0.0, 0.0, 1)
    assert math.isfinite(score.perplexity)


def test_an_unknown_token_is_a_miss_also_where_nothing_else_was_seen() -> None:
    score = pooled_ngram([np.array([START] + [UNKNOWN] * 10)], 2)
    assert (score.top1, score.top3, score.predictions) == (0.0, 0.0, 2)


@pytest.mark.parametrize("order", [1, 2])
def test_an_unknown_token_is_no_guess_and_leaves_its_place_to_the_next(order: int) -> None:
    # Training: 1 1 1 1 2 2 1 2, held out: 2 2. Only 1 is more frequent than 2, also after 2.
    score = pooled_ngram([np.array([START, 1, 1, 1, 1, 2, 2, 1, 2, 2, 2])], order)
    assert (score.top1, score.predictions) == (1.0, 2)


def test_a_history_of_unknown_followers_alone_guesses_as_the_shorter_one() -> None:
    # Training: 3 1 3 1 2 2 2 2, held out: 3 2. After 3 only 1 was seen, of all 2 most often.
    score = pooled_ngram([np.array([START, 3, 1, 3, 1, 2, 2, 2, 2, 3, 2])], 2)
    assert (score.top1, score.predictions) == (0.5, 2)


@pytest.mark.parametrize("streams", [[], [np.array([], dtype=np.int64)], [np.array([START])]])
def test_streams_without_anything_to_predict_are_refused(streams: list[NDArray[np.int64]]) -> None:
    with pytest.raises(ValidationError, match="nothing is held out"):
        pooled_ngram(streams, 2)


@pytest.mark.parametrize(("order", "held_out"), [(0, 0.2), (2, 1.5), (2, 0.0)])
def test_unusable_arguments_are_refused(order: int, held_out: float) -> None:
    with pytest.raises(ValidationError):
        pooled_ngram([np.array([START, 1, 2, 1, 2])], order, held_out=held_out)


def test_reproduces_the_recorded_figures_on_coauthor(shared_data: Path) -> None:
    """The data folder's table: 34.4 / 43.8 / 55.5 %, perplexity 10.53 / 7.164 / 5.42.

    Here all digits are one token and ties go by token, hence the small differences.
    """
    vocabulary = Vocabulary(
        TokenPlan(vocabulary_version=1, level=Level.CHARACTERS, families=(Family.KEYS,))
    )
    streams = [vocabulary.encode(p.events) for p in load("coauthor", shared_data / "coauthor")]
    scores = {order: pooled_ngram(streams, order) for order in (2, 3, 5)}
    assert all(score.predictions == 85_858 for score in scores.values())
    for order, top1, perplexity in [(2, 0.344, 10.53), (3, 0.438, 7.164), (5, 0.555, 5.42)]:
        assert scores[order].top1 == pytest.approx(top1, abs=0.003)
        assert scores[order].perplexity == pytest.approx(perplexity, rel=0.005)
    assert scores[3].top3 == pytest.approx(0.672, abs=0.001)
