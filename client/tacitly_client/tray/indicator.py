"""The indicator: an icon where a tray takes it, else a small window above all others.

"Seen" means that the X server has the icon or the window mapped, whole on a monitor and not behind
another window. An icon that its tray hides is not seen: the window comes then. A window that was
covered is raised, and counts again once it is on top.
"""

from typing import Any, Final

import xcffib.xproto
from PIL import Image

from tacitly_client.tray import picture
from tacitly_client.tray.screen import Rectangle, Screen, Window
from tacitly_client.tray.shown import Showing

# System Tray Protocol Specification 0.3 and XEmbed Protocol Specification 0.5 (freedesktop.org).
_TRAY: Final = "_NET_SYSTEM_TRAY_S"
_REQUEST_DOCK: Final = 0
_XEMBED_MAPPED: Final = 1
_ICON_SIDE: Final = 22
_LEAST_SIDE: Final = 8
_MARGIN: Final = 14
_DRAG_PIXELS: Final = 5


class Indicator:
    """Both of them. `show` and then `seen`, a few times a second."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._tray = 0
        self._icon: Window | None = None
        self._icon_side = round(_ICON_SIDE * screen.scale)
        self._chip = screen.window((1, 1), above_all=True)
        screen.set_class(self._chip, "tacitly")
        self._chip_shown = False
        self._placed = False
        self._size = (1, 1)
        self._shows: tuple[Showing, str] | None = None
        self._drag: tuple[int, int] | None = None
        self._dragged = False

    def show(self, showing: Showing, text: str) -> None:
        """Show a state in the icon and the window."""
        self._dock()
        if self._shows != (showing, text):
            self._shows = (showing, text)
            self._paint()
        if self._icon is not None and self._screen.can_be_seen(self._icon):
            self._hide_chip()
        else:
            self._show_chip()

    def seen(self) -> bool:
        """Whether the icon or the window can be seen now."""
        window = self._chip if self._chip_shown or self._icon is None else self._icon
        seen = self._screen.can_be_seen(window)
        if not seen and self._chip_shown:
            # Covered, unmapped or moved away: whoever did it, it comes back.
            self._screen.show(self._chip)
            self._place_chip()
        return seen

    def clicked(self, event: Any) -> Rectangle | None:
        """Where a menu should open if this event asks for one. Dragging moves the window."""
        window = getattr(event, "event", None)
        if window == getattr(self._icon, "id", 0) and self._icon is not None:
            if isinstance(event, xcffib.xproto.ConfigureNotifyEvent):
                self._resized(event)
            elif isinstance(event, xcffib.xproto.ButtonPressEvent):
                return self._screen.place(self._icon)
        elif window == self._chip.id:
            return self._chip_event(event)
        return None

    def _chip_event(self, event: Any) -> Rectangle | None:
        match event:
            case xcffib.xproto.ButtonPressEvent():
                self._drag, self._dragged = (event.event_x, event.event_y), False
            case xcffib.xproto.ButtonReleaseEvent():
                self._drag = None
                if not self._dragged:
                    return self._screen.place(self._chip)
            case xcffib.xproto.MotionNotifyEvent() if self._drag is not None:
                left, top = event.root_x - self._drag[0], event.root_y - self._drag[1]
                moved = (event.event_x - self._drag[0], event.event_y - self._drag[1])
                if self._dragged or max(map(abs, moved)) > _DRAG_PIXELS:
                    self._dragged = True
                    self._move_chip(left, top)
        return None

    def _move_chip(self, left: int, top: int) -> None:
        """Move it, but never off the monitor that it is moved to."""
        wanted = Rectangle(left, top, *self._size)
        monitors = self._screen.monitors()
        home = next((m for m in monitors if m.contains(wanted._replace(width=1, height=1))), None)
        into = home or monitors[0]
        x = min(max(left, into.x), into.x + into.width - self._size[0])
        y = min(max(top, into.y), into.y + into.height - self._size[1])
        self._screen.move(self._chip, x, y)

    def _show_chip(self) -> None:
        if not self._chip_shown:
            if not self._placed:
                self._place_chip()
                self._placed = True
            self._screen.show(self._chip)
            self._chip_shown = True

    def _hide_chip(self) -> None:
        if self._chip_shown:
            self._screen.hide(self._chip)
            self._chip_shown = False

    def _place_chip(self) -> None:
        """At the lower right of the main monitor, unless it is whole on one already."""
        place = self._screen.place(self._chip)
        if place is not None and any(m.contains(place) for m in self._screen.monitors()):
            return
        area, margin = self._screen.work_area(), round(_MARGIN * self._screen.scale)
        x = area.x + area.width - self._size[0] - margin
        y = area.y + area.height - self._size[1] - margin
        self._screen.move(self._chip, x, y)

    def _paint(self) -> None:
        if self._shows is None:
            return
        drawn = picture.chip(*self._shows, self._screen.scale)
        # Grows and shrinks to the left: it stands at the right.
        place = self._screen.place(self._chip)
        if place is not None and drawn.width != self._size[0]:
            self._screen.move(self._chip, place.x + place.width - drawn.width, place.y)
        self._size = drawn.size
        self._screen.paint(self._chip, drawn)
        if self._icon is not None:
            self._screen.paint(self._icon, self._icon_picture())

    def _icon_picture(self) -> Image.Image:
        showing = self._shows[0] if self._shows else Showing.OFF
        return picture.icon(showing, self._icon_side)

    def _dock(self) -> None:
        """Ask the tray that there is now to take the icon."""
        tray = self._screen.owner(f"{_TRAY}{self._screen.number}")
        if tray == self._tray:
            return
        if self._icon is not None:
            self._screen.destroy(self._icon)
            self._icon = None
        self._tray = tray
        if tray:
            self._icon = self._screen.window((self._icon_side, self._icon_side), above_all=False)
            self._screen.set_class(self._icon, "tacitly")
            self._screen.set_cardinals(
                self._icon, "_XEMBED_INFO", "_XEMBED_INFO", [0, _XEMBED_MAPPED]
            )
            self._screen.paint(self._icon, self._icon_picture())
            message = [0, _REQUEST_DOCK, self._icon.id, 0, 0]
            self._screen.send(tray, "_NET_SYSTEM_TRAY_OPCODE", message)

    def _resized(self, event: Any) -> None:
        side = min(event.width, event.height)
        if self._icon is not None and side >= _LEAST_SIDE and side != self._icon_side:
            self._icon_side = side
            self._screen.paint(self._icon, self._icon_picture())
