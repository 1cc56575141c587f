"""What suggestions would have saved: counted on a tail that nobody learned from."""

import numpy as np
import pytest

from assist_models import VOCABULARY, random_model, tokens_of
from tacitly_client.assist.savings import Row, Savings, measure
from tacitly_client.training.windows import split_by_time
from tacitly_common.vocabulary import START

MODEL = random_model()
SENTENCE = "write and return the value\n"


def savings_of(text: str) -> Savings:
    return measure(tokens_of(text), MODEL, VOCABULARY)


def row(savings: Savings, method: str) -> Row:
    (found,) = (each for each in savings.rows if each.method == method)
    return found


def test_a_regular_person_saves_nearly_every_key_but_one_a_word() -> None:
    own = row(savings_of(SENTENCE * 100), "model and you")
    # Each of the five words can be taken at its first offer with one key; the last
    # one's Enter is typed.
    words, keys = 5, len(SENTENCE)
    most = (keys - words - 1) / keys
    assert own.keys_saved / own.keys == pytest.approx(most, abs=0.02)
    assert own.words_offered == own.words


def test_the_baseline_offers_the_words_that_were_typed_most() -> None:
    # Three words begin each line, two of them often enough to be offered before a key is typed.
    text = ("return value\n" * 30 + "the\n") * 40
    frequent = row(savings_of(text), "most frequent")
    assert frequent.words_offered == frequent.words
    # "return " spares six of seven, "value" four of five, "the" two of three; Enter is typed.
    assert frequent.keys_saved == pytest.approx(frequent.words / 2 * 10, rel=0.05)


def test_a_word_that_was_corrected_or_is_not_public_saves_nothing_and_its_keys_count() -> None:
    for text in ("xqzv " * 400, "reh\bturn " * 300):
        savings = savings_of(text)
        _, newer = split_by_time(tokens_of(text))
        for each in savings.rows:
            assert each.keys_saved == 0
            assert each.words_offered == 0
            assert each.keys == len(newer)


def test_a_word_of_one_letter_spares_no_key() -> None:
    own = row(savings_of("a\n" * 600), "model and you")
    assert (own.keys_saved, own.words_offered) == (0, 0)
    assert own.words == 120
    # Before a space it spares one: the letter's key types both.
    own = row(savings_of("a " * 600), "model and you")
    assert own.keys_saved == own.words == 120


def test_the_tail_is_not_learned_from() -> None:
    # The newest fifth is another text, of which one word in four was typed before.
    strange = "value number string object\n"
    savings = savings_of(SENTENCE * 80 + strange * 20)
    assert savings.learned_tokens == 80 * len(SENTENCE)
    assert savings.held_out_tokens == 20 * len(strange) == row(savings, "model").keys
    usual = savings_of(SENTENCE * 100)
    for method in ("most frequent", "model and you"):
        assert row(savings, method).keys_saved < 0.7 * row(usual, method).keys_saved


def test_actions_are_counted_apart_from_keys() -> None:
    copy, paste = VOCABULARY.token("Control+c"), VOCABULARY.token("Control+v")
    tokens = np.array([START] + [copy, paste] * 400)
    own = row(measure(tokens, MODEL, VOCABULARY), "model and you")
    assert (own.keys, own.actions, own.action_hits) == (0, 160, 160)


def test_of_a_long_tail_the_newest_part_is_measured() -> None:
    tokens = tokens_of("the value\n" * 50)
    savings = measure(tokens, MODEL, VOCABULARY, most_tokens=30)
    assert savings.held_out_tokens == row(savings, "model").keys == 30
    assert savings.learned_tokens == 400


@pytest.mark.parametrize("text", ["", "a"])
def test_without_events_there_is_nothing_to_report(text: str) -> None:
    for each in savings_of(text).rows:
        assert each.keys_saved == 0
        assert each.keys <= 1
