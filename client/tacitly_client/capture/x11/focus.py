"""Which window has the focus at each event of the stream, and whether the keyboard is grabbed.

Input is read up to a tick after it happened, so asking then "who has the focus?" may name the next
window. The server tells a window's loss of the focus in order with the input: a focus stands until
its window's FOCUS_OUT, and from there on nothing is known until this is settled:

    1. ask who has the focus, and be told when it leaves that window
    2. ask again; another answer: not settled, the next tick tries again
    3. let the server send a time mark: from the mark on, events belong to that window

Events between the loss and the mark have focus None. A focus that comes back to its window, as
window managers let it do at each click, is told by its FOCUS_IN and known at once. A grab (lockers,
password prompts, menus) comes as FOCUS_OUT and FOCUS_IN with a mode of its own. What was not told,
because nobody had the focus or it had just changed, is found by asking whenever keys were read.
"""

import struct
from typing import Final

from tacitly_client.capture.source import Focus
from tacitly_client.capture.x11.display import Display

_GRAB, _UNGRAB = 1, 2
_TO_ITSELF: Final = (0, 2, 3)  # from an ancestor, an inferior, elsewhere; not to another window
_focus_event = struct.Struct("=xB2xIB").unpack_from  # detail, window, mode
_NOBODY: Final = Focus()


class FocusTracker:
    """The focus as of the event that was read last."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._watched = 0  # the window whose focus events we get
        self._described = _NOBODY  # what that window is
        self._next: Focus | None = None  # settled once the mark is read
        self._marks = 0  # under way; the last one counts
        self.focus: Focus | None = None
        self.grabbed = self._untold = display.keyboard_grabbed()
        self._outlived = False  # a told grab that was found to be over

    def on_focus_out(self, head: bytes) -> None:
        """The focus leaves a window, or a grab takes the keyboard from it."""
        _, _, mode = _focus_event(head)
        if mode == _GRAB:
            self.grabbed = True
        elif mode != _UNGRAB:
            self._lose()

    def on_focus_in(self, head: bytes) -> None:
        """The focus comes to a window, or a grab ends."""
        detail, window, mode = _focus_event(head)
        if mode == _UNGRAB:
            self.grabbed = False
        elif mode != _GRAB:
            if window != self._watched:
                self._lose()
            elif detail in _TO_ITSELF and self._described.window == window:
                self.focus, self._next = self._described, None

    def on_mark(self) -> Focus | None:
        """The mark of step 3; the focus from here on, None if it was lost or known since."""
        self._marks = max(self._marks - 1, 0)
        if self._marks or self._next is None:
            return None
        self.focus, self._next = self._next, None
        return self.focus

    def untold_grab(self) -> bool:
        """Whether somebody may have had the keyboard, unknown to `grabbed`, since last asked.

        `grabbed` itself is corrected only if the end of a grab still is not told the second time:
        the event may be under way.
        """
        true = self._display.keyboard_grabbed()
        suspect = self._untold
        self._untold = true and not self.grabbed
        over = self.grabbed and not true
        if over and self._outlived:
            self.grabbed = over = False
        self._outlived = over
        return suspect or self._untold

    def settle(self) -> None:
        """Steps 1 to 3, if the focus is not known."""
        if self.focus is not None or self._next is not None:
            return
        window = self._display.focused_window()
        if window != self._watched:
            self._watch(window)
        focus = self._display.describe(window) if window else _NOBODY
        if self._display.focused_window() == window:
            self._next = self._described = focus
            self._marks += 1
            self._display.mark()

    def _lose(self) -> None:
        self.focus = self._next = None

    def _watch(self, window: int) -> None:
        for each, watch in ((self._watched, False), (window, True)):
            # The root is watched from the start: it tells when nobody's focus becomes somebody's.
            if each not in (0, self._display.root):
                self._display.watch_focus(each) if watch else self._display.watch(each, 0)
        self._watched = window
