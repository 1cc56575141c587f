"""Puts the capture process together and runs it until SIGTERM or SIGINT."""

import os
import threading
from contextlib import ExitStack
from functools import partial
from typing import Final

from tacitly_client.capture.clock import Clock, SystemClock
from tacitly_client.capture.content import ContentFilter
from tacitly_client.capture.desktop import source_for
from tacitly_client.capture.gate import Accessibility, Gate, told_by_browsers
from tacitly_client.capture.gated import GatedContent
from tacitly_client.capture.hold import Hold
from tacitly_client.capture.normaliser import Normaliser
from tacitly_client.capture.permit import Permit, PermitFile
from tacitly_client.capture.process import Capture, Writer
from tacitly_client.capture.session import LoginSession
from tacitly_client.capture.source import Source, UnsupportedError
from tacitly_client.capture.unkept import Unkept
from tacitly_client.choices import ChoicesFile
from tacitly_client.home import AgentHome
from tacitly_client.live_file import LiveFile
from tacitly_client.processes import (
    forbid_dumps,
    log_to_stderr,
    only_process,
    stop_on_signals,
)
from tacitly_client.store import EventStore

_NOBODYS_KEYBOARDS: Final = ("XTEST keyboard", "Xvfb keyboard", "Xvfb virtual keyboard")


def run_capture(
    home: AgentHome,
    *,
    permit: Permit | None = None,
    content: ContentFilter | None = None,
    keep_injected: bool = False,
    stop: threading.Event | None = None,
) -> None:
    """Capture until stopped.

    Args:
        home: an initialised agent's directory.
        permit: what is permitted; the home's permit file if None.
        content: what may be stored; what the gate, the hold-back and redaction leave of what the
            person chose if None.
        keep_injected: take programs' events for a person's, as tests and demonstrations must on
            a display that has no keyboard. No setting, file or variable turns it on, and on a
            display that has a keyboard it is refused: there nothing is captured then.
        stop: set it to end; if None, SIGTERM and SIGINT do.

    Raises:
        StoreError: no store there.
        ValidationError: another capture process runs for this home.
    """
    forbid_dumps()
    log_to_stderr()
    if stop is None:
        stop = threading.Event()
        stop_on_signals(stop)
    clock = SystemClock()
    with ExitStack() as stack:
        stack.enter_context(only_process(home.capture_lock, "capture process"))
        state = LiveFile(home.capture_state)
        stack.callback(state.close)
        store = stack.enter_context(EventStore.open_to_append(home.store))
        session = LoginSession.find()
        if session is not None:
            stack.callback(session.close)
        normaliser = Normaliser(clock, keep_injected=keep_injected)
        Capture(
            permit=permit or PermitFile(home.capture_permit, clock),
            away=session.away if session is not None else _never,
            source=partial(_source, clock, keep_injected),
            normaliser=normaliser,
            content=content or gated_content(home, normaliser, clock),
            writer=Writer(store, clock),
            clock=clock,
            show=state.show,
        ).run(stop)


def gated_content(home: AgentHome, normaliser: Normaliser, clock: Clock) -> GatedContent:
    """The filter of a home: its choices and browsers, this session's accessibility bus."""
    return GatedContent(
        choices=ChoicesFile(home.choices),
        gate=Gate(Accessibility(clock), partial(told_by_browsers, home.browsers), clock),
        hold=Hold(),
        clock=clock,
        tell=Unkept(home.store, normaliser, clock),
    )


def _source(clock: Clock, keep_injected: bool, motion: bool) -> Source:
    if keep_injected:
        _check_nobody_types(os.environ.get("DISPLAY", ""))
    return source_for(os.environ, clock, motion=motion)


def _check_nobody_types(name: str) -> None:
    from tacitly_client.capture.x11.display import Display

    display = Display(name)
    try:
        real = {each for each in display.keyboards() if not each.endswith(_NOBODYS_KEYBOARDS)}
    finally:
        display.close()
    if real:
        raise UnsupportedError(
            f"programs' events are taken for a person's only where there is no keyboard, and this "
            f"display has {len(real)}; start capture without keep_injected"
        )


def _never() -> bool:
    return False
