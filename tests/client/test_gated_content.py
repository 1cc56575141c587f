"""The content filter as a whole, on a gate and a clock that a test moves."""

from collections import Counter
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hand_clock import HandClock
from tacitly_client.capture.gate import FieldKind, Place, Reread, Seen, Verdict
from tacitly_client.capture.gate.accessibility import Field
from tacitly_client.capture.gated import GatedContent
from tacitly_client.capture.hold import Hold
from tacitly_client.capture.normaliser import Observation
from tacitly_client.capture.source import Focus
from tacitly_client.choices import Choices
from tacitly_client.redaction import ContentLevel, Redacted, redact
from tacitly_common.events import Event, EventKind

FIELD, OTHER_FIELD = Field(":1.1", "/a"), Field(":1.1", "/b")
EDITOR = Focus("editor", 1, 10)
CHOICES = Choices(
    applications={"editor": ContentLevel.CHARACTERS, "counted": ContentLevel.COUNTS},
    excluded=frozenset({"diary"}),
)


class ByHand:
    """A gate that says what the test says."""

    def __init__(self) -> None:
        self.says = Verdict.ALLOW
        self.field = FIELD
        self.rereads = FieldKind.TEXT
        self.seen = Seen()
        self.suspected = 0
        self.still: list[bool] = []

    def verdict(self, focus: Focus | None, *, chosen: bool = False) -> Verdict:
        return self.says

    def place(self, focus: Focus) -> Place:
        return self.field

    def suspect(self) -> None:
        self.suspected += 1

    def look(self) -> Seen:
        seen, self.seen = self.seen, Seen()
        return seen

    def reread(self, place: Place, *, still: bool) -> Reread:
        self.still.append(still)
        return Reread(place, 0, None, still=still)

    def answer(self, reread: Reread) -> FieldKind | None:
        return self.rereads

    def close(self) -> None:
        pass


class Person:
    """Types into a filter and lets time pass."""

    def __init__(
        self, choices: Choices = CHOICES, judge: Callable[..., Redacted | None] = redact
    ) -> None:
        self.clock = HandClock()
        self.gate = ByHand()
        self.told: Counter[str] = Counter()
        self.content = GatedContent(
            choices=lambda: choices,
            gate=self.gate,  # type: ignore[arg-type]
            hold=Hold(),
            clock=self.clock,
            tell=self._tell,
            judge=judge,
        )
        self.stored: list[Event] = []

    def does(self, kind: EventKind, focus: Focus = EDITOR, **fields: object) -> None:
        now = self.clock.monotonic_ns()
        event = Event(kind, now, self.clock.wall_ns(), app=focus.app, **fields)  # type: ignore[arg-type]
        self.stored += self.content.accept([Observation(event, focus)])

    def types(self, text: str, focus: Focus = EDITOR) -> None:
        for character in text:
            key = {"\n": "Enter", "\t": "Tab", "\b": "Backspace"}.get(character, character)
            self.does(EventKind.KEY_DOWN, focus, key=key)
            self.clock.pass_(0.1)
            self.does(EventKind.KEY_UP, focus, key=key)

    def waits(self, seconds: float = 6.0) -> list[str]:
        """Lets time pass as capture does; the keys that are stored by then."""
        for _ in range(round(seconds / 0.25)):
            self.clock.pass_(0.25)
            self.stored += self.content.accept([])
        return [event.key for event in self.stored if event.kind is EventKind.KEY_DOWN]

    def _tell(self, counts: Mapping[str, int]) -> None:
        self.told.update(counts)


def test_what_is_allowed_is_stored_once_and_in_order() -> None:
    person = Person()
    person.types("it is late\nand cold ")
    assert person.stored == []
    assert person.waits() == [*"it is late", "Enter", *"and cold "]


def test_of_what_cannot_be_judged_classes_are_stored() -> None:
    person = Person(judge=lambda *_keys, **_ends: None)
    person.types("it is")
    assert person.waits() == ["<letter>"] * 2 + ["Space"] + ["<letter>"] * 2
    assert person.told == {"could not be judged": 5}


def test_nothing_is_stored_before_two_seconds() -> None:
    person = Person()
    person.gate.says = Verdict.UNKNOWN
    person.types("a")
    assert person.waits(1.5) == []
    assert person.waits(1.0) == ["<letter>"]


def test_what_is_denied_leaves_not_even_classes() -> None:
    person = Person()
    person.gate.says = Verdict.DENY
    person.types("hunter2\n")
    assert person.waits() == []
    assert person.told == {"secret field or denied application": 8}


def test_in_an_unknown_field_a_characters_class_is_hidden_too() -> None:
    person = Person()
    person.gate.says = Verdict.UNKNOWN
    person.types("aB3$ \n")
    assert person.waits() == [*4 * ["<letter>"], "Space", "Enter"]


def test_a_secret_that_turns_out_takes_the_last_seconds() -> None:
    person = Person()
    person.types("early words ")
    person.waits(3.0)
    person.types("hunter ")
    person.gate.seen = Seen(secret=True)
    assert person.waits() == [*"early words "]
    assert person.told["secret field turned out to have the focus"] == 7


def test_a_focus_that_turns_out_to_have_moved_takes_the_last_seconds_characters() -> None:
    """Wherever it was moved to, it was not told in time: a field that nobody knows."""
    person = Person()
    person.types("early ")
    person.waits(1.75)
    person.types("a?b")
    person.gate.seen = Seen(moved=True)
    person.types("we ")
    text = "".join(person.waits()).replace("<letter>", "#")
    assert text == "early ##### "
    assert person.told["focus turned out to have moved"] == 4


def test_a_run_must_have_the_focus_still_unless_it_was_left_on_purpose() -> None:
    person = Person()
    person.types("it is ")
    person.waits()
    person.types("it is\t")
    person.waits()
    assert person.gate.still == [True, False]


def test_a_run_whose_field_is_secret_in_the_end_is_dropped() -> None:
    person = Person()
    person.gate.rereads = FieldKind.MASKED
    person.types("hunter two ")
    assert person.waits() == []


def test_a_run_whose_field_does_not_answer_is_classes() -> None:
    person = Person()
    person.gate.rereads = FieldKind.OTHER
    person.types("hi ")
    assert person.waits() == ["<letter>", "<letter>", "Space"]
    assert person.told["field did not answer"] == 3


def test_a_word_that_a_pause_cuts_is_classes() -> None:
    person = Person()
    person.types("go jo")
    person.waits(3.0)
    person.types("hn@x.org it is ")
    assert "".join(person.waits()).replace("<letter>", "#") == "go ## it is "


@pytest.mark.parametrize("key", ["ArrowLeft", "Home", "Delete"])
def test_a_word_beside_which_the_cursor_was_moved_is_classes(key: str) -> None:
    person = Person()
    person.types("we ha")
    person.does(EventKind.KEY_DOWN, key=key)
    person.types("ve it ")
    assert "".join(person.waits()).replace("<letter>", "#") == f"we ##{key}## it "


def test_a_click_ends_a_word_without_an_end() -> None:
    person = Person()
    person.types("we john")
    person.does(EventKind.BUTTON_DOWN, button=1)
    person.types("son it ")
    assert "".join(person.waits()).replace("<letter>", "#") == "we ####### it "
    assert person.gate.suspected == 1


def test_another_field_is_another_run() -> None:
    person = Person()
    person.types("we john")
    person.gate.field = OTHER_FIELD
    person.types("son it ")
    assert "".join(person.waits()).replace("<letter>", "#") == "we ####### it "


@pytest.mark.parametrize("key", ["Tab", "Enter", "Escape", "F6", "ArrowDown", "PageUp"])
def test_keys_that_may_move_the_focus_are_suspect(key: str) -> None:
    person = Person()
    person.does(EventKind.KEY_DOWN, key=key)
    assert person.gate.suspected == 1


def test_shortcuts_and_windows_are_suspect_and_typing_is_not() -> None:
    person = Person()
    person.does(EventKind.KEY_DOWN, key="l", modifiers=("Control",))
    person.does(EventKind.FOCUS)
    person.does(EventKind.BUTTON_DOWN, button=1)
    person.does(EventKind.BUTTON_UP, button=1)
    assert person.gate.suspected == 4
    person.types("abc \b")
    person.does(EventKind.KEY_DOWN, key="Shift")
    assert person.gate.suspected == 4


def test_a_held_backspace_deletes_all_before_it() -> None:
    person = Person()
    person.types("hunter two ")
    person.does(EventKind.KEY_DOWN, key="Backspace")
    person.clock.pass_(0.8)
    person.does(EventKind.KEY_UP, key="Backspace")
    person.types("it is ")
    text = "".join(person.waits()).replace("<letter>", "#").replace("Space", "_")
    assert text == "######_###_Backspaceit is "


def test_shift_is_no_end_of_a_run() -> None:
    person = Person()
    person.types("it")
    person.does(EventKind.KEY_DOWN, key="Shift")
    person.types("S is ")
    assert "".join(person.waits()) == "itS is "


def test_an_application_that_was_not_chosen_has_classes() -> None:
    person = Person()
    person.types("ab ", Focus("mail", 2, 11))
    assert person.waits() == ["<letter>", "<letter>", "Space"]


def test_of_an_excluded_application_nothing_is_stored() -> None:
    person = Person()
    diary = Focus("diary", 3, 12)
    person.does(EventKind.FOCUS, diary)
    person.types("dear", diary)
    person.does(EventKind.BUTTON_DOWN, diary, button=1)
    person.does(EventKind.POINTER_MOVE, diary, x=0.5, y=0.5)
    person.waits()
    assert person.stored == []
    assert person.told == {"excluded application": 4}


def test_at_counts_there_is_no_sequence() -> None:
    person = Person()
    counted = Focus("counted", 3, 12)
    person.types("dear", counted)
    person.does(EventKind.BUTTON_DOWN, counted, button=1)
    person.waits()
    assert person.stored == []
    assert person.told == {"level counts": 4}


def test_a_pause_forgets_what_was_held() -> None:
    person = Person()
    person.types("it is late ")
    person.content.discard()
    assert person.waits() == []


def test_long_typing_does_not_wait_for_its_end() -> None:
    person = Person()
    person.types("it is so " * 100)
    assert person.waits(0.25).count("t") > 20


def test_the_rules_of_redaction_are_counted() -> None:
    person = Person()
    person.types("mail ada@example.org ")
    person.waits()
    assert person.told == {"shape of a secret": 15}


@given(st.text(st.sampled_from("abz39@ \b\n\t"), max_size=60), st.sampled_from(list(Verdict)))
def test_at_classes_nothing_stored_depends_on_the_letter(text: str, verdict: Verdict) -> None:
    """C6 of the laws' tests: for whatever the gate says."""
    stored = []
    for typed in (text, text.translate(str.maketrans("abz39", "zab93"))):
        person = Person(Choices())
        person.gate.says = verdict
        person.types(typed)
        person.waits()
        stored.append(person.stored)
    assert stored[0] == stored[1]
