"""The capture process of trials: python -m trials.capture HOME [--without gate|hold|redaction]

As shipped, but that it takes a program's events for a person's. With one of its three guards taken
out it must leak: that is how a trial shows that it looks.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tacitly_client.capture.apart import redact_apart
from tacitly_client.capture.clock import SystemClock
from tacitly_client.capture.gate import (
    Accessibility,
    FieldKind,
    Gate,
    Reread,
    Verdict,
    told_by_browsers,
)
from tacitly_client.capture.gated import GatedContent
from tacitly_client.capture.hold import Hold
from tacitly_client.capture.main import run_capture
from tacitly_client.capture.source import Focus
from tacitly_client.choices import ChoicesFile
from tacitly_client.home import AgentHome
from tacitly_client.redaction import ContentLevel, Redacted, redact


class NoGate(Gate):
    """Whatever is typed may be content. What turns out later is still acted upon."""

    def verdict(self, focus: Focus | None, *, chosen: bool = False) -> Verdict:
        return Verdict.ALLOW

    def answer(self, reread: Reread) -> FieldKind | None:
        return FieldKind.TEXT


class NoHold(Hold):
    """Nothing waits: what turns out later is too late."""

    def __init__(self) -> None:
        super().__init__()
        self.nanoseconds = 0


class NoRereads(Gate):
    """As the hold-back is off, no field is asked once more either."""

    def answer(self, reread: Reread) -> FieldKind | None:
        return FieldKind.TEXT


def no_redaction(
    keys: Sequence[str], level: ContentLevel, *, begins: bool = True, ends: bool = True
) -> Redacted:
    """All is kept."""
    return Redacted(tuple(keys), redact((), level).rules)


def main(home: AgentHome, without: str) -> None:
    clock = SystemClock()
    gate = {"gate": NoGate, "hold": NoRereads}.get(without, Gate)
    content = GatedContent(
        choices=ChoicesFile(home.choices),
        gate=gate(Accessibility(clock), partial(told_by_browsers, home.browsers), clock),
        hold=NoHold() if without == "hold" else Hold(),
        clock=clock,
        tell=lambda _counts: None,
        judge=no_redaction if without == "redaction" else redact_apart,
    )
    run_capture(home, keep_injected=True, content=content if without else None)


if __name__ == "__main__":
    main(AgentHome(Path(sys.argv[1])), sys.argv[3] if len(sys.argv) > 2 else "")
