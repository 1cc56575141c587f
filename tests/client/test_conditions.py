"""When a trainer may run."""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homes import make_home, training_plan
from tacitly_client.daemon.conditions import (
    BEGIN_LOAD,
    GO_ON_LOAD,
    IDLE_SECONDS,
    Hindrance,
    Reading,
    hindrances,
)
from tacitly_client.daemon.machine import Conditions, LastInput
from tacitly_client.home import AgentHome, TrainWhen, read_settings
from x_display import Person, Server, server

FREE = Reading(idle_seconds=IDLE_SECONDS, on_mains=True, metered=False, load=0.1)
readings = st.builds(
    Reading,
    idle_seconds=st.none() | st.floats(allow_nan=True),
    on_mains=st.none() | st.booleans(),
    metered=st.none() | st.booleans(),
    load=st.none() | st.floats(allow_nan=True),
)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_hinders_on_a_machine_that_nobody_uses(training: bool) -> None:
    assert hindrances(FREE, training=training) == ()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"idle_seconds": IDLE_SECONDS - 0.1}, Hindrance.PRESENT),
        ({"idle_seconds": 0.0}, Hindrance.PRESENT),
        ({"idle_seconds": -1.0}, Hindrance.PRESENT),
        ({"idle_seconds": math.nan}, Hindrance.PRESENT),
        ({"idle_seconds": None}, Hindrance.UNKNOWN_PRESENCE),
        ({"on_mains": False}, Hindrance.BATTERY),
        ({"metered": True}, Hindrance.METERED),
        ({"load": GO_ON_LOAD}, Hindrance.BUSY),
        ({"load": math.nan}, Hindrance.BUSY),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_each_hindrance_is_named(
    changes: dict[str, Any], expected: Hindrance, training: bool
) -> None:
    assert hindrances(replace(FREE, **changes), training=training) == (expected,)


def test_a_trainers_own_load_does_not_stop_it() -> None:
    reading = replace(FREE, load=BEGIN_LOAD)
    assert hindrances(reading, training=False) == (Hindrance.BUSY,)
    assert hindrances(reading, training=True) == ()


@given(readings, st.booleans())
def test_it_trains_only_if_everything_that_is_known_allows_it(
    reading: Reading, training: bool
) -> None:
    if hindrances(reading, training=training):
        return
    assert reading.idle_seconds is not None
    assert reading.idle_seconds >= IDLE_SECONDS
    assert reading.on_mains is not False
    assert reading.metered is not True
    assert reading.load is None or reading.load < GO_ON_LOAD


@given(readings)
def test_what_may_begin_may_go_on(reading: Reading) -> None:
    assert set(hindrances(reading, training=True)) <= set(hindrances(reading, training=False))


@pytest.fixture(scope="module")
def display() -> Iterator[Server]:
    with server() as running:
        yield running


def test_the_x_server_tells_when_the_last_input_was(
    display: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", display.name)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    last, person = LastInput(), Person(display.name)
    try:
        person.press("a")
        first = last.seconds_ago()
        assert first is not None
        assert first < 30
        time.sleep(1.1)
        later = last.seconds_ago()
        assert later is not None
        assert later >= 1.0
        person.press("a")
        again = last.seconds_ago()
        assert again is not None
        assert again < later
    finally:
        person.close()
        last.close()


def test_an_x_server_that_has_gone_tells_nothing_and_one_that_is_back_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    last = LastInput()
    with server() as running:
        monkeypatch.setenv("DISPLAY", running.name)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        assert last.seconds_ago() is not None
        name = running.name
    assert last.seconds_ago() is None
    with server(name=name):
        assert last.seconds_ago() is not None
        last.close()


@pytest.mark.parametrize("variables", [{}, {"DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0"}])
def test_without_x_nobody_knows(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert LastInput().seconds_ago() is None


def test_the_settings_decide_whether_the_machine_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    home = make_home(tmp_path / "home", training_plan())
    conditions = Conditions(home)
    assert conditions(False) == ()
    changed = msgspec.structs.replace(read_settings(home), train_when=TrainWhen.IDLE)
    home.settings.write_bytes(msgspec.json.encode(changed))
    assert Hindrance.UNKNOWN_PRESENCE in conditions(False)
    conditions.close()


def test_a_home_without_settings_trains_nothing(tmp_path: Path) -> None:
    assert Conditions(AgentHome(tmp_path))(False) == (Hindrance.NOT_SET_UP,)
