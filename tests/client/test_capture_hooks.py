"""The source for Windows and macOS, as far as it can be tried elsewhere: what its callbacks make
of pynput's keys and buttons. pynput itself and the systems below it are not run here.
"""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from hand_clock import HandClock
from tacitly_client.capture.hooks import HookSource, w3c_key
from tacitly_client.capture.source import Health, UnsupportedError
from tacitly_common.events import EventKind


class Listener:
    """Stands in for pynput's: it keeps the callbacks and can be started and stopped."""

    def __init__(self, **callbacks: Any) -> None:
        self.callbacks = callbacks
        self.alive = False

    def start(self) -> None:
        self.alive = True

    def stop(self) -> None:
        self.alive = False

    def is_alive(self) -> bool:
        return self.alive


@pytest.fixture
def pynput(monkeypatch: pytest.MonkeyPatch) -> list[Listener]:
    made: list[Listener] = []

    def make(**callbacks: Any) -> Listener:
        made.append(Listener(**callbacks))
        return made[-1]

    module = ModuleType("pynput")
    module.keyboard = module.mouse = SimpleNamespace(Listener=make)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynput", module)
    return made


def source(*, motion: bool = True) -> HookSource:
    return HookSource(HandClock(), motion=motion, bounds=lambda: (-1920.0, 0.0, 3840.0, 1080.0))


def named(name: str, virtual_key: int = 1) -> SimpleNamespace:
    return SimpleNamespace(name=name, value=SimpleNamespace(vk=virtual_key))


def char(character: str | None, virtual_key: int = 65) -> SimpleNamespace:
    return SimpleNamespace(char=character, vk=virtual_key)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (named("enter"), "Enter"),
        (named("ctrl_l"), "Control"),
        (named("shift_r"), "Shift"),
        (named("cmd"), "Meta"),
        (named("alt_gr"), "AltGraph"),
        (named("f12"), "F12"),
        (named("space"), " "),
        (named("media_play_pause"), "Unidentified"),
        (char("ä"), "ä"),
        (char("\x03"), "c"),
        (char(None), "Unidentified"),
    ],
)
def test_pynputs_keys_have_w3c_names(key: Any, name: str) -> None:
    assert w3c_key(key) == name


def test_its_callbacks_become_events(pynput: list[Listener]) -> None:
    hooks = source()
    hooks.start()
    keyboard, mouse = (listener.callbacks for listener in pynput)
    keyboard["on_press"](named("ctrl_l"), False)
    keyboard["on_press"](char("\x03"), True)
    keyboard["on_release"](named("ctrl_l"), False)
    mouse["on_move"](0, 540, False)
    mouse["on_click"](-1920, 0, SimpleNamespace(name="right"), True, False)
    mouse["on_scroll"](0, 0, 0, -1, False)
    events = hooks.poll(0.1)
    assert [(e.kind, e.key, e.modifiers, e.button) for e in events] == [
        (EventKind.KEY_DOWN, "Control", (), 0),
        (EventKind.KEY_DOWN, "c", ("Control",), 0),
        (EventKind.KEY_UP, "Control", (), 0),
        (EventKind.POINTER_MOVE, "", (), 0),
        (EventKind.BUTTON_DOWN, "", (), 3),
        (EventKind.SCROLL, "", (), 0),
    ]
    assert [event.injected for event in events] == [False, True, False, False, False, False]
    assert (events[3].x, events[3].y) == (0.5, 0.5)
    assert (events[4].x, events[4].y) == (0.0, 0.0)
    assert events[5].dy == 1.0
    assert all(event.focus is None for event in events)


def test_motion_that_is_not_wanted_is_not_listened_to(pynput: list[Listener]) -> None:
    source(motion=False).start()
    assert [sorted(listener.callbacks) for listener in pynput] == [
        ["on_press", "on_release"],
        ["on_click", "on_scroll"],
    ]


def test_stopping_ends_the_listeners_and_forgets(pynput: list[Listener]) -> None:
    hooks = source()
    assert hooks.health() is Health.STOPPED
    hooks.start()
    assert hooks.health() is Health.RECEIVING
    pynput[0].callbacks["on_press"](char("a"), False)
    hooks.stop()
    assert not any(listener.alive for listener in pynput)
    assert hooks.health() is Health.STOPPED
    assert hooks.poll(0.01) == []


def test_a_listener_that_died_is_said(pynput: list[Listener]) -> None:
    hooks = source()
    hooks.start()
    pynput[1].alive = False
    assert hooks.health() is Health.NOT_RECEIVING


def test_without_pynput_it_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynput", None)
    with pytest.raises(UnsupportedError, match="pynput cannot be used here"):
        source().start()
