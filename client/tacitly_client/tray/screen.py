"""One connection to the X server: windows that show a picture, and whether they can be seen.

A window's picture is its background, so that the server itself repairs what was covered.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import xcffib
import xcffib.xinerama
import xcffib.xproto
from PIL import Image

from tacitly_common.errors import TacitlyError

_VIEWABLE: Final = 2
_INPUT_OUTPUT: Final = 1
_FULLY_OBSCURED: Final = 2
_STRING, _CARDINAL = 31, 6
_RESOURCES: Final = 23
_DPI: Final = re.compile(rb"^Xft\.dpi:\s*(\d+)", re.MULTILINE)
_PLAIN_DPI: Final = 96
_LARGEST_SCALE: Final = 4.0
_PUT_BYTES: Final = 200_000  # of a picture in one request, below the core protocol's limit
_PUT_HEADER: Final = 24


LOST: Final = xcffib.ConnectionException


class ScreenError(TacitlyError):
    """No X server that a window can be shown on."""


class Rectangle(NamedTuple):
    """In pixels, from the desktop's upper left corner."""

    x: int
    y: int
    width: int
    height: int

    def contains(self, other: "Rectangle") -> bool:
        """Whether all of the other is inside."""
        return (
            self.x <= other.x
            and self.y <= other.y
            and other.x + other.width <= self.x + self.width
            and other.y + other.height <= self.y + self.height
        )


@dataclass
class Window:
    """One of our windows."""

    id: int
    obscured: bool = False  # as the server last said


class Screen:
    """The default screen of a display. Any call may raise `LOST`: the server is gone."""

    def __init__(self, name: str) -> None:
        """Connect.

        Raises:
            ScreenError: there is no such display, or none with 24 bits a pixel.
        """
        try:
            self._x: Any = xcffib.Connection(name)
        except xcffib.XcffibException:
            raise ScreenError(
                f"there is no X server at DISPLAY={name!r}, so nothing can show that capture is on "
                "and nothing is captured; start it in a desktop session on X11"
            ) from None
        screen = self._x.setup.roots[self._x.pref_screen]
        self.number: int = self._x.pref_screen
        self.root: int = screen.root
        self._size = (screen.width_in_pixels, screen.height_in_pixels)
        self._depth: int = screen.root_depth
        if self._depth != 24:
            raise ScreenError(f"the display has {self._depth} bits a pixel, the indicator needs 24")
        msb_first = bool(self._x.setup.image_byte_order)
        self._layout = "XRGB" if msb_first else "BGRX"
        self._windows: dict[int, Window] = {}
        self._atoms: dict[str, int] = {}
        self.scale = self._scale()

    def fileno(self) -> int:
        """Readable when an event has come."""
        return int(self._x.get_file_descriptor())

    def close(self) -> None:
        """Leave the server; the windows go."""
        self._x.disconnect()

    def events(self) -> Iterator[Any]:
        """What has come, without waiting. What the server says of windows is noted on the way."""
        while True:
            try:
                event = self._x.poll_for_event()
            except xcffib.Error:
                continue  # a window of somebody's has gone
            if event is None:
                return
            if isinstance(event, xcffib.xproto.VisibilityNotifyEvent):
                if event.window in self._windows:
                    self._windows[event.window].obscured = event.state == _FULLY_OBSCURED
            else:
                yield event

    def window(self, size: tuple[int, int], *, above_all: bool) -> Window:
        """An unmapped window. `above_all`: no window manager moves, covers or hides it."""
        event = xcffib.xproto.EventMask
        mask = (
            event.ButtonPress
            | event.ButtonRelease
            | event.PointerMotion
            | event.LeaveWindow
            | event.VisibilityChange
            | event.StructureNotify
        )
        made: int = self._x.generate_id()
        values = [int(above_all), mask]
        attributes = xcffib.xproto.CW.OverrideRedirect | xcffib.xproto.CW.EventMask
        self._x.core.CreateWindow(
            self._depth, made, self.root, 0, 0, *size, 0, 1, 0, attributes, values
        )
        self._windows[made] = Window(made)
        return self._windows[made]

    def destroy(self, window: Window) -> None:
        """Remove a window."""
        self._windows.pop(window.id, None)
        self._x.core.DestroyWindow(window.id)
        self._x.flush()

    def paint(self, window: Window, picture: Image.Image) -> None:
        """Show a picture in a window, which becomes of its size."""
        width, height = picture.size
        pixels = picture.convert("RGB").tobytes("raw", self._layout)
        pixmap, context = self._x.generate_id(), self._x.generate_id()
        self._x.core.CreatePixmap(self._depth, pixmap, window.id, width, height)
        self._x.core.CreateGC(context, pixmap, 0, [])
        rows = max(1, _PUT_BYTES // (4 * width))
        for top in range(0, height, rows):
            strip = pixels[4 * width * top : 4 * width * (top + rows)]
            self._x.core.PutImage(
                2, pixmap, context, width, len(strip) // (4 * width), 0, top, 0, self._depth,
                len(strip), strip,
            )  # fmt: skip
        config = xcffib.xproto.ConfigWindow
        self._x.core.ConfigureWindow(window.id, config.Width | config.Height, [width, height])
        self._x.core.ChangeWindowAttributes(window.id, xcffib.xproto.CW.BackPixmap, [pixmap])
        self._x.core.ClearArea(False, window.id, 0, 0, 0, 0)
        self._x.core.FreeGC(context)
        self._x.core.FreePixmap(pixmap)
        self._x.flush()

    def show(self, window: Window) -> None:
        """Map a window above the others."""
        self._x.core.MapWindow(window.id)
        self.raise_(window)

    def hide(self, window: Window) -> None:
        """Unmap a window."""
        self._x.core.UnmapWindow(window.id)
        self._x.flush()

    def raise_(self, window: Window) -> None:
        """Put a window above the others."""
        self._x.core.ConfigureWindow(window.id, xcffib.xproto.ConfigWindow.StackMode, [0])
        self._x.flush()

    def move(self, window: Window, x: int, y: int) -> None:
        """Put a window's corner there."""
        config = xcffib.xproto.ConfigWindow
        self._x.core.ConfigureWindow(window.id, config.X | config.Y, [x, y])
        self._x.flush()

    def place(self, window: Window) -> Rectangle | None:
        """Where a window is; None if it or one that it is in is not mapped, or it is gone."""
        try:
            attributes = self._x.core.GetWindowAttributes(window.id)
            geometry = self._x.core.GetGeometry(window.id)
            corner = self._x.core.TranslateCoordinates(window.id, self.root, 0, 0)
            if attributes.reply().map_state != _VIEWABLE:
                return None
            size, at = geometry.reply(), corner.reply()
        except xcffib.Error:
            return None
        return Rectangle(at.dst_x, at.dst_y, size.width, size.height)

    def can_be_seen(self, window: Window) -> bool:
        """Whether a window is mapped, whole on a monitor, and not behind others."""
        place = self.place(window)
        if place is None or window.obscured:
            return False
        return any(each.contains(place) for each in self.monitors()) and not self._is_behind(
            window, place
        )

    def monitors(self) -> list[Rectangle]:
        """The monitors; the first is the main one."""
        whole = [Rectangle(0, 0, *self._size)]
        try:
            found = self._x(xcffib.xinerama.key).QueryScreens().reply().screen_info
        except xcffib.Error:
            return whole
        return [Rectangle(s.x_org, s.y_org, s.width, s.height) for s in found] or whole

    def work_area(self) -> Rectangle:
        """The main monitor without what the window manager keeps for its panels."""
        main = self.monitors()[0]
        told = self.cardinals(self.root, "_NET_WORKAREA")[:4]
        if len(told) < 4:
            return main
        left, top = max(main.x, told[0]), max(main.y, told[1])
        right = min(main.x + main.width, told[0] + told[2])
        bottom = min(main.y + main.height, told[1] + told[3])
        return Rectangle(left, top, right - left, bottom - top) if right > left else main

    def atom(self, name: str) -> int:
        """The number of a name, which is the same as long as the server lives."""
        if name not in self._atoms:
            reply = self._x.core.InternAtom(False, len(name), name).reply()
            self._atoms[name] = int(reply.atom)
        return self._atoms[name]

    def cardinals(self, window: int, name: str) -> list[int]:
        """A property's numbers; empty without it."""
        reply = self._x.core.GetProperty(False, window, self.atom(name), _CARDINAL, 0, 64).reply()
        return list(reply.value.to_atoms()) if reply.format == 32 else []

    def set_cardinals(self, window: Window, name: str, kind: str, values: list[int]) -> None:
        """Set a property of 32-bit numbers."""
        kind_atom = _CARDINAL if kind == "CARDINAL" else self.atom(kind)
        data = b"".join(value.to_bytes(4, sys.byteorder) for value in values)
        self._x.core.ChangeProperty(0, window.id, self.atom(name), kind_atom, 32, len(values), data)

    def set_class(self, window: Window, name: str) -> None:
        """Say which application a window is."""
        value = f"{name}\0{name.capitalize()}\0".encode()
        self._x.core.ChangeProperty(0, window.id, 67, _STRING, 8, len(value), value)

    def owner(self, selection: str) -> int:
        """The window that owns a selection; 0 without one."""
        return int(self._x.core.GetSelectionOwner(self.atom(selection)).reply().owner)

    def send(self, window: int, kind: str, values: list[int]) -> None:
        """Send a client message of five numbers."""
        data = xcffib.xproto.ClientMessageData.synthetic(values, "IIIII")
        event = xcffib.xproto.ClientMessageEvent.synthetic(
            format=32, window=window, type=self.atom(kind), data=data
        )
        self._x.core.SendEvent(False, window, 0, event.pack())
        self._x.flush()

    def grab_pointer(self, window: Window) -> bool:
        """Let all clicks come to a window, also those beside it."""
        event = xcffib.xproto.EventMask
        mask = event.ButtonPress | event.ButtonRelease | event.PointerMotion
        return not self._x.core.GrabPointer(False, window.id, mask, 1, 1, 0, 0, 0).reply().status

    def ungrab_pointer(self) -> None:
        """Give the pointer back."""
        self._x.core.UngrabPointer(0)
        self._x.flush()

    def _is_behind(self, window: Window, place: Rectangle) -> bool:
        """Whether a window that is stacked higher covers all of this one.

        Under a compositor the server's own word (VisibilityNotify) means nothing.
        """
        try:
            children = self._x.core.QueryTree(self.root).reply().children
            above = _after(children, self._top_level(window.id))
            asked = [
                (self._x.core.GetWindowAttributes(each), self._x.core.GetGeometry(each))
                for each in above
            ]
            return any(_covers(*each, place) for each in asked)
        except xcffib.Error:
            return True  # it has just been moved or removed: look again soon

    def _top_level(self, window: int) -> int:
        while (parent := self._x.core.QueryTree(window).reply().parent) != self.root:
            window = parent
        return window

    def _scale(self) -> float:
        reply = self._x.core.GetProperty(False, self.root, _RESOURCES, _STRING, 0, 1 << 16).reply()
        found = _DPI.search(bytes(b"".join(reply.value)))
        return min(max(int(found[1]) / _PLAIN_DPI, 1.0), _LARGEST_SCALE) if found else 1.0


def _after(children: Any, window: int) -> list[int]:
    stacked = list(children)
    return stacked[stacked.index(window) + 1 :] if window in stacked else []


def _covers(attributes: Any, geometry: Any, place: Rectangle) -> bool:
    try:
        shown = attributes.reply()
        size = geometry.reply()
    except xcffib.Error:
        return False  # gone meanwhile
    there = Rectangle(size.x, size.y, size.width, size.height)

    drawn = shown._class == _INPUT_OUTPUT  # noqa: SLF001 - the field's name in the library
    return shown.map_state == _VIEWABLE and drawn and there.contains(place)
