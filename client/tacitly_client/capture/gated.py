"""The content filter of the capture process: the person's choices, the gate, the hold-back and
redaction, in this order.

1. An excluded application's events end here; so do the keys of a field that is denied.
2. Everything else is reduced to its class (`NoContent`), and waits for its turn in the hold-back.
   A character typed where the gate does not say ALLOW is a `<letter>`, whatever it was: of a
   password that nobody recognised its length is all that is left.
3. Where it says ALLOW and the person chose content for the application, characters go with their
   class into the hold-back, as runs.
4. Look what applications and browsers told since. A secret field that turned out to have had the
   focus takes the keys of the last seconds with it. If the focus left a known field, it may have
   done so before the last keys: they are those of an unknown field.
5. A run ends with anything but a character or Backspace, or a pause. Later than the hold-back
   after its last key its field is asked once more, and if that answers that it is a text field
   (and has the focus still, if nothing was done that may have moved it), redaction judges the
   run. Else its classes are all that is stored.

What was not stored is counted by rule, for the person to see.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from tacitly_client.capture.apart import redact_apart
from tacitly_client.capture.clock import Clock
from tacitly_client.capture.content import NoContent
from tacitly_client.capture.gate import FieldKind, Gate, Place, Verdict
from tacitly_client.capture.hold import Hold, Run
from tacitly_client.capture.normaliser import Observation
from tacitly_client.choices import Choices
from tacitly_client.redaction import BACKSPACE, DELETED, ContentLevel, Redacted
from tacitly_common.events import Event, EventKind

_RUN_CHARACTERS: Final = 512
_HELD_BACKSPACE_NS: Final = 300 * 10**6  # from here on it repeats, which no raw event tells
_TELL_NS: Final = 5 * 10**9
_MOVING: Final = (EventKind.FOCUS, EventKind.BUTTON_DOWN, EventKind.BUTTON_UP)
# With no modifier but Shift these leave the focus where it is, as characters do.
_STAYING: Final = frozenset(
    ["Backspace", "Delete", "ArrowLeft", "ArrowRight", "Home", "End", "Dead", "Compose"]
)
_VEILED: Final = ("<digit>", "<symbol>")


class Reason(StrEnum):
    """Why a key was not stored, or without its character; `redaction.Rule` has more reasons."""

    EXCLUDED = "excluded application"
    DENIED = "secret field or denied application"
    COUNTED = "level counts"
    TURNED_OUT = "secret field turned out to have the focus"
    MOVED = "focus turned out to have moved"
    NOT_CONFIRMED = "field did not answer"
    NOT_JUDGED = "could not be judged"


class GatedContent:
    """A `ContentFilter`."""

    def __init__(
        self,
        *,
        choices: Callable[[], Choices],
        gate: Gate,
        hold: Hold,
        clock: Clock,
        tell: Callable[[Mapping[str, int]], None],
        judge: Callable[..., Redacted | None] = redact_apart,
    ) -> None:
        """Nothing is held yet.

        Args:
            choices: the person's, as they are now.
            gate, hold, judge: what characters pass, in this order. A run that cannot be judged
                (None) keeps none.
            clock: this machine's.
            tell: given what was not kept since the last time, by rule, each few seconds.
        """
        self._choices = choices
        self._gate = gate
        self._hold = hold
        self._clock = clock
        self._tell = tell
        self._judge = judge
        self._classes = NoContent()
        self._unkept: Counter[str] = Counter()
        self._told_ns = clock.monotonic_ns()
        self._runs: list[Run] = []  # not settled yet; the last may be open
        self._in_word = False  # the last character typed is not in the run to come
        self._backspace_ns = 0

    def accept(self, observations: Sequence[Observation]) -> list[Event]:
        now_ns = self._clock.monotonic_ns()
        if observations:
            choices = self._choices()
            for observation in observations:
                self._take(observation, choices, now_ns)
        self._look(now_ns)
        self._settle(now_ns)
        if now_ns - self._told_ns >= _TELL_NS:
            self._tell_unkept(now_ns)
        return self._hold.release(now_ns)

    def discard(self) -> None:
        self._hold.clear()
        self._runs.clear()
        self._gate.close()
        self._classes.discard()
        self._in_word = False
        self._tell_unkept(self._clock.monotonic_ns())

    def _take(self, observation: Observation, choices: Choices, now_ns: int) -> None:
        """Steps 1 to 3."""
        event = observation.event
        if event.kind is EventKind.KEY_DOWN:
            self._take_key(observation, choices, now_ns)
        elif event.kind is EventKind.KEY_UP:
            self._take_release(event, now_ns)
        else:
            if event.kind in _MOVING:
                self._end_run(complete=False)
                self._suspect()
            left_out = event.app in choices.excluded
            if not left_out and choices.level(event.app) is not ContentLevel.COUNTS:
                for reduced in self._classes.accept((observation,)):
                    self._hold.add(reduced, now_ns, is_key=False)

    def _look(self, now_ns: int) -> None:
        """Step 4."""
        seen = self._gate.look()
        since_ns = now_ns - self._hold.nanoseconds
        if seen.secret:
            self._count(Reason.TURNED_OUT, self._hold.drop_since(since_ns))
        if seen.moved:
            for run in self._runs:
                self._count(Reason.MOVED, self._hold.forget_since(run, since_ns, _veiled))

    def _take_key(self, observation: Observation, choices: Choices, now_ns: int) -> None:
        event, focus = observation.event, observation.focus
        classes = self._classes.accept((observation,))
        if not classes:
            return  # a modifier, or a repeat
        level = choices.level(event.app)
        verdict = self._gate.verdict(focus, chosen=event.app in choices.applications)
        character = _character(event) if level.keeps_content else None
        if event.app in choices.excluded:
            self._count(Reason.EXCLUDED)
        elif verdict is Verdict.DENY:
            self._count(Reason.DENIED)
        elif level is ContentLevel.COUNTS:
            self._count(Reason.COUNTED)
        elif verdict is Verdict.UNKNOWN:
            self._hold.add(_veiled(classes[0]), now_ns, is_key=True)
        elif character is not None and focus is not None:
            run = self._run_in(self._gate.place(focus), level)
            self._hold.add_character(run, character, classes[0], now_ns)
            self._in_word = character != " "
            if character == BACKSPACE:
                self._backspace_ns = event.monotonic_ns
            return
        else:
            self._hold.add(classes[0], now_ns, is_key=True)
        self._end_run(complete=_completes(event))
        if not _stays(event):
            self._suspect()

    def _run_in(self, place: Place, level: ContentLevel) -> Run:
        """The run that a character in this field belongs to."""
        run = self._open_run()
        if run is None or run.place != place or run.level is not level:
            if run is not None:
                run.end(complete=False)
            run = Run(place, level, begins=not self._in_word)
            self._runs.append(run)
        return run

    def _take_release(self, event: Event, now_ns: int) -> None:
        run = self._open_run()
        if event.key != "Backspace" or run is None:
            return
        if event.monotonic_ns - self._backspace_ns >= _HELD_BACKSPACE_NS:
            self._hold.add_character(run, DELETED, None, now_ns)

    def _open_run(self) -> Run | None:
        return self._runs[-1] if self._runs and not self._runs[-1].ended else None

    def _end_run(self, *, complete: bool) -> None:
        """`complete`: with a word's end, and the next key begins a word."""
        if (run := self._open_run()) is not None:
            run.end(complete=complete)
        self._in_word = not complete

    def _suspect(self) -> None:
        self._gate.suspect()
        for run in self._runs:
            run.left = True

    def _settle(self, now_ns: int) -> None:
        """Step 5."""
        self._runs = [run for run in self._runs if run.held]
        for run in self._runs:
            due = self._hold.is_due(run, now_ns)
            if not run.ended and (due or len(run.held) >= _RUN_CHARACTERS):
                run.end(complete=False)
            if due and run.reread is None:
                run.reread = self._gate.reread(run.place, still=not run.left)
            kind = self._gate.answer(run.reread) if run.reread is not None else None
            if kind is not None:
                self._decide(run, kind)

    def _decide(self, run: Run, kind: FieldKind) -> None:
        if kind is FieldKind.MASKED:
            self._count(Reason.TURNED_OUT, self._hold.drop_run(run))
        elif kind is FieldKind.TEXT:
            text = self._hold.text(run)
            redacted = self._judge(text, run.level, begins=run.begins, ends=run.ends)
            if redacted is None:
                self._count(Reason.NOT_JUDGED, len(run.held))
            else:
                self._unkept.update({rule.value: count for rule, count in redacted.rules.items()})
            self._hold.settle(run, redacted)
        else:
            self._count(Reason.NOT_CONFIRMED, len(run.held))
            self._hold.settle(run, None)

    def _count(self, rule: Reason, count: int = 1) -> None:
        if count:
            self._unkept[rule.value] += count

    def _tell_unkept(self, now_ns: int) -> None:
        self._told_ns = now_ns
        unkept, self._unkept = self._unkept, Counter()
        self._tell(unkept)


def _character(event: Event) -> str | None:
    """The character that a key adds to a run, `BACKSPACE` for one that takes one away."""
    if event.modifiers:
        return None
    if event.key == "Backspace":
        return BACKSPACE
    return event.key if len(event.key) == 1 and event.key.isprintable() else None


def _completes(event: Event) -> bool:
    """Whether a key ends a word for good."""
    return event.key in (" ", "Enter", "Tab") and not event.modifiers


def _stays(event: Event) -> bool:
    """Whether a key surely leaves the focus where it is."""
    plain = not set(event.modifiers) - {"Shift"}
    return plain and (len(event.key) == 1 or event.key in _STAYING)


def _veiled(event: Event) -> Event:
    """A character's class without what would tell of a password's composition."""
    return msgspec.structs.replace(event, key="<letter>") if event.key in _VEILED else event
