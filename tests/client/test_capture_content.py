"""The filter that keeps no content: what is stored does not depend on what was typed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacitly_client.capture.content import NoContent
from tacitly_client.capture.normaliser import Observation
from tacitly_common.campaign import Family, Level, TokenPlan
from tacitly_common.events import Event, EventKind, to_json_line
from tacitly_common.vocabulary import VOCABULARY_VERSION, Vocabulary

SECOND = 10**9
letters = st.text(st.characters(categories=["Ll", "Lu"]), min_size=1, max_size=20)


def event(kind: EventKind = EventKind.KEY_DOWN, at: float = 0.0, **fields: object) -> Event:
    ns = round(at * SECOND)
    return Event(kind, ns, 1_700_000_000 * SECOND + ns, **fields)  # type: ignore[arg-type]


def stored(*events: Event) -> list[Event]:
    return NoContent().accept([Observation(each, None) for each in events])


def lines(text: str) -> list[bytes]:
    return [to_json_line(each) for each in stored(*(event(key=key) for key in text))]


@given(letters, st.data())
def test_two_texts_of_letters_are_stored_alike(text: str, data: st.DataObject) -> None:
    other = data.draw(st.text(st.sampled_from("xyzQ"), min_size=len(text), max_size=len(text)))
    assert lines(text) == lines(other)


@given(st.text("0123456789", min_size=1))
def test_digits_are_stored_alike(text: str) -> None:
    assert lines(text) == lines("0" * len(text))


@given(
    st.characters(),
    st.sampled_from([(), ("Shift",), ("Control",), ("Alt", "Control"), ("Meta",)]),
)
def test_the_level_of_classes_sees_no_difference(key: str, held: tuple[str, ...]) -> None:
    vocabulary = Vocabulary(
        TokenPlan(
            vocabulary_version=VOCABULARY_VERSION,
            level=Level.CLASSES,
            families=tuple(sorted(Family)),
        )
    )
    pressed = event(key=key, modifiers=held)
    assert list(vocabulary.encode(stored(pressed))) == list(vocabulary.encode([pressed]))


@pytest.mark.parametrize(
    "dropped",
    [
        event(key="Shift"),
        event(key="a", repeat=True),
        event(EventKind.KEY_UP, key="a"),
        event(EventKind.BUTTON_UP, button=1),
    ],
)
def test_what_tells_only_of_rhythm_is_not_stored(dropped: Event) -> None:
    assert stored(dropped) == []


def test_a_shortcut_is_its_id() -> None:
    (kept,) = stored(event(key="c", modifiers=("Control",), app="editor"))
    assert (kept.key, kept.modifiers, kept.app) == ("c", ("Control",), "editor")
    (kept,) = stored(event(key="ж", modifiers=("Control",)))
    assert (kept.key, kept.modifiers) == ("<char>", ("Control",))


@given(st.floats(0, 10, allow_nan=False))
def test_times_are_coarse_and_keep_their_order(at: float) -> None:
    first, second = stored(event(at=at, key="a"), event(at=at + 0.1, key="b"))
    assert first.monotonic_ns % (SECOND // 4) == first.wall_ns % (SECOND // 4) == 0
    assert first.monotonic_ns <= second.monotonic_ns
    assert 0 <= event(at=at).monotonic_ns - first.monotonic_ns < SECOND // 4


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_click_is_its_cell_and_keeps_its_token(x: float, y: float) -> None:
    (kept,) = stored(event(EventKind.BUTTON_DOWN, button=1, x=x, y=y))
    assert (kept.x * 12 % 1, kept.y * 12 % 1) == (pytest.approx(0.5), pytest.approx(0.5))
    assert (min(int(kept.x * 3), 2), min(int(kept.y * 3), 2)) == (
        min(int(x * 3), 2),
        min(int(y * 3), 2),
    )


def test_motion_is_the_cells_it_passes() -> None:
    steps = [event(EventKind.POINTER_MOVE, n / 100, x=n / 1_000, y=0.5) for n in range(1_000)]
    assert len(stored(*steps)) == 12
    content = NoContent()
    content.accept([Observation(steps[0], None)])
    assert content.accept([Observation(steps[1], None)]) == []
    content.discard()
    assert len(content.accept([Observation(steps[1], None)])) == 1


def test_the_wheel_and_the_focus_stay() -> None:
    kept = stored(
        event(EventKind.SCROLL, dy=1.0, x=0.123), event(EventKind.FOCUS, app="org.example.App")
    )
    assert kept == [event(EventKind.SCROLL, dy=1.0), event(EventKind.FOCUS, app="org.example.App")]
