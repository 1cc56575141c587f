"""Next key, next word, next action from a model over tokens."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assist_models import VOCABULARY, at_level, random_model, tokens_of
from tacitly_client.assist.head import PersonalHead
from tacitly_client.assist.history import typed_tokens
from tacitly_client.assist.recurrent import RecurrentModel
from tacitly_client.assist.suggester import Kind, Suggester, Suggestion
from tacitly_client.assist.words import WordTree
from tacitly_client.redaction import public_words
from tacitly_common.campaign import Level
from tacitly_common.errors import ValidationError
from tacitly_common.model import initial_vector
from tacitly_common.model_config import ModelConfig
from tacitly_common.vocabulary import START, UNKNOWN

HABIT = "please return the value of the argument and continue\n" * 40


@pytest.fixture(scope="module")
def suggester() -> Suggester:
    return Suggester(random_model(), VOCABULARY)


@pytest.fixture(scope="module")
def habitual() -> Suggester:
    model = random_model()
    return Suggester(model, VOCABULARY, PersonalHead.learn(tokens_of(HABIT), model))


def of(kind: Kind, suggestions: list[Suggestion]) -> list[str]:
    return [each.text for each in suggestions if each.kind is kind]


def suggested(engine: Suggester, text: str, k: int = 3) -> list[Suggestion]:
    return engine.suggest(tokens_of(text).tolist(), k)


def exhaustive(engine: Suggester, text: str) -> dict[str, float]:
    """The probability of every public word that begins so, letter by letter, without a beam."""
    context = engine.advance(engine.begin(), tokens_of(text).tolist())
    begun = text.rpartition(" ")[2]
    ends = WordTree(VOCABULARY).ends
    found = {}
    for word in public_words():
        if word.startswith(begun) and word != begun:
            at, log_probability = context, 0.0
            for letter in word[len(begun) :]:
                token = VOCABULARY.token(letter)
                log_probability += math.log(engine.probabilities(at)[token])
                at = engine.advance(at, [token])
            found[word] = math.exp(log_probability) * engine.probabilities(at)[ends].sum()
    return found


@pytest.mark.parametrize("text", ["exc", "the numb", "str"])
def test_the_beam_finds_what_an_exhaustive_search_finds(habitual: Suggester, text: str) -> None:
    every = exhaustive(habitual, text)
    best = sorted(every, key=lambda word: -every[word])[:3]
    found = [each for each in suggested(habitual, text) if each.kind is Kind.WORD]
    assert [each.text for each in found] == best
    for each in found:
        assert each.probability == pytest.approx(every[each.text], rel=1e-4)


def test_a_habit_is_completed_and_continued(habitual: Suggester) -> None:
    assert of(Kind.WORD, suggested(habitual, "please ret"))[0] == "return"
    assert of(Kind.WORD, suggested(habitual, "please return "))[0] == "the"
    assert of(Kind.KEY, suggested(habitual, "please return"))[0] == "Space"


def test_a_word_keeps_its_beginning_as_it_was_typed(habitual: Suggester) -> None:
    assert of(Kind.WORD, suggested(habitual, "please Ret"))[0] == "Return"


@settings(deadline=None, max_examples=25)
@given(st.text("abcdefghijklmnop ", max_size=12))
def test_every_suggested_word_is_a_public_one(text: str) -> None:
    engine = Suggester(random_model(3), VOCABULARY)
    words = of(Kind.WORD, suggested(engine, text))
    assert {word.lower() for word in words} <= public_words()
    begun = text.rpartition(" ")[2]
    assert all(word.startswith(begun) and word != begun for word in words)


def test_no_word_that_the_person_made_up_is_suggested() -> None:
    model = random_model()
    secret = "quixotl"
    head = PersonalHead.learn(tokens_of(f"meet {secret} at noon\n" * 60), model)
    engine = Suggester(model, VOCABULARY, head)
    assert secret not in public_words()
    for typed in range(len(secret)):
        assert secret not in of(Kind.WORD, suggested(engine, f"meet {secret[:typed]}", 9))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, VOCABULARY.size - 1), max_size=40), st.data())
def test_one_token_more_is_the_same_as_beginning_anew(
    tokens: list[int], data: st.DataObject
) -> None:
    model = random_model(5)
    grown = Suggester(model, VOCABULARY)
    for end in sorted(data.draw(st.lists(st.integers(0, len(tokens)), max_size=4))):
        grown.suggest(tokens[:end])
    at_once = Suggester(model, VOCABULARY)
    for one, other in zip(grown.suggest(tokens), at_once.suggest(tokens), strict=True):
        assert (one.kind, one.text) == (other.kind, other.text)
        assert one.probability == pytest.approx(other.probability, rel=1e-5)


def test_the_kinds_share_no_token_and_leave_out_what_is_neither(suggester: Suggester) -> None:
    size = VOCABULARY.size
    found = suggester.suggest([], size)
    keys, actions = of(Kind.KEY, found), of(Kind.ACTION, found)
    assert {"a", "Z", "Space", "Backspace", "Enter", "<digit>"} <= set(keys)
    assert {"Control+c", "Tab", "<left 0,2>", "<app mail>", "<scroll down>"} <= set(actions)
    neither = {VOCABULARY.name(token) for token in range(size)} - set(keys) - set(actions)
    assert {VOCABULARY.name(START), VOCABULARY.name(UNKNOWN)} <= neither
    assert all(name.startswith(("<start", "<unk", "<pause", "<move")) for name in neither)
    assert len(keys) + len(actions) + len(neither) == size


def test_each_kind_is_ordered_by_its_probability(suggester: Suggester) -> None:
    for kind in Kind:
        chances = [each.probability for each in suggested(suggester, "re") if each.kind is kind]
        assert chances == sorted(chances, reverse=True)
        assert len(chances) == 3
        assert all(0 < chance < 1 for chance in chances)


def test_where_letters_are_not_kept_only_keys_and_actions_are_suggested() -> None:
    vocabulary = at_level(Level.CLASSES)
    config = ModelConfig(vocabulary_size=vocabulary.size, embedding=3, hidden=4)
    engine = Suggester(RecurrentModel(config, initial_vector(config, 0)), vocabulary)
    found = engine.suggest(typed_tokens("the ", vocabulary))
    assert {each.kind for each in found} == {Kind.KEY, Kind.ACTION}


def test_a_model_over_other_tokens_is_refused() -> None:
    config = ModelConfig(vocabulary_size=9, embedding=3, hidden=4)
    with pytest.raises(ValidationError, match="the model is over 9 tokens"):
        Suggester(RecurrentModel(config, initial_vector(config, 0)), VOCABULARY)


def test_a_suggestion_shows_no_text_by_itself(habitual: Suggester) -> None:
    assert "return" not in repr(suggested(habitual, "please ret"))


WORDS = WordTree(VOCABULARY)


def word_after(*names: str) -> str | None:
    word: str | None = ""
    for name in names:
        word = WORDS.typed(word, VOCABULARY.token(name))
    return word


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (("t", "h", "e"), "the"),
        (("t", "h", "Backspace", "o"), "to"),
        (("t", "h", "e", "Space"), ""),
        (("t", "h", "e", "."), ""),
        (("t", "<pause 4s>", "h"), "th"),
        (("t", "<digit>", "h"), None),
        (("t", "ArrowLeft", "h"), None),
        (("t", "Control+v"), None),
        (("t", "<left 1,1>", "h"), None),
        (("t", "ArrowLeft", "Space", "h"), "h"),
        (("Backspace", "h"), None),
        (("t", "<app mail>", "h"), "h"),
    ],
)
def test_the_word_being_typed_is_known_or_said_to_be_unknown(
    names: tuple[str, ...], word: str | None
) -> None:
    assert word_after(*names) == word
