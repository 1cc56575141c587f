"""The vocabulary: total, fixed, invertible, blind to digits."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacitly_common.campaign import Family, Level, TokenPlan
from tacitly_common.errors import ValidationError
from tacitly_common.events import Event, EventKind
from tacitly_common.vocabulary import START, UNKNOWN, VOCABULARY_VERSION, Vocabulary

SECOND = 10**9
ALL_FAMILIES = tuple(sorted(Family))


def vocabulary(
    level: Level = Level.CHARACTERS, families: tuple[Family, ...] = ALL_FAMILIES
) -> Vocabulary:
    return Vocabulary(
        TokenPlan(vocabulary_version=VOCABULARY_VERSION, level=level, families=families)
    )


def names(events: list[Event], **plan: object) -> list[str]:
    """Readable tokens after the session's start."""
    table = vocabulary(**plan)  # type: ignore[arg-type]
    tokens = table.encode(events)
    assert not len(tokens) or tokens[0] == START
    return [table.name(int(token)) for token in tokens[1:]]


def at(seconds: float, kind: EventKind = EventKind.KEY_DOWN, **fields: object) -> Event:
    """An event some seconds after the session's start."""
    ns = int(seconds * SECOND)
    return Event(kind, ns, 1_700_000_000 * SECOND + ns, **fields)  # type: ignore[arg-type]


def key(name: str, *modifiers: str) -> Event:
    return at(0, key=name, modifiers=modifiers)


keys = st.one_of(
    st.characters(codec=None),
    st.sampled_from(["", "Enter", "Shift", "F5", "Process", "Control+<char>", "Unidentified"]),
    st.text(max_size=4),
)
numbers = st.floats(allow_nan=True, allow_infinity=True)
events = st.builds(
    Event,
    kind=st.sampled_from(EventKind),
    monotonic_ns=st.integers(),
    wall_ns=st.integers(),
    key=keys,
    modifiers=st.lists(
        st.sampled_from(["Alt", "Control", "Meta", "Shift", "Hyper"]), unique=True
    ).map(lambda held: tuple(sorted(held))),
    repeat=st.booleans(),
    button=st.integers(),
    x=numbers,
    y=numbers,
    dx=numbers,
    dy=numbers,
    app=st.one_of(st.text(), st.sampled_from(["firefox", "code.exe", "org.gnome.Nautilus"])),
)
levels = st.sampled_from(Level)
families = st.sets(st.sampled_from(Family), min_size=1).map(lambda chosen: tuple(sorted(chosen)))


@given(st.lists(events), levels, families)
def test_every_event_sequence_has_tokens_in_range(
    sequence: list[Event], level: Level, chosen: tuple[Family, ...]
) -> None:
    table = vocabulary(level, chosen)
    tokens = table.encode(sequence)
    assert tokens.dtype == np.int64
    assert ((tokens >= 0) & (tokens < table.size)).all()


@pytest.mark.parametrize("level", Level)
def test_names_and_tokens_are_each_others_inverse(level: Level) -> None:
    table = vocabulary(level)
    every_name = [table.name(token) for token in range(table.size)]
    assert len(set(every_name)) == table.size
    assert [table.token(name) for name in every_name] == list(range(table.size))
    assert (table.token("<start>"), table.token("<unk>")) == (START, UNKNOWN)


@pytest.mark.parametrize(
    ("level", "size", "digest"),
    [
        (
            Level.CHARACTERS,
            254,
            "b74387002e0fa2133c909524e0272711d06f055c2bbbabe22805fceb9a999130",
        ),
        (Level.CLASSES, 161, "6b7f69faffb61fc6c397f3deadc299285a4e86254be53789d08119f2ba183c95"),
    ],
)
def test_the_table_of_version_1_never_changes(level: Level, size: int, digest: str) -> None:
    table = vocabulary(level)
    listing = "\n".join(table.name(token) for token in range(table.size))
    assert VOCABULARY_VERSION == 1
    assert table.size == size
    assert hashlib.sha256(listing.encode()).hexdigest() == digest


@pytest.mark.parametrize("level", Level)
def test_clicks_are_a_button_in_a_cell(level: Level) -> None:
    table = vocabulary(level)
    clicks = [table.name(token) for token in table.clicks]
    assert len(clicks) == 3 * 9
    assert names([at(0, EventKind.BUTTON_DOWN, button=1, x=0.9, y=0.1)]) == ["<left 2,0>"]
    assert {"<left 2,0>", "<right 0,0>", "<other 1,2>"} <= set(clicks)
    assert len(set(clicks)) == len(clicks)


def test_the_size_does_not_depend_on_the_families() -> None:
    assert vocabulary(families=(Family.KEYS,)).size == vocabulary().size


def test_an_unknown_version_is_refused() -> None:
    plan = TokenPlan(vocabulary_version=2, level=Level.CLASSES, families=(Family.KEYS,))
    with pytest.raises(ValidationError, match="vocabulary_version is 2, this Tacitly has 1"):
        Vocabulary(plan)


@pytest.mark.parametrize("token", [-1, 254])
def test_a_token_outside_the_table_has_no_name(token: int) -> None:
    with pytest.raises(ValidationError, match=r"token must lie in \[0, 253\]"):
        vocabulary().name(token)


def test_an_unknown_name_has_no_token() -> None:
    with pytest.raises(ValidationError, match="no token is named '7'"):
        vocabulary().token("7")


@given(
    st.characters(categories=["Nd", "Nl", "No"]),
    st.sets(st.sampled_from(["Alt", "Control", "Meta", "Shift"])),
    levels,
)
def test_digits_cannot_be_told_apart(digit: str, held: set[str], level: Level) -> None:
    modifiers = tuple(sorted(held))
    assert names([key(digit, *modifiers)], level=level) == names(
        [key("0", *modifiers)], level=level
    )


def test_function_keys_cannot_be_told_apart() -> None:
    assert names([key("F1"), key("F12")]) == ["<function>", "<function>"]


@given(st.characters(categories=["L"]))
def test_level_classes_keeps_no_letter(letter: str) -> None:
    assert names([key(letter)], level=Level.CLASSES)[0] in ("<letter>", "<digit>", "<key>")


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (key("a"), "a"),
        (key("A", "Shift"), "A"),
        (key("ä"), "ä"),
        (key("a\u0308"), "ä"),
        (key("Ä"), "<letter>"),
        (key("語"), "<letter>"),
        (key("€"), "<symbol>"),
        (key(" "), "Space"),
        (key("Backspace"), "Backspace"),
        (key("Process"), "<input>"),
        (key("AudioVolumeUp"), "<key>"),
        (key(""), "<unk>"),
        (key("\x00"), "<unk>"),
        (key("\ud800"), "<unk>"),
        (key("c", "Control"), "Control+c"),
        (key("C", "Control"), "Control+c"),
        (key("c", "Meta"), "Control+c"),
        (key("x", "Alt"), "Alt+<char>"),
        (key("Z", "Control", "Shift"), "Control+Shift+z"),
        (key("7", "Control"), "Control+<char>"),
        (key("F4", "Alt"), "Alt+<key>"),
        (key("Tab", "Shift"), "Shift+Tab"),
        (key("Delete", "Shift"), "Shift+<key>"),
    ],
)
def test_a_key_has_its_readable_token(event: Event, name: str) -> None:
    assert names([event]) == [name]


@pytest.mark.parametrize(
    "event",
    [
        key("Shift"),
        key("Control", "Control"),
        at(0, key="a", repeat=True),
        at(0, EventKind.KEY_UP, key="a"),
        at(0, EventKind.BUTTON_UP, button=1),
        at(0, EventKind.SCROLL),
    ],
)
def test_what_is_no_action_of_its_own_has_no_token(event: Event) -> None:
    assert names([event]) == []


@pytest.mark.parametrize(
    ("button", "x", "y", "name"),
    [
        (1, 0.0, 0.0, "<left 0,0>"),
        (1, 1.0, 0.5, "<left 2,1>"),
        (3, 0.4, 5.0, "<right 1,2>"),
        (2, math.nan, -1.0, "<other 0,0>"),
    ],
)
def test_a_click_is_its_button_and_cell(button: int, x: float, y: float, name: str) -> None:
    assert names([at(0, EventKind.BUTTON_DOWN, button=button, x=x, y=y)]) == [name]


def moves(*points: tuple[float, float], start: float = 0.0) -> list[Event]:
    return [
        at(start + index / 100, EventKind.POINTER_MOVE, x=x, y=y)
        for index, (x, y) in enumerate(points)
    ]


def test_moves_in_one_direction_are_one_stroke() -> None:
    path = moves((0.1, 0.5), (0.2, 0.5), (0.3, 0.51), (0.5, 0.5))
    assert names(path) == ["<move E far>"]


def test_a_turn_ends_a_stroke() -> None:
    path = moves((0.1, 0.5), (0.15, 0.5), (0.2, 0.5), (0.2, 0.3), (0.2, 0.1))
    assert names(path) == ["<move E mid>", "<move N far>"]


def test_a_pause_ends_a_stroke() -> None:
    path = moves((0.1, 0.1), (0.12, 0.12)) + moves((0.14, 0.14), start=5.0)
    assert names(path) == ["<move SE near>", "<pause 4s>", "<move SE near>"]


def test_jitter_is_no_movement() -> None:
    assert names(moves((0.5, 0.5), (0.501, 0.5), (0.5, 0.501))) == []


def test_a_click_ends_a_stroke_and_begins_the_next_where_it_is() -> None:
    path = [
        *moves((0.1, 0.1), (0.1, 0.3)),
        at(0.1, EventKind.BUTTON_DOWN, button=1, x=0.1, y=0.9),
        *moves((0.1, 0.95), start=0.2),
    ]
    assert names(path) == ["<move S mid>", "<left 0,2>", "<move S near>"]


def test_a_run_of_scrolling_is_one_token() -> None:
    wheel = [at(t, EventKind.SCROLL, dy=dy) for t, dy in [(0, 1), (0.1, 1), (0.2, -1), (0.3, 1)]]
    assert names(wheel) == ["<scroll down>", "<scroll up>", "<scroll down>"]
    assert names([at(0, EventKind.SCROLL, dx=-2.0, dy=1.0)]) == ["<scroll left>"]


def test_only_a_change_of_application_has_a_token() -> None:
    focused = ["org.mozilla.firefox", "org.mozilla.firefox", "Code.exe", "chromium", "payroll"]
    switches = [at(index / 10, EventKind.FOCUS, app=app) for index, app in enumerate(focused)]
    assert names(switches) == ["<app browser>", "<app editor>", "<app browser>", "<app other>"]


@pytest.mark.parametrize(
    ("seconds", "pause"),
    [
        (0.99, []),
        (1.0, ["<pause 1s>"]),
        (3.9, ["<pause 1s>"]),
        (60, ["<pause 16s>"]),
        (1_700, ["<pause 17min>"]),
    ],
)
def test_pauses_are_binned_by_the_largest_bound_not_above(seconds: float, pause: list[str]) -> None:
    assert names([at(0, key="a"), at(seconds, key="b")]) == ["a", *pause, "b"]


def test_sleep_is_seen_though_the_monotonic_clock_stands_still() -> None:
    before, after = Event(EventKind.KEY_DOWN, 0, 0, "a"), Event(EventKind.KEY_DOWN, 1, 2**36, "b")
    assert names([before, after]) == ["a", "<pause 1min>", "b"]


@pytest.mark.parametrize("second", [at(1_800, key="b"), Event(EventKind.KEY_DOWN, -1, 0, "b")])
def test_a_new_session_begins_with_start(second: Event) -> None:
    assert names([at(0, key="a"), second]) == ["a", "<start>", "b"]


def test_a_family_left_out_is_not_seen() -> None:
    mixed = [
        at(0, key="a"),
        at(0.5, EventKind.FOCUS, app="firefox"),
        *moves((0.1, 0.1), (0.9, 0.1), start=0.8),
        at(1.2, key="b"),
    ]
    assert names(mixed, families=(Family.KEYS,)) == ["a", "b"]
    assert names(mixed, families=(Family.KEYS, Family.PAUSES)) == ["a", "<pause 1s>", "b"]
    assert names(mixed, families=(Family.POINTER,)) == ["<move E far>"]
    assert names(mixed, families=(Family.APPLICATIONS,)) == ["<app browser>"]
    assert names(mixed) == ["a", "<app browser>", "<move E far>", "b"]


def test_no_events_give_no_tokens() -> None:
    assert vocabulary().encode([]).shape == (0,)
