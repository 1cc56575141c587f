"""May what is typed now be content? The verdict on the focused field.

    ALLOW    a text field that is known, and known to be no secret
    DENY     a secret field; an application that is denied; a private window; no window, or none
             that is known: nobody could have excluded it
    UNKNOWN  everything else: no content

After anything that may move the focus - Tab, Enter, Escape, a shortcut, a click, another window -
the field is unknown again, until the focus is told to have come to a field, or the same field
answers a second later that it still has it. An application may be slow to tell, and a script may
move the focus without any key: what is allowed here still waits in `hold.py` for a contradiction,
and its field is asked once more before it is kept.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from tacitly_client.capture.clock import Clock
from tacitly_client.capture.gate.accessibility import Accessibility, Field, FieldKind, Question
from tacitly_client.capture.gate.applications import Kind, kind_of
from tacitly_client.capture.gate.browsers import PageField
from tacitly_client.capture.source import Focus

_SETTLE_NS: Final = 10**9
_ANSWER_NS: Final = 5 * 10**9
_FRESH_NS: Final = 2_500 * 10**6  # an extension tells each second
_SECRETS_KEPT: Final = 4_096


class Verdict(StrEnum):
    """Whether what is typed now may be content."""

    ALLOW = "allow"
    DENY = "deny"
    UNKNOWN = "unknown"


class Seen(NamedTuple):
    """What turned out since the last look. Both may have been so for a while."""

    secret: bool = False  # a secret field had the focus
    moved: bool = False  # the focus left the field that was known


class Page(int):
    """The focused field of a browser: the browser's process."""


Place = Field | Page


class Reread:
    """A field that is asked once more; `Gate.answer` has the answer. `still`: whether it must
    have the focus still."""

    __slots__ = ("asked_ns", "place", "question", "still")

    def __init__(
        self, place: Place, asked_ns: int, question: Question | None, *, still: bool
    ) -> None:
        self.place = place
        self.asked_ns = asked_ns
        self.question = question
        self.still = still


class _Focused:
    """The field that was told to have the focus, and what is known of it by now.

    `epoch`: the gate's when it was last asked; confirmed while that is the gate's still.
    """

    __slots__ = ("asked_ns", "epoch", "field", "question")

    def __init__(self, question: Question, epoch: int, asked_ns: int) -> None:
        self.field = question.field
        self.question = question
        self.epoch = epoch
        self.asked_ns = asked_ns


class Gate:
    """The verdict, and all that it depends on."""

    def __init__(
        self,
        accessibility: Accessibility,
        browsers: Callable[[], Mapping[int, PageField]],
        clock: Clock,
    ) -> None:
        """Everything is unknown yet.

        Args:
            accessibility: tells of fields.
            browsers: what their extensions told last, by process.
            clock: this machine's.
        """
        self._accessibility = accessibility
        self._browsers = browsers
        self._clock = clock
        self._secrets: OrderedDict[Field, None] = OrderedDict()
        self._epoch = 0
        self._focused: _Focused | None = None
        self._moves: list[Question] = []
        self._pages: Mapping[int, PageField] = {}
        self._suspect_ns = clock.monotonic_ns()

    def verdict(self, focus: Focus | None, *, chosen: bool = False) -> Verdict:
        """On what is typed with this focus (None: not known).

        `chosen`: the person named this application, which would be denied else for the prompts
        of other programs that it shows.
        """
        if focus is None or not focus.window:
            return Verdict.DENY
        kind = kind_of(focus.app)
        if kind is Kind.GUARD or self._in_secret(focus.pid):
            return Verdict.DENY
        if kind is Kind.BROWSER:
            return self._verdict_on(self._pages.get(focus.pid or 0))
        if kind is Kind.SCREEN:
            return Verdict.UNKNOWN if chosen else Verdict.DENY
        return Verdict.ALLOW if self._is_known_text(focus.pid) else Verdict.UNKNOWN

    def place(self, focus: Focus) -> Place:
        """The field that `verdict` allowed with this focus."""
        if self._focused is None or kind_of(focus.app) is Kind.BROWSER:
            return Page(focus.pid or 0)
        return self._focused.field

    def suspect(self) -> None:
        """Something happened that may have moved the focus."""
        self._epoch += 1
        self._suspect_ns = self._clock.monotonic_ns()

    def look(self) -> Seen:
        """Take what was told since."""
        moved = False
        for field, gained in self._accessibility.poll():
            known = None if self._focused is None else self._focused.field
            moved |= known is not None and (field != known if gained else field == known)
            if gained:
                self._focused = self._ask_focused(field)
                self._moves.append(self._focused.question)
            elif field == known:
                self._focused = None
        in_secret = self._read_answers()
        self._confirm()
        return Seen(secret=self._look_at_pages() or in_secret, moved=moved)

    def reread(self, place: Place, *, still: bool) -> Reread:
        """Ask a field once more, for `answer`; `still`: it counts only if it has the focus."""
        question = self._ask(place) if isinstance(place, Field) else None
        return Reread(place, self._clock.monotonic_ns(), question, still=still)

    def answer(self, reread: Reread) -> FieldKind | None:
        """What the field was at some time after the question; None: not known yet."""
        place = reread.place
        if isinstance(place, Field):
            question = reread.question or Question(place)
            kind = question.kind
            if place in self._secrets:
                kind = FieldKind.MASKED
            elif kind is FieldKind.TEXT and reread.still and not question.focused:
                kind = FieldKind.OTHER
        elif (page := self._pages.get(place)) is None:
            kind = FieldKind.OTHER
        elif page.told_ns <= reread.asked_ns:
            kind = None
        else:
            kind = FieldKind.MASKED if page.sensitive or page.private else FieldKind.TEXT
        if kind is None and self._clock.monotonic_ns() - reread.asked_ns > _ANSWER_NS:
            return FieldKind.OTHER
        return kind

    def close(self) -> None:
        """Stop listening and know nothing; `look` listens again."""
        self._accessibility.close()
        self._focused = None
        self._moves.clear()
        self.suspect()

    def _in_secret(self, pid: int | None) -> bool:
        """Whether the last field that was told is a secret, as far as that process goes."""
        if self._focused is None or self._focused.field not in self._secrets:
            return False
        return pid is None or pid == self._focused.question.pid

    def _is_known_text(self, pid: int | None) -> bool:
        focused = self._focused
        return (
            focused is not None
            and focused.epoch == self._epoch
            and focused.question.kind is FieldKind.TEXT
            and focused.question.focused
            and focused.question.pid == pid
            and focused.field not in self._secrets
        )

    def _verdict_on(self, page: PageField | None) -> Verdict:
        if page is None or page.sensitive or page.private:
            return Verdict.DENY
        fresh = self._clock.monotonic_ns() - page.told_ns <= _FRESH_NS
        return Verdict.ALLOW if fresh and page.told_ns > self._suspect_ns else Verdict.UNKNOWN

    def _ask(self, field: Field) -> Question:
        question = Question(field)
        self._accessibility.ask(question)
        return question

    def _ask_focused(self, field: Field) -> _Focused:
        return _Focused(self._ask(field), self._epoch, self._clock.monotonic_ns())

    def _read_answers(self) -> bool:
        """Whether a field that the focus came to is a secret one."""
        answered = [question for question in self._moves if question.kind is not None]
        self._moves = [question for question in self._moves if question.kind is None]
        secret = [q.field for q in answered if q.kind is FieldKind.MASKED]
        # A password that is shown is one still, whatever its field now says that it is.
        secret += [q.field for q in answered if q.field in self._secrets]
        for field in secret:
            self._secrets[field] = None
        while len(self._secrets) > _SECRETS_KEPT:
            self._secrets.popitem(last=False)
        return bool(secret)

    def _confirm(self) -> None:
        """Ask the focused field again, a second after what may have moved the focus from it."""
        focused, now_ns = self._focused, self._clock.monotonic_ns()
        if (
            focused is not None
            and focused.epoch != self._epoch
            and now_ns - self._suspect_ns >= _SETTLE_NS
            and (focused.question.kind is not None or now_ns - focused.asked_ns > _ANSWER_NS)
        ):
            self._focused = self._ask_focused(focused.field)
            self._moves.append(self._focused.question)

    def _look_at_pages(self) -> bool:
        """Whether an extension told of a secret since the last look."""
        before, self._pages = self._pages, self._browsers()
        return any(
            (page.sensitive or page.private) and page != before.get(browser)
            for browser, page in self._pages.items()
        )
