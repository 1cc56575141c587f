"""The tray's loop, five times a second:

1. Look at consent, pause and what capture does.
2. Show it.
3. Permit capture if consent stands and the indicator is seen; else take the permission back.

Clicks are acted on at once, and the next turn follows at once. A permission's `since_ns` is the
time from which it stands without a break: a withdrawal or a pause that came and went between two
turns is a break too, as is a moment in which the indicator was not seen.
"""

import os
import select
import threading
from contextlib import ExitStack
from datetime import UTC, datetime

from tacitly_client.capture.clock import Clock, SystemClock
from tacitly_client.capture.permit import BEAT_SECONDS, Permission, PermitFile
from tacitly_client.consent import withdraw
from tacitly_client.home import AgentHome
from tacitly_client.local_socket import private_directory
from tacitly_client.notice import desktop_language, words
from tacitly_client.now import local_time
from tacitly_client.pause import pause, resume
from tacitly_client.processes import only_process, stop_on_signals
from tacitly_client.redaction import ContentLevel
from tacitly_client.tray.indicator import Indicator
from tacitly_client.tray.menu import Entry, Menu
from tacitly_client.tray.screen import LOST, Rectangle, Screen, ScreenError
from tacitly_client.tray.shown import Look, Showing, View
from tacitly_client.tray.windows import Windows

_HOUR_SECONDS = 3_600.0


def run_tray(
    home: AgentHome,
    *,
    stop: threading.Event | None = None,
    ask: bool = True,
) -> None:
    """Show and permit until stopped.

    Args:
        home: an enrolled agent's directory.
        stop: set it to end; if None, SIGTERM and SIGINT do.
        ask: whether somebody who was not asked yet is asked for consent.

    Raises:
        ScreenError: there is no X server, or it has gone.
        ValidationError: another tray runs for this home.
    """
    private_directory(home.run)
    if stop is None:
        stop = threading.Event()
        stop_on_signals(stop)
    with ExitStack() as stack:
        stack.enter_context(only_process(home.tray_lock, "tray"))
        screen = Screen(os.environ.get("DISPLAY", ""))
        stack.callback(screen.close)
        try:
            tray = Tray(home, screen, SystemClock())
            stack.callback(tray.close)
            tray.run(stop, ask=ask)
        except LOST:
            raise ScreenError("the X server is gone, and with it the indicator") from None


class Tray:
    """The loop of the module's text, over its parts."""

    def __init__(self, home: AgentHome, screen: Screen, clock: Clock) -> None:
        self._home = home
        self._screen = screen
        self._clock = clock
        self._language = desktop_language(os.environ)
        self._words = words(self._language).tray
        self._look = Look(home, clock)
        self._indicator = Indicator(screen)
        self._windows = Windows(home, self._language)
        self._permit = PermitFile(home.capture_permit, clock)
        self._stands: tuple[object, ...] | None = None
        self._since_ns = 0
        self._menu: Menu | None = None
        self._view: View | None = None

    def run(self, stop: threading.Event, *, ask: bool) -> None:
        """Until stopped."""
        if ask:
            self._windows.ask_once()
        due = 0.0
        while not stop.is_set():
            now = self._clock.monotonic_ns() / 1e9
            if now >= due:
                self._beat()
                due = now + BEAT_SECONDS
            for event in self._screen.events():
                if self._acts_on(event):
                    due = 0.0
            wait = max(0.0, due - self._clock.monotonic_ns() / 1e9)
            if wait:
                select.select([self._screen.fileno()], [], [], wait)

    def close(self) -> None:
        """Permit nothing any more."""
        self._permit.withdraw()
        self._windows.close()

    def _beat(self) -> None:
        """Steps 1 to 3."""
        self._windows.look()
        view = self._view = self._look()
        self._indicator.show(view.showing, self._in_words(view))
        receipt = view.consent.receipt
        if receipt is None or not self._indicator.seen():
            self._stands = None
            self._permit.withdraw()
            return
        stands = (receipt.hash, view.pause.paused, view.pause.since_ns)
        if stands != self._stands:
            self._stands = stands
            self._since_ns = self._clock.monotonic_ns()
        motion = receipt.level is not ContentLevel.COUNTS
        self._permit.beat(Permission(not view.pause.paused, self._since_ns, motion))

    def _in_words(self, view: View) -> str:
        if view.showing is Showing.CAPTURING and view.trains:
            return self._words.capturing_and_training
        if view.showing is Showing.PAUSED and view.pause.until_ns is not None:
            return self._words.paused_until.format(time=local_time(view.pause.until_ns))
        return str(getattr(self._words, view.showing))

    def _acts_on(self, event: object) -> bool:
        """Whether something may have changed by it."""
        if self._menu is not None and self._menu.open:
            return self._menu.takes(event)
        at = self._indicator.clicked(event)
        if at is not None and self._view is not None:
            self._menu = self._opened(self._view, at)
        return False

    def _opened(self, view: View, at: Rectangle) -> Menu:
        say = self._words
        if view.consent.receipt is None:
            entries = [Entry(say.ask, self._windows.ask)]
        elif view.pause.paused:
            entries = [Entry(say.resume, self._resume), Entry(say.withdraw, self._withdraw)]
        else:
            entries = [
                Entry(say.pause_hour, lambda: self._pause(_HOUR_SECONDS)),
                Entry(say.pause, lambda: self._pause(None)),
                Entry(say.withdraw, self._withdraw),
            ]
        show = Entry(say.show, self._windows.show_stored)
        why = say.reasons.get(view.why, view.why)
        title = self._in_words(view) + (f": {why}" if why else "")
        return Menu(self._screen, title, (show, *entries), at)

    def _pause(self, seconds: float | None) -> None:
        pause(self._home, self._clock, seconds)

    def _resume(self) -> None:
        resume(self._home, self._clock)

    def _withdraw(self) -> None:
        self._permit.withdraw()
        withdraw(self._home, now=datetime.now(UTC))
