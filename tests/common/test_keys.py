"""The names of keys: total, and a class that tells nothing else of the key."""

from hypothesis import given
from hypothesis import strategies as st

from tacitly_common.keys import (
    CHARACTER_CLASSES,
    CHORDS,
    KEY_CLASSES,
    KEYS,
    UNKNOWN_KEY,
    key_class,
    key_token,
)

keys = st.one_of(
    st.characters(codec=None),
    st.sampled_from(
        [*KEYS, *KEY_CLASSES, *CHARACTER_CLASSES, "Shift", "F5", "Process", "Dead", ""]
    ),
    st.text(max_size=4),
)
modifiers = st.lists(
    st.sampled_from(["Alt", "Control", "Meta", "Shift", "Hyper"]), unique=True
).map(lambda held: tuple(sorted(held)))


@given(keys, modifiers)
def test_a_stored_class_has_the_keys_own_token(key: str, held: tuple[str, ...]) -> None:
    token = key_token(key, held, characters=False)
    stored = key_class(key, held)
    assert (key_token(*stored, characters=False) if stored else "") == token


@given(keys, modifiers)
def test_the_class_of_a_class_is_itself(key: str, held: tuple[str, ...]) -> None:
    stored = key_class(key, held)
    assert stored is None or key_class(*stored) == stored


@given(keys, modifiers)
def test_there_are_few_classes_whatever_is_typed(key: str, held: tuple[str, ...]) -> None:
    allowed = {(name, ()) for name in (*CHARACTER_CLASSES, *KEY_CLASSES, *KEYS, UNKNOWN_KEY)}
    allowed |= {(chord.split("+")[-1], tuple(chord.split("+")[:-1])) for chord in CHORDS}
    stored = key_class(key, held)
    assert stored is None or stored in allowed


@given(st.characters(categories=["L", "Nd", "P", "S"]), st.sampled_from([(), ("Shift",)]))
def test_a_typed_character_leaves_only_its_class(character: str, held: tuple[str, ...]) -> None:
    stored = key_class(character, held)
    assert stored is not None
    assert stored[0] in (*CHARACTER_CLASSES, "<key>")
    assert stored[1] == ()


def test_a_class_is_a_character_at_the_level_of_characters_too() -> None:
    assert key_token("<letter>", (), characters=True) == "<letter>"
    assert key_token("<char>", ("Control",), characters=True) == "Control+<char>"
    assert key_token("a", (), characters=True) == "a"
