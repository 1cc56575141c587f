"""A person's own counts beside the shared model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assist_models import VOCABULARY, random_model, tokens_of
from tacitly_client.assist.head import HISTORY, PersonalHead, extended
from tacitly_common.vocabulary import START
from tacitly_simulations.ngram import pooled_ngram

MODEL = random_model()
HABIT = "the canteen menu of the week\n" * 40


def history(text: str) -> tuple[int, ...]:
    held: tuple[int, ...] = ()
    for token in tokens_of(text).tolist():
        held = extended(held, token)
    return held


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 12), min_size=300, max_size=600), st.lists(st.integers(1, 12)))
def test_what_it_expects_is_a_distribution(tokens: list[int], before: list[int]) -> None:
    head = PersonalHead.learn(np.array(tokens), MODEL)
    assert 0 <= head.weight <= 1
    own = head.probabilities(tuple(before[-HISTORY:]))
    mixed = head.mix(MODEL.probabilities(MODEL.begin()), [tuple(before[-HISTORY:])])
    for chances in (own, mixed[0]):
        assert (chances > 0).all()
        assert chances.sum() == pytest.approx(1)


def test_it_knows_what_followed() -> None:
    head = PersonalHead.learn(tokens_of(HABIT), MODEL)
    chances = head.probabilities(history("the cant"))
    assert VOCABULARY.name(int(chances.argmax())) == "e"
    assert chances.max() > 0.9


def test_where_the_person_is_regular_it_trusts_the_counts_over_a_model_that_is_not() -> None:
    assert PersonalHead.learn(tokens_of(HABIT), MODEL).weight < 0.1


def test_where_nothing_repeats_it_trusts_the_model() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(1, VOCABULARY.size, 3_000)
    assert PersonalHead.learn(noise, MODEL).weight > 0.5


@pytest.mark.parametrize("text", ["", "too little to know anybody"])
def test_with_too_few_events_it_changes_nothing(text: str) -> None:
    head = PersonalHead.learn(tokens_of(text), MODEL)
    model = MODEL.probabilities(MODEL.begin())
    np.testing.assert_array_equal(head.mix(model, [()]), model)


def test_nothing_is_carried_over_a_session_start() -> None:
    assert extended((3, 4), START) == ()
    assert len(history("a long text before the end")) == HISTORY
    across = PersonalHead.learn(np.array([START, 5, START, 6] * 200), MODEL)
    np.testing.assert_array_equal(across.probabilities((5,)), across.probabilities(()))


def test_its_counts_predict_as_well_as_the_baseline_that_was_written_apart() -> None:
    stream = np.concatenate([[START], np.random.default_rng(1).integers(1, 6, 4_000)])
    cut = 3_201
    head = PersonalHead.learn(stream[:cut], MODEL)
    losses, held = [], history("")
    for place, token in enumerate(stream.tolist()):
        if place >= cut:
            losses.append(-np.log(head.probabilities(held)[token]))
        held = extended(held, token)
    theirs = pooled_ngram([stream], HISTORY + 1)
    assert len(losses) == theirs.predictions
    # Below the empty history theirs is uniform over what was seen, ours over the vocabulary.
    assert np.exp(np.mean(losses)) == pytest.approx(theirs.perplexity, rel=0.01)


def test_it_shows_nothing_that_was_typed() -> None:
    head = PersonalHead.learn(tokens_of(HABIT), MODEL)
    assert "canteen" not in repr(head)
    assert "followers" not in repr(head)
