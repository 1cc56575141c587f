"""Words of typed text."""

import pytest

from tacitly_common.events import Event, EventKind
from tacitly_common.vocabulary import START, UNKNOWN
from tacitly_simulations.datasets.person import SECOND, typed
from tacitly_simulations.datasets.synthetic import public_text_person
from tacitly_simulations.population import Unit, tokenizer
from tacitly_simulations.words import WordVocabulary

WORDS = WordVocabulary()


def tokens(text: str) -> list[int]:
    return WORDS.encode(typed(text, wall_ns=SECOND, started_ns=0)).tolist()


def test_the_first_two_are_those_that_a_model_knows() -> None:
    assert tokens("") == []
    assert tokens("xyzzyplugh") == [START, UNKNOWN]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("The list", "the  list"),
        ("it's", "IT'S"),
        ("17 is", "4 is"),
        ("ünbekannt", "ñandúes"),
    ],
)
def test_what_is_one_token(text: str, same: str) -> None:
    assert tokens(text) == tokens(same)


def test_words_punctuation_and_the_end_of_a_line_are_tokens_and_spaces_none() -> None:
    the, comma, list_, enter = (
        tokens("the")[1:] + tokens(",")[1:] + tokens("list")[1:] + tokens("\n")[1:]
    )
    assert tokens("the, list\nthe") == [START, the, comma, list_, enter, the]
    assert len({the, comma, list_, enter, UNKNOWN, START}) == 6


def test_a_session_begins_where_the_clock_went_back_and_ends_the_word_before() -> None:
    first = list(typed("the", wall_ns=SECOND, started_ns=0))
    second = list(typed("list", wall_ns=2 * SECOND, started_ns=2 * SECOND))
    whole = WORDS.encode([*first, *second]).tolist()
    assert whole == tokens("the") + tokens("list")


def test_a_shortcut_is_no_letter_and_a_release_is_nothing() -> None:
    events = [
        Event(EventKind.KEY_DOWN, 0, 0, "c", ("Control",)),
        Event(EventKind.KEY_UP, 1, 1, "c", ("Control",)),
        Event(EventKind.KEY_DOWN, 2, 2, "Backspace"),
    ]
    start, copied, erased = WORDS.encode(events).tolist()
    assert (start, copied) == (START, erased)
    assert copied not in tokens("c")


def test_every_token_of_public_typing_is_in_the_table() -> None:
    typist = public_text_person(0, 3_000)
    stream = WORDS.encode(typist.events)
    assert 0 <= stream.min() <= stream.max() < WORDS.size
    assert (stream == UNKNOWN).mean() < 0.5
    assert tokenizer("ubuntu_irc", Unit.WORDS).size == WORDS.size
    assert tokenizer("ubuntu_irc").size != WORDS.size
