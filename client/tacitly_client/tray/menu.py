"""The menu of the indicator: what a person can do about it with one more click."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import xcffib.xproto

from tacitly_client.tray import picture
from tacitly_client.tray.screen import Rectangle, Screen, Window


@dataclass(frozen=True, slots=True)
class Entry:
    """A line that can be clicked."""

    text: str
    action: Callable[[], None]


class Menu:
    """An open menu, which takes all clicks until it is closed: by one of them, wherever it goes."""

    def __init__(
        self, screen: Screen, title: str, entries: tuple[Entry, ...], at: Rectangle
    ) -> None:
        """Open it beside `at`, whole on the screen. Check `open`: another may have the pointer."""
        self._screen = screen
        self._title = title
        self._entries = entries
        self._hovered: int | None = None
        self._row = picture.row_height(screen.scale)
        drawn = self._drawn()
        self._size = drawn.size
        self._window: Window = screen.window(drawn.size, above_all=True)
        screen.set_class(self._window, "tacitly")
        screen.paint(self._window, drawn)
        screen.move(self._window, *self._corner(at))
        screen.show(self._window)
        self.open = screen.grab_pointer(self._window)
        if not self.open:
            screen.destroy(self._window)

    def takes(self, event: Any) -> bool:
        """Whether an event was for the menu; it has acted on it then, and may be closed."""
        if getattr(event, "event", None) != self._window.id:
            return False
        match event:
            case xcffib.xproto.MotionNotifyEvent():
                self._hover(self._entry_at(event.event_x, event.event_y))
            case xcffib.xproto.LeaveNotifyEvent():
                self._hover(None)
            case xcffib.xproto.ButtonPressEvent():
                chosen = self._entry_at(event.event_x, event.event_y)
                self.close()
                if chosen is not None:
                    self._entries[chosen].action()
        return True

    def close(self) -> None:
        """Close it without a choice."""
        if self.open:
            self.open = False
            self._screen.ungrab_pointer()
            self._screen.destroy(self._window)

    def _hover(self, entry: int | None) -> None:
        if entry != self._hovered:
            self._hovered = entry
            self._screen.paint(self._window, self._drawn())

    def _drawn(self) -> Any:
        texts = tuple(entry.text for entry in self._entries)
        return picture.menu(self._title, texts, self._hovered, self._screen.scale)

    def _entry_at(self, x: int, y: int) -> int | None:
        row = y // self._row - 1
        inside = 0 <= x < self._size[0] and 0 <= row < len(self._entries)
        return row if inside else None

    def _corner(self, at: Rectangle) -> tuple[int, int]:
        monitors = self._screen.monitors()
        on = next((each for each in monitors if each.contains(at)), monitors[0])
        width, height = self._size
        x = min(max(at.x + at.width - width, on.x), on.x + on.width - width)
        above = at.y - height
        return x, above if above >= on.y else at.y + at.height
