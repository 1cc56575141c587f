"""The verdict on the focused field, for applications that tell at the times a test picks."""

import pytest

from hand_clock import HandClock
from tacitly_client.capture.gate import FieldKind, Gate, Verdict
from tacitly_client.capture.gate.accessibility import Field, Move, Question
from tacitly_client.capture.gate.applications import Kind, kind_of
from tacitly_client.capture.gate.browsers import PageField
from tacitly_client.capture.source import Focus

APP, BROWSER = 100, 200
NAME, PASSWORD = Field(":1.5", "/name"), Field(":1.5", "/password")
EDITOR = Focus("editor", 7, APP)
EDITABLE, FOCUSED = 1 << 7, 1 << 12
ENTRY, MASKED, TERMINAL = 79, 40, 60


class Bus:
    """Applications that answer when the test lets them."""

    def __init__(self) -> None:
        self.moves: list[Move] = []
        self.asked: list[Question] = []
        self.roles = {NAME: ENTRY, PASSWORD: MASKED}
        self.focused: Field | None = None
        self.closed = False

    def poll(self) -> list[Move]:
        moves, self.moves = self.moves, []
        return moves

    def ask(self, question: Question) -> None:
        self.asked.append(question)

    def close(self) -> None:
        self.closed = True

    def focus(self, field: Field) -> None:
        self.moves.append(Move(field, True))
        self.focused = field

    def answer(self, pid: int = APP) -> None:
        for question in self.asked:
            states = EDITABLE | (FOCUSED if question.field == self.focused else 0)
            question.tell("role", self.roles[question.field])
            question.tell("states", [states, 0])
            question.tell("pid", pid)
        self.asked.clear()


class World:
    """A gate, and what it listens to."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.bus = Bus()
        self.pages: dict[int, PageField] = {}
        self.gate = Gate(self.bus, lambda: dict(self.pages), self.clock)  # type: ignore[arg-type]

    def look(self) -> bool:
        """Whether a secret turned out."""
        self.clock.pass_(0.05)
        self.seen = self.gate.look()
        return self.seen.secret

    def tell(self, field: Field) -> bool:
        """The focus is told, asked for and answered; whether a secret turned out."""
        self.bus.focus(field)
        self.look()
        self.bus.answer()
        return self.look()

    def page(self, *, sensitive: bool = False, private: bool = False) -> bool:
        self.clock.pass_(0.01)
        now = self.clock.monotonic_ns()
        self.pages[BROWSER] = PageField(BROWSER, sensitive, private, now)
        return self.look()


@pytest.fixture
def world() -> World:
    return World()


def test_at_the_start_everything_is_unknown(world: World) -> None:
    assert world.gate.verdict(EDITOR) is Verdict.UNKNOWN


def test_a_text_field_is_allowed_once_it_answered(world: World) -> None:
    world.bus.focus(NAME)
    assert not world.look()
    assert world.gate.verdict(EDITOR) is Verdict.UNKNOWN
    world.bus.answer()
    assert not world.look()
    assert world.gate.verdict(EDITOR) is Verdict.ALLOW
    assert world.gate.place(EDITOR) == NAME


def test_a_password_field_is_denied_and_said(world: World) -> None:
    assert world.tell(PASSWORD)
    assert world.gate.verdict(EDITOR) is Verdict.DENY
    assert world.gate.verdict(Focus("editor", 7, None)) is Verdict.DENY


def test_a_field_of_another_process_is_none_of_this_window(world: World) -> None:
    world.tell(NAME)
    assert world.gate.verdict(Focus("editor", 7, APP + 1)) is Verdict.UNKNOWN
    assert world.gate.verdict(Focus("editor", 7, None)) is Verdict.UNKNOWN


@pytest.mark.parametrize("role", [TERMINAL, 67, 39, 0])
def test_what_is_no_text_field_is_unknown(world: World, role: int) -> None:
    world.bus.roles[NAME] = role
    world.tell(NAME)
    assert world.gate.verdict(EDITOR) is Verdict.UNKNOWN


def test_no_window_and_one_that_is_not_known_are_denied(world: World) -> None:
    world.tell(NAME)
    assert world.gate.verdict(Focus()) is Verdict.DENY
    assert world.gate.verdict(None) is Verdict.DENY


def test_a_suspect_key_makes_it_unknown_until_another_field_is_told(world: World) -> None:
    world.tell(NAME)
    world.gate.suspect()
    assert world.gate.verdict(EDITOR) is Verdict.UNKNOWN
    world.tell(NAME)
    assert world.gate.verdict(EDITOR) is Verdict.ALLOW


def test_a_suspect_key_while_the_answer_is_under_way_counts(world: World) -> None:
    world.bus.focus(NAME)
    world.look()
    world.gate.suspect()
    world.bus.answer()
    world.look()
    assert world.gate.verdict(EDITOR) is Verdict.UNKNOWN


def test_the_same_field_is_asked_again_a_second_later(world: World) -> None:
    world.tell(NAME)
    world.gate.suspect()
    world.clock.pass_(0.9)
    world.look()
    assert world.bus.asked == []
    world.clock.pass_(0.1)
    world.look()
    assert world.gate.verdict(EDITOR) is Verdict.UNKNOWN
    world.bus.answer()
    world.look()
    assert world.gate.verdict(EDITOR) is Verdict.ALLOW


def test_a_field_that_lost_the_focus_untold_is_not_allowed_again(world: World) -> None:
    world.tell(NAME)
    world.gate.suspect()
    world.bus.focused = None
    world.clock.pass_(1.0)
    world.look()
    world.bus.answer()
    world.look()
    assert world.gate.verdict(EDITOR) is Verdict.UNKNOWN


def test_leaving_a_field_is_unknown(world: World) -> None:
    world.tell(NAME)
    world.bus.moves.append(Move(NAME, False))
    world.look()
    assert world.gate.verdict(EDITOR) is Verdict.UNKNOWN


def test_a_password_field_on_the_way_is_said_however_late(world: World) -> None:
    world.bus.focus(PASSWORD)
    world.bus.focus(NAME)
    world.look()
    world.bus.answer()
    assert world.look()
    assert world.gate.verdict(EDITOR) is Verdict.ALLOW


def test_a_password_that_is_shown_is_one_still(world: World) -> None:
    world.tell(PASSWORD)
    world.bus.roles[PASSWORD] = ENTRY
    assert world.tell(PASSWORD)
    assert world.gate.verdict(EDITOR) is Verdict.DENY


def test_a_field_can_be_asked_once_more(world: World) -> None:
    world.tell(NAME)
    reread = world.gate.reread(NAME, still=False)
    assert world.gate.answer(reread) is None
    world.bus.answer()
    assert world.gate.answer(reread) is FieldKind.TEXT
    world.bus.roles[NAME] = MASKED
    reread = world.gate.reread(NAME, still=False)
    world.bus.answer()
    assert world.gate.answer(reread) is FieldKind.MASKED


def test_a_field_that_must_have_the_focus_still_is_other_without_it(world: World) -> None:
    world.tell(NAME)
    world.bus.focused = None
    still, not_still = (world.gate.reread(NAME, still=still) for still in (True, False))
    world.bus.answer()
    assert world.gate.answer(still) is FieldKind.OTHER
    assert world.gate.answer(not_still) is FieldKind.TEXT


def test_a_move_is_told_unless_it_is_to_the_same_field(world: World) -> None:
    other = Field(":1.5", "/other")
    seen = []
    for move in (
        Move(NAME, True),
        Move(NAME, True),
        Move(other, False),
        Move(other, True),
        Move(other, False),
        Move(NAME, True),
    ):
        world.bus.moves.append(move)
        world.look()
        seen.append(world.seen.moved)
    assert seen == [False, False, False, True, True, False]


def test_a_field_that_does_not_answer_is_other(world: World) -> None:
    reread = world.gate.reread(NAME, still=False)
    world.clock.pass_(5.1)
    assert world.gate.answer(reread) is FieldKind.OTHER


def test_after_closing_everything_is_unknown(world: World) -> None:
    world.tell(NAME)
    world.gate.close()
    assert world.bus.closed
    assert world.gate.verdict(EDITOR) is Verdict.UNKNOWN


def in_browser() -> Focus:
    return Focus("chromium", 8, BROWSER)


def test_a_browser_without_the_extension_is_denied(world: World) -> None:
    world.bus.focus(NAME)
    world.look()
    world.bus.answer(BROWSER)
    world.look()
    assert world.gate.verdict(in_browser()) is Verdict.DENY
    assert world.gate.verdict(in_browser(), chosen=True) is Verdict.DENY


def test_a_browsers_field_is_as_its_extension_says(world: World) -> None:
    assert not world.page()
    assert world.gate.verdict(in_browser()) is Verdict.ALLOW
    assert world.page(sensitive=True)
    assert world.gate.verdict(in_browser()) is Verdict.DENY
    assert world.page(private=True)
    assert world.gate.verdict(in_browser()) is Verdict.DENY


def test_an_extension_that_is_silent_is_unknown(world: World) -> None:
    world.page()
    world.clock.pass_(2.6)
    world.look()
    assert world.gate.verdict(in_browser()) is Verdict.UNKNOWN
    world.page()
    world.gate.suspect()
    assert world.gate.verdict(in_browser()) is Verdict.UNKNOWN
    world.page()
    assert world.gate.verdict(in_browser()) is Verdict.ALLOW


def test_a_page_must_speak_again_after_it_was_asked(world: World) -> None:
    world.page()
    reread = world.gate.reread(world.gate.place(in_browser()), still=True)
    assert world.gate.answer(reread) is None
    world.page()
    assert world.gate.answer(reread) is FieldKind.TEXT
    world.page(sensitive=True)
    assert world.gate.answer(reread) is FieldKind.MASKED
    world.pages.clear()
    world.look()
    assert world.gate.answer(reread) is FieldKind.OTHER


def test_a_password_told_by_the_bus_overrules_the_extension(world: World) -> None:
    world.page()
    world.bus.focus(PASSWORD)
    world.look()
    world.bus.answer(BROWSER)
    assert world.look()
    assert world.gate.verdict(in_browser()) is Verdict.DENY


def test_terminals_are_denied_unless_they_were_chosen_and_never_allowed(world: World) -> None:
    world.tell(NAME)
    terminal = Focus("xterm", 9, APP)
    assert world.gate.verdict(terminal) is Verdict.DENY
    assert world.gate.verdict(terminal, chosen=True) is Verdict.UNKNOWN


def test_guards_of_secrets_are_denied_even_if_chosen(world: World) -> None:
    world.tell(NAME)
    assert world.gate.verdict(Focus("keepassxc", 9, APP), chosen=True) is Verdict.DENY


@pytest.mark.parametrize(
    ("app", "kind"),
    [
        ("org.keepassxc.keepassxc", Kind.GUARD),
        ("bitwarden", Kind.GUARD),
        ("gcr-prompter", Kind.GUARD),
        ("polkit-gnome-authentication-agent-1", Kind.GUARD),
        ("xterm", Kind.SCREEN),
        ("gnome-terminal-server", Kind.SCREEN),
        ("org.remmina.remmina", Kind.SCREEN),
        ("google-chrome", Kind.BROWSER),
        ("firefox-esr", Kind.BROWSER),
        ("tor-browser", Kind.BROWSER),
        ("gedit", Kind.OTHER),
        ("libreoffice-writer", Kind.OTHER),
        ("", Kind.OTHER),
    ],
)
def test_the_table_knows_applications(app: str, kind: Kind) -> None:
    assert kind_of(app) is kind
