"""What redaction keeps of a typing run."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacitly_client.redaction import (
    BACKSPACE,
    DELETED,
    ContentLevel,
    Redacted,
    Rule,
    public_words,
    redact,
)

KEYS = st.lists(st.sampled_from(string.ascii_letters + string.digits + " .,@-_" + BACKSPACE))


def judged(text: str, level: ContentLevel = ContentLevel.CHARACTERS) -> Redacted:
    return redact(list(text), level)


def shown(redacted: Redacted) -> str:
    """What is kept; # for a class, nothing for what is dropped."""
    return "".join(key or "#" for key in redacted.kept if key is not None)


def test_plain_text_is_kept_at_characters() -> None:
    text = "Meet me at noon, please. "
    assert shown(judged(text)) == text
    assert judged(text).rules == {}


@pytest.mark.parametrize("level", [ContentLevel.COUNTS, ContentLevel.CLASSES])
@given(keys=KEYS)
def test_no_character_is_kept_at_levels_without_content(
    level: ContentLevel, keys: list[str]
) -> None:
    assert set(redact(keys, level).kept) <= {""}


@given(KEYS)
def test_each_key_has_its_place_and_no_digit_is_kept(keys: list[str]) -> None:
    for level in ContentLevel:
        kept = redact(keys, level).kept
        assert len(kept) == len(keys)
        assert all(new in (None, "", old, old.lower()) for old, new in zip(keys, kept, strict=True))
        assert not any(new and (new.isnumeric() or new in (BACKSPACE, DELETED)) for new in kept)


@given(KEYS)
def test_at_words_only_public_words_are_kept(keys: list[str]) -> None:
    kept = redact(keys, ContentLevel.WORDS).kept
    text = "".join(" " if key == " " or not key else key for key in kept)
    assert set(text.split()) <= public_words()


@pytest.mark.parametrize(
    "secret",
    [
        "4539 1488 0343 6467",
        "4539-1488-0343-6467",
        "4539148803436467.",
        "GB82 WEST 1234 5698 7654 32",
        "DE89370400440532013000",
        "RCCMNL83S18D969H",
        "ada@example.org",
        "mailto:ada@example.org",
        "https://example.org/reset?t=abc",
        "ghp_abcdefghijklmnopqrstuvwxyzabcdefghij",
        "github_pat_abcd",
        "AKIAABCDEFGHIJKLMNOP",
        "sk-proj-abcdefgh",
        "xoxb-abc-def",
        "eyJhbGciOi.eyJzdWIi.abc",
        "deadbeefdeadbeefdead",
        "dGhpcyBpcyBhIHNlY3JldCBrZXk=",
        "-----BEGIN",
        "Summer2026!",
        "aB3$efgh",
        "ssh-rsa",
    ],
)
@pytest.mark.parametrize("level", [ContentLevel.WORDS, ContentLevel.CHARACTERS])
def test_identifiers_and_secrets_leave_not_even_their_classes(
    secret: str, level: ContentLevel
) -> None:
    redacted = judged(f"the {secret} and", level)
    assert shown(redacted).split() == ["the", "and"]
    assert set(redacted.rules) <= {Rule.IDENTIFIER, Rule.SHAPE}
    assert sum(redacted.rules.values()) == len(secret.replace(" ", ""))


def test_digits_and_the_letters_beside_them_are_masked() -> None:
    assert shown(judged("room 12b at 9")) == "room ### at #"


def test_a_number_with_a_wrong_checksum_is_masked_all_the_same() -> None:
    assert shown(judged("4539 1488 0343 6468")) == "#### #### #### ####"


def test_what_was_deleted_again_is_not_kept() -> None:
    assert shown(judged("hunter" + 6 * BACKSPACE + "hello")) == 12 * "#" + "hello"
    assert shown(judged("hunter" + DELETED + "hello")) == 7 * "#" + "hello"


def test_a_secret_is_known_as_it_was_typed_and_as_it_became() -> None:
    assert shown(judged("ada@x.org" + 9 * BACKSPACE + "hello")) == ""
    assert shown(judged("adz" + BACKSPACE + "a@x.org")) == ""
    assert shown(judged("ada " + BACKSPACE + "@x.org")) == ""


def test_a_word_seen_in_part_is_not_kept() -> None:
    assert shown(redact(["cret", "word", "is"], ContentLevel.CHARACTERS)) != ""
    redacted = redact(list("cret is my pass"), ContentLevel.CHARACTERS, begins=False, ends=False)
    assert shown(redacted) == "#### is my ####"
    assert redacted.rules == {Rule.PARTIAL: 8}
    whole = redact(list(" is my "), ContentLevel.CHARACTERS, begins=False, ends=False)
    assert shown(whole) == " is my "


def test_at_words_capitals_and_marks_are_not_kept() -> None:
    assert shown(judged('The "module" is, (well) Kowalski', ContentLevel.WORDS)) == (
        "the #module# is# #well# ########"
    )


def test_the_public_list_has_words_and_no_names() -> None:
    words = public_words()
    assert {"the", "and", "is", "because", "something"} <= words
    names = "alice anna bob david emma guido jack jose maria mark mohammed peter rose smith susan"
    assert words.isdisjoint(names.split())
    assert all(word.replace("'", "").isalpha() and word.islower() for word in words)
