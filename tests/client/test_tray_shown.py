"""What the indicator shows, and that states look different."""

from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from tacitly_client.asking import agree, capture_asked
from tacitly_client.capture.clock import SystemClock
from tacitly_client.capture.state import CaptureState, Doing
from tacitly_client.consent import withdraw
from tacitly_client.daemon.state import Training, VaultState
from tacitly_client.home import AgentHome
from tacitly_client.live_file import LiveFile
from tacitly_client.notice import Language, words
from tacitly_client.pause import pause
from tacitly_client.tray import picture
from tacitly_client.tray.shown import Look, Showing
from tray import fresh

CLOCK = SystemClock()
NOW = datetime.now(UTC)


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    place = fresh(tmp_path / "home")
    place.run.mkdir()
    agree(place, capture_asked(place, Language.EN), now=NOW)
    return place


@pytest.mark.parametrize("doing", Doing)
@pytest.mark.parametrize("trains", [False, True])
def test_capturing_is_shown_exactly_while_input_is_received(
    home: AgentHome, doing: Doing, trains: bool
) -> None:
    capture, vault = LiveFile(home.capture_state), LiveFile(home.vault_state)
    if doing is not Doing.NOTHING:
        capture.show(CaptureState(doing))
    vault.show(VaultState(Training.RUNNING if trains else Training.WAITING))
    view = Look(home, CLOCK)()
    receives = doing in (Doing.CAPTURING, Doing.NOT_STORING)
    otherwise = Showing.TRAINING if trains else Showing.NOT_RECEIVING
    assert view.showing is (Showing.CAPTURING if receives else otherwise)
    assert view.trains is trains
    pause(home, CLOCK)
    assert Look(home, CLOCK)().showing is Showing.PAUSED
    withdraw(home, now=NOW)
    assert Look(home, CLOCK)().showing is Showing.OFF
    capture.close()
    vault.close()


def test_a_killed_capture_process_is_not_shown_as_capturing(home: AgentHome) -> None:
    capture = LiveFile(home.capture_state)
    capture.show(CaptureState(Doing.CAPTURING))
    look = Look(home, CLOCK)
    assert look().showing is Showing.CAPTURING
    capture.close()  # as the kernel does
    assert look().showing is Showing.NOT_RECEIVING
    assert look().why == Doing.NOTHING.value


def test_why_it_is_off_is_said(tmp_path: Path) -> None:
    home = fresh(tmp_path / "home")
    assert Look(home, CLOCK)().why == "you have not agreed"


def test_what_may_follow_a_state_is_said_in_german_too() -> None:
    reasons = words(Language.DE).tray.reasons
    received = {Doing.CAPTURING}  # the state says it
    assert {doing.value for doing in Doing} - received - set(reasons) == set()
    assert "you have not agreed" in reasons
    assert "you have withdrawn it" in reasons


@pytest.mark.parametrize("language", Language)
def test_every_state_has_its_words_and_its_shape(language: Language) -> None:
    said = words(language).tray
    assert len({getattr(said, showing) for showing in Showing}) == len(Showing)
    for one, other in combinations(Showing, 2):
        pair = (
            picture.symbol(each, 32).convert("L").point(lambda v: 255 * (v > 90))
            for each in (one, other)
        )
        difference = ImageChops.difference(*pair)
        assert sum(difference.histogram()[128:]) > 40, (one, other)


def _shape(showing: Showing) -> Image.Image:
    """Without colours."""
    return picture.symbol(showing, 32).convert("L").point(lambda value: 255 * (value > 90))


@pytest.mark.parametrize("scale", [1.0, 2.0, 4.0])
def test_pictures_grow_with_the_screen_s_scale(scale: float) -> None:
    chip = picture.chip(Showing.CAPTURING, "Tacitly empfängt nichts", scale)
    assert chip.height == round(26 * scale)
    menu = picture.menu("Tacitly", ("one", "two"), 1, scale)
    assert menu.height == 3 * picture.row_height(scale)
    assert isinstance(menu, Image.Image)
