"""Keycodes -> W3C keys: under the server's real layouts, and the rules of XKB by hand."""

import subprocess
from collections.abc import Iterator

import pytest

from tacitly_client.capture.clock import SystemClock
from tacitly_client.capture.x11 import X11Source
from tacitly_client.capture.x11.keyboard import Keyboard, KeySymbols, KeyType
from tacitly_client.capture.x11.keysyms import w3c_key
from tacitly_common.events import EventKind
from x_display import Person, Server, need, server


@pytest.fixture(scope="module")
def display() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture
def person(display: Server) -> Iterator[Person]:
    somebody = Person(display.name)
    yield somebody
    somebody.close()


@pytest.fixture
def source(display: Server) -> Iterator[X11Source]:
    listening = X11Source(display.name, SystemClock(), motion=False, tick_seconds=0.02)
    listening.start()
    yield listening
    listening.close()
    set_layout(display, "us")


def set_layout(display: Server, *arguments: str) -> None:
    program = need("setxkbmap")
    subprocess.run([program, "-display", display.name, *arguments], check=True, capture_output=True)


def downs(source: X11Source) -> list[tuple[str, tuple[str, ...]]]:
    """Keys other than modifiers, with what was held."""
    events = [event for _ in range(4) for event in source.poll(0.1)]
    return [
        (event.key, event.modifiers)
        for event in events
        if event.kind is EventKind.KEY_DOWN
        and event.key not in ("Shift", "Control", "Alt", "AltGraph", "CapsLock", "GroupNext")
    ]


def typed(source: X11Source) -> str:
    return "".join(key for key, _ in downs(source))


def test_characters_keys_and_modifiers(source: X11Source, person: Person) -> None:
    person.type("ab1.")
    person.press("Shift", "a")
    person.press("Shift", "1")
    person.press("Control", "c")
    person.press("Control", "Shift", "z")
    person.press("Alt", "Tab")
    person.press("Shift", "Tab")
    for key in ("Enter", "Backspace", "ArrowLeft", "F1", " "):
        person.press(key)
    assert downs(source) == [
        ("a", ()),
        ("b", ()),
        ("1", ()),
        (".", ()),
        ("A", ("Shift",)),
        ("!", ("Shift",)),
        ("c", ("Control",)),
        ("Z", ("Control", "Shift")),
        ("Tab", ("Alt",)),
        ("Tab", ("Shift",)),
        ("Enter", ()),
        ("Backspace", ()),
        ("ArrowLeft", ()),
        ("F1", ()),
        (" ", ()),
    ]


def test_caps_lock_makes_capitals_of_letters_only(source: X11Source, person: Person) -> None:
    person.press("CapsLock")
    person.type("a1")
    person.press("CapsLock")
    person.type("a")
    assert typed(source) == "A1a"


@pytest.mark.parametrize(
    ("layout", "keys", "result"),
    [
        (("us",), "qwerty", "qwerty"),
        (("de",), "qwerty", "qwertz"),
        (("fr",), "qwerty", "azerty"),
        (("ru",), "ghbdtn", "привет"),
        (("gr",), "asdf", "ασδφ"),
        (("il",), "tcd", "אבג"),
        (("us", "-variant", "dvorak"), "qwerty", "',.pyf"),
    ],
)
def test_a_new_layout_counts_from_the_next_key_on(
    display: Server,
    source: X11Source,
    person: Person,
    layout: tuple[str, ...],
    keys: str,
    result: str,
) -> None:
    set_layout(display, "us")
    person.type("q")
    assert typed(source) == "q"
    set_layout(display, "-layout", *layout)
    person.type(keys)
    assert typed(source) == result


def test_the_group_that_the_person_switched_to_counts(
    display: Server, source: X11Source, person: Person
) -> None:
    set_layout(display, "-layout", "us,ru,de", "-option", "grp:alt_shift_toggle")
    person.type("z")
    person.press("Alt", "Shift")
    person.type("z")
    person.press("Alt", "Shift")
    person.type("z")
    person.press("Alt", "Shift")
    person.type("z")
    assert typed(source) == "zяyz"
    set_layout(display, "-option", "")


def test_altgr_chooses_the_third_level(display: Server, source: X11Source, person: Person) -> None:
    set_layout(display, "de")
    person.press("AltGraph", "q")
    person.press("AltGraph", "e")
    assert downs(source) == [("@", ()), ("€", ())]


def test_a_shortcut_is_the_latin_letter_in_every_layout(
    display: Server, source: X11Source, person: Person
) -> None:
    set_layout(display, "-layout", "ru,us")
    person.press("Control", "c")
    person.type("c")
    assert downs(source) == [("c", ("Control",)), ("с", ())]


def test_a_layout_of_the_keyboards_own_map_is_not_needed_for_keys_without_symbols() -> None:
    keyboard = Keyboard(keys={}, names={1: "Shift"}, modifiers=1)
    assert keyboard.press(200) == ("Unidentified", ("Shift",))


@pytest.mark.parametrize(
    ("group", "out_of_range", "row"),
    [(0, 0, 0), (1, 0, 1), (2, 0, 0), (3, 0, 1), (3, 0x40, 1), (3, 0x80, 0), (3, 0x90, 1)],
)
def test_a_group_that_a_key_does_not_have_is_bent_as_the_map_says(
    group: int, out_of_range: int, row: int
) -> None:
    one = KeyType(mask=0, levels={})
    symbols = KeySymbols((one, one), 1, (0x61, 0x62), out_of_range)
    assert symbols.row(group) == row
    assert Keyboard({38: symbols}, {}, group=group).press(38)[0] == "ab"[row]


@pytest.mark.parametrize(
    ("keysym", "key"),
    [
        (0x61, "a"),
        (0xE9, "é"),
        (0x20AC, "€"),
        (0x1A1, "Ą"),
        (0x6C1, "а"),
        (0x6A1, "ђ"),
        (0x6B0, "№"),
        (0x7E1, "α"),
        (0x7F2, "σ"),
        (0x4B1, "ア"),
        (0xEA1, "ㄱ"),
        (0xDA1, "ก"),
        (0x1000451, "ё"),
        (0x101F600, "😀"),
        (0xFFBE, "F1"),
        (0xFFC9, "F12"),
        (0xFFB7, "7"),
        (0xFFAB, "+"),
        (0xFF8D, "Enter"),
        (0xFE51, "Dead"),
        (0xFE20, "Tab"),
        (0x1008FF13, "Unidentified"),
        (0x1FFFFFFF, "Unidentified"),
        (0x100000A, "Unidentified"),
        (0, ""),
    ],
)
def test_a_keysym_has_its_w3c_name(keysym: int, key: str) -> None:
    assert w3c_key(keysym) == key
