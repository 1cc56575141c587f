"""The event's one serialised form, and what never shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacitly_common.errors import ValidationError
from tacitly_common.events import Event, EventKind, from_json_line, to_json_line

events = st.builds(
    Event,
    kind=st.sampled_from(EventKind),
    monotonic_ns=st.integers(0, 2**63 - 1),
    wall_ns=st.integers(0, 2**63 - 1),
    key=st.text(max_size=12),
    modifiers=st.lists(st.sampled_from(["Alt", "Control", "Meta", "Shift"]), unique=True).map(
        lambda names: tuple(sorted(names))
    ),
    repeat=st.booleans(),
    button=st.integers(0, 9),
    x=st.floats(0, 1),
    y=st.floats(0, 1),
    dx=st.floats(-100, 100),
    dy=st.floats(-100, 100),
    app=st.text(max_size=12),
)


@given(events)
def test_an_event_survives_its_json_line(event: Event) -> None:
    line = to_json_line(event)
    assert b"\n" not in line
    assert from_json_line(line) == event


def test_a_repr_shows_no_content() -> None:
    event = Event(EventKind.KEY_DOWN, 1, 2, key="s3cret", app="bank")
    assert repr(event) == str(event) == "Event(key_down)"


@pytest.mark.parametrize(
    "line",
    [
        b"s3cret",
        b"{}",
        b'{"kind":"s3cret","monotonic_ns":1,"wall_ns":2}',
        b'{"kind":"key_down","monotonic_ns":"s3cret","wall_ns":2}',
        b'{"kind":"key_down","monotonic_ns":1,"wall_ns":2,"s3cret":1}',
        b'{"kind":"key_down","monotonic_ns":1,"wall_ns":2,"key":"s3cret\xff"}',
    ],
)
def test_a_bad_line_is_refused_without_being_quoted(line: bytes) -> None:
    with pytest.raises(ValidationError, match="not an event of schema version 1") as caught:
        from_json_line(line)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
