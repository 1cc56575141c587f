"""What a key is called: the token names of keys, and the form in which a key's class is stored.

Part of the vocabulary (`vocabulary.py` has the whole table and its version), apart from it because
capture needs these names and nothing else of a model.

    key_token("a", (), characters=True)         "a"
    key_token("a", (), characters=False)        "<letter>"
    key_token("z", ("Control",), ...)           "Control+z"
    key_class("a", ())                          ("<letter>", ())
    key_class("s", ("Control", "Shift"))        ("<char>", ("Control", "Shift"))
    key_class("Shift", ())                      None
"""

import string
import unicodedata
from typing import Final

CHARACTERS: Final = string.punctuation + string.ascii_letters + "äöüßàéèçñ"
CHARACTER_CLASSES: Final = ("<letter>", "<digit>", "<symbol>")
_ARROWS: Final = ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown")
_NAVIGATION: Final = (*_ARROWS, "Home", "End", "PageUp", "PageDown")
_EDITING: Final = ("Space", "Enter", "Tab", "Backspace", "Delete", "Insert", "Escape")
KEYS: Final = (*_EDITING, *_NAVIGATION, "ContextMenu")
KEY_CLASSES: Final = ("<function>", "<input>", "<key>")
UNKNOWN_KEY: Final = "<unk>"
_INPUT_KEYS: Final = ("Compose", "Convert", "Dead", "HangulMode", "KanjiMode", "Process")
_MODIFIER: Final = {"Alt": "Alt", "Control": "Control", "Meta": "Control", "Shift": "Shift"}
_MODIFIER_KEYS: Final = {*_MODIFIER, "AltGraph", "CapsLock", "Fn", "Hyper", "NumLock", "Super"}
_MODIFIER_SETS: Final = (  # Shift alone only chooses a character
    "Alt",
    "Control",
    "Alt+Control",
    "Alt+Shift",
    "Control+Shift",
    "Alt+Control+Shift",
)
CHORDS: Final = (
    *(f"Control+{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
    *(f"Control+{key}" for key in (*_ARROWS, "Home", "End", "Enter", "Backspace", "Delete", "Tab")),
    *(f"Shift+{key}" for key in (*_ARROWS, "Home", "End", "Enter", "Tab")),
    *(f"Alt+{key}" for key in (*_ARROWS, "Tab")),
    *(f"Control+Shift+{key}" for key in ("ArrowLeft", "ArrowRight", "Tab", "t", "z")),
    *(f"{modifiers}+{kind}" for modifiers in _MODIFIER_SETS for kind in ("<char>", "<key>")),
    "Shift+<key>",
)
_CHORD_SET: Final = frozenset(CHORDS)
_STORED_CLASSES: Final = frozenset((*CHARACTER_CLASSES, *KEY_CLASSES, UNKNOWN_KEY))


def key_token(key: str, modifiers: tuple[str, ...], *, characters: bool) -> str:
    """The token of a pressed key, "" for one that is part of the chord that follows.

    Total: any text is a key. `characters`: a character of the table is its own token; otherwise
    only its class is told. A class that `key_class` made is itself.
    """
    if key in _MODIFIER_KEYS:
        return ""
    if not key or not key.isprintable():
        return UNKNOWN_KEY
    key = "Space" if key == " " else unicodedata.normalize("NFC", key)
    is_character = len(key) == 1 or key == "Space" or key in CHARACTER_CLASSES
    held = sorted({_MODIFIER[modifier] for modifier in modifiers if modifier in _MODIFIER})
    # Shift with a character only chooses the character.
    if held and not (is_character and held == ["Shift"]):
        chord = "+".join((*held, key.lower() if len(key) == 1 else key))
        kind = "<char>" if is_character else "<key>"
        return chord if chord in _CHORD_SET else "+".join((*held, kind))
    if len(key) == 1:
        return _character_token(key, characters=characters)
    if key in KEYS or key in _STORED_CLASSES:
        return key
    if key in _INPUT_KEYS:
        return "<input>"
    return "<function>" if key[0] == "F" and key[1:].isdigit() else "<key>"


def key_class(key: str, modifiers: tuple[str, ...]) -> tuple[str, tuple[str, ...]] | None:
    """`Event.key` and `Event.modifiers` of the key's class; None if it has no token.

    Both take one of a few values, whatever was typed, and their token at level `classes` is that
    of the key itself. Applied to its own result it changes nothing.
    """
    token = key_token(key, modifiers, characters=False)
    if token in _CHORD_SET:
        *held, last = token.split("+")
        return last, tuple(held)
    return (token, ()) if token else None


def _character_token(character: str, *, characters: bool) -> str:
    if character.isnumeric():
        return "<digit>"
    if characters and character in CHARACTERS:
        return character
    return "<letter>" if character.isalpha() else "<symbol>"
