"""Puts the capture process together and runs it until SIGTERM or SIGINT."""

import os
import threading
from contextlib import ExitStack
from functools import partial

from tacitly_client.capture.clock import Clock, SystemClock
from tacitly_client.capture.content import ContentFilter, NoContent
from tacitly_client.capture.desktop import source_for
from tacitly_client.capture.normaliser import Normaliser
from tacitly_client.capture.permit import Permit, PermitFile
from tacitly_client.capture.process import Capture, Writer
from tacitly_client.capture.session import LoginSession
from tacitly_client.capture.source import Source
from tacitly_client.capture.state import write_state
from tacitly_client.home import AgentHome
from tacitly_client.processes import (
    forbid_dumps,
    log_to_stderr,
    only_process,
    stop_on_signals,
)
from tacitly_client.store import EventStore


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
        content: what may be stored; no content if None.
        keep_injected: take programs' events for a person's. There is no setting for it: a
            display without a keyboard (tests, demonstrations) needs it, nobody else.
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
        store = stack.enter_context(EventStore.open_to_append(home.store))
        session = LoginSession.find()
        if session is not None:
            stack.callback(session.close)
        Capture(
            permit=permit or PermitFile(home.capture_permit, clock),
            away=session.away if session is not None else _never,
            source=partial(_source, clock),
            normaliser=Normaliser(clock, keep_injected=keep_injected),
            content=content or NoContent(),
            writer=Writer(store, clock),
            clock=clock,
            show=partial(write_state, home),
        ).run(stop)


def _source(clock: Clock, motion: bool) -> Source:
    return source_for(os.environ, clock, motion=motion)


def _never() -> bool:
    return False
