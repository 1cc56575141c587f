"""The hold-back: what waits, how long, and what is gone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacitly_client.capture.gate.accessibility import Field
from tacitly_client.capture.hold import Hold, LockedCharacters, Run
from tacitly_client.redaction import ContentLevel, redact
from tacitly_common.errors import ValidationError
from tacitly_common.events import Event, EventKind

SECOND = 10**9
FIELD = Field(":1.1", "/a")


def letter(number: int = 0) -> Event:
    return Event(EventKind.KEY_DOWN, number, number, key="<letter>")


def moved(number: int = 0) -> Event:
    return Event(EventKind.POINTER_MOVE, number, number)


def run_of(hold: Hold, text: str, now_ns: int) -> Run:
    run = Run(FIELD, ContentLevel.CHARACTERS, begins=True)
    for character in text:
        hold.add_character(run, character, letter(now_ns), now_ns)
    return run


def test_less_than_two_seconds_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"1\.9 s is less than 2\.0 s"):
        Hold(1.9)


def test_a_key_waits_and_what_came_after_it_too() -> None:
    hold = Hold()
    hold.add(moved(1), 0, is_key=False)
    hold.add(letter(2), 0, is_key=True)
    hold.add(moved(3), 0, is_key=False)
    assert hold.release(0) == [moved(1)]
    assert hold.release(2 * SECOND - 1) == []
    assert hold.release(2 * SECOND) == [letter(2), moved(3)]


def test_a_run_waits_until_it_is_decided() -> None:
    hold = Hold()
    run = run_of(hold, "hi ", 5)
    assert hold.text(run) == ["h", "i", " "]
    assert hold.release(99 * SECOND) == []
    hold.settle(run, redact(hold.text(run), run.level))
    assert [event.key for event in hold.release(99 * SECOND)] == ["h", "i", " "]


def test_without_an_answer_the_classes_are_all() -> None:
    hold = Hold()
    run = run_of(hold, "hi", 5)
    hold.settle(run, None)
    assert [event.key for event in hold.release(99 * SECOND)] == ["<letter>", "<letter>"]


def test_recent_keys_are_dropped_and_the_rest_of_their_run_is_cut() -> None:
    hold = Hold()
    run = run_of(hold, "early ", 0)
    for character in "late":
        hold.add_character(run, character, letter(), 5 * SECOND)
    hold.add(letter(), 5 * SECOND, is_key=True)
    hold.add(moved(7), 5 * SECOND, is_key=False)
    assert hold.drop_since(5 * SECOND) == 5
    assert (run.ended, run.ends) == (True, False)
    assert "".join(hold.text(run)) == "early "
    hold.settle(run, redact(hold.text(run), run.level, ends=run.ends))
    released = hold.release(5 * SECOND)
    assert [event.key for event in released] == [*"early ", ""]


def test_a_whole_run_can_be_dropped() -> None:
    hold = Hold()
    run = run_of(hold, "secret", 0)
    assert hold.drop_run(run) == 6
    assert hold.release(99 * SECOND) == []


def test_a_run_that_was_cut_stays_so() -> None:
    run = Run(FIELD, ContentLevel.CHARACTERS, begins=True)
    run.end(complete=False)
    run.end(complete=True)
    assert not run.ends


def test_characters_are_locked_and_wiped() -> None:
    characters = LockedCharacters(4)
    assert characters.locked
    cells = [characters.put(character) for character in "pas😀"]
    assert [characters.get(cell) for cell in cells if cell is not None] == list("pas😀")
    assert characters.put("x") is None
    for cell in cells:
        assert cell is not None
        characters.wipe(cell)
    assert not any(characters._block)


@given(st.text(max_size=40), st.sampled_from(["settle", "drop run", "drop since", "clear"]))
def test_no_character_is_left_however_it_goes(text: str, how: str) -> None:
    text = "".join(character for character in text if not 0xD800 <= ord(character) < 0xE000)
    hold = Hold()
    run = run_of(hold, text, 0)
    if how == "settle":
        hold.settle(run, None)
    elif how == "drop run":
        hold.drop_run(run)
    elif how == "drop since":
        hold.drop_since(0)
    else:
        hold.clear()
    assert not any(hold._characters._block)
    assert len(hold._characters._free) == 4_096


def test_a_character_without_room_is_kept_as_its_class_and_cuts_the_run() -> None:
    hold = Hold()
    run = run_of(hold, 4_096 * "a", 0)
    hold.add_character(run, "b", letter(), 0)
    assert run.ended
    assert len(hold.text(run)) == 4_096
    hold.settle(run, None)
    assert len(hold.release(99 * SECOND)) == 4_097
