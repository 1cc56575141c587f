"""One connection to an X server: what is selected there, what arrives, what can be asked.

Input comes as numbers, other events as their first 32 bytes: that holds all that capture uses. The
library's own event objects would cost several times as much, and for some extensions are of the
wrong type (they do not look at an XKB event's second byte). Input is wiped where it came in: a row
of keycodes in freed memory would spell what was typed.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import xcffib
import xcffib.res
import xcffib.xinput
import xcffib.xkb
import xcffib.xproto

from tacitly_client.capture.source import Focus, UnsupportedError

# Event codes and layouts: X Protocol, Encoding; XI2 protocol, "Events"; XKB protocol, Appendix D.
FOCUS_IN, FOCUS_OUT, CONFIGURE, PROPERTY, GENERIC = 9, 10, 22, 28, 35
RAW_KEY_PRESS, RAW_KEY_RELEASE, RAW_BUTTON_PRESS, RAW_BUTTON_RELEASE, RAW_MOTION = range(13, 18)
HIERARCHY: Final = 11
XKB_NEW_KEYBOARD, XKB_MAP, XKB_STATE = 0, 1, 2
_HEAD_BYTES: Final = 32
_ALL_DEVICES, _ALL_MASTERS = 0, 1
_CORE_KEYBOARD: Final = 0x100
_ALREADY_GRABBED: Final = 1
_WM_CLASS, _STRING = 67, 31  # predefined atoms
_LOCAL_PID: Final = 2
_EXTENSIONS: Final = ("XInputExtension", "XKEYBOARD", "X-Resource")
_LOCAL: Final = re.compile(r"(unix)?:[0-9]+(\.[0-9]+)?")
_NO_WINDOWS: Final = (0, 1)  # None and PointerRoot

_property_time = struct.Struct("=4xI4xI").unpack_from  # window, time
# Type, extension, event type, time, detail, source.
_generic = struct.Struct("=BB6xHxxIIH").unpack_from
_WIPED: Final = bytes(_HEAD_BYTES)
_ID = re.compile(r"[^a-z0-9._+-]+")


# An event's code; its head, b"" for GENERIC ones; of those the extension, the event's type there,
# the server's time in milliseconds, the detail (a keycode, a button), the source's device.
Arrived = tuple[int, bytes, Sequence[int]]


class DisplayLostError(Exception):
    """The server is gone, cannot be reached, or does not let us in."""


class Display:
    """Everything capture asks of an X server. Any call may raise `DisplayLostError`."""

    def __init__(self, name: str) -> None:
        """Connect; nothing is selected.

        Raises:
            UnsupportedError: another machine's display, Xwayland, or a server without XInput2.
        """
        if not _LOCAL.fullmatch(name):
            raise UnsupportedError(
                "the display is another machine's or not set; capture listens to this machine's "
                "own X server only (DISPLAY=:0)"
            )
        self.name = name
        with _lost():
            self._x: Any = xcffib.Connection(name)
        with self._closed_on_error():
            self._check_extensions()
            screen = self._x.setup.roots[self._x.pref_screen]
            self.root: int = screen.root
            self.size = (screen.width_in_pixels, screen.height_in_pixels)
            self.xinput_opcode: int = self._query("XInputExtension").major_opcode
            self.xkb_event: int = self._query("XKEYBOARD").first_event
            self._marker = self._intern("TACITLY_TIME")
            # Never mapped: it carries time marks, and grabs on it cannot succeed.
            self.own_window: int = self._x.generate_id()
            self._x.core.CreateWindow(
                0, self.own_window, self.root, 0, 0, 1, 1, 0, 2, 0,
                xcffib.xproto.CW.EventMask, [xcffib.xproto.EventMask.PropertyChange],
            )  # fmt: skip

    def fileno(self) -> int:
        """Readable when something arrived (or the server went away)."""
        with _lost():
            return int(self._x.get_file_descriptor())

    def events(self) -> Iterator[Arrived]:
        """What has arrived, in order; does not wait. Errors of earlier requests are skipped, and
        what other clients sent in the server's name."""
        # Through the C library: the wrapper around it costs more than all the rest.
        connection = self._x._conn  # noqa: SLF001
        poll, free, view = xcffib.lib.xcb_poll_for_event, xcffib.c_free, xcffib.ffi.buffer
        while event := poll(connection):
            memory = view(event, _HEAD_BYTES)
            code, *numbers = _generic(memory)
            if code == GENERIC:
                memory[:] = _WIPED
                head = b""
            else:
                head = bytes(memory)
            free(event)
            if 0 < code < 0x80:
                yield code, head, numbers
        with _lost():
            self._x.invalid()

    def select(self, *, motion: bool) -> None:
        """Ask for raw input of all devices, and for what is needed to understand it."""
        mask = xcffib.xinput.XIEventMask
        raw = mask.RawKeyPress | mask.RawKeyRelease | mask.RawButtonPress | mask.RawButtonRelease
        self._select_raw(raw | mask.RawMotion if motion else raw, mask.Hierarchy)
        event = xcffib.xkb.EventType
        part = xcffib.xkb.StatePart
        state = part.ModifierState | part.GroupState
        with _lost():
            self._x(xcffib.xkb.key).SelectEvents(
                _CORE_KEYBOARD,
                event.NewKeyboardNotify | event.StateNotify | event.MapNotify,
                0,
                event.NewKeyboardNotify | event.MapNotify,
                *(0xFF, 0xFF),
                [state, state],
            )
        masks = xcffib.xproto.EventMask
        self.watch(self.root, masks.FocusChange | masks.StructureNotify)
        self.sync()

    def deselect(self) -> None:
        """Take back everything that `select` asked for; in effect on return."""
        self._select_raw(0, 0)
        event = xcffib.xkb.EventType
        every = event.NewKeyboardNotify | event.StateNotify | event.MapNotify
        with _lost():
            self._x(xcffib.xkb.key).SelectEvents(_CORE_KEYBOARD, every, every, 0, 0, 0, [])
        self.watch(self.root, 0)
        self.sync()

    def selected(self) -> int:
        """The XInput2 mask that the server has for us on all devices together."""
        with _lost():
            reply = self._x(xcffib.xinput.key).XIGetSelectedEvents(self.root).reply()
        bits = 0
        for mask in reply.masks:
            for word in mask.mask:
                bits |= word
        return bits

    def watch(self, window: int, mask: int) -> None:
        """Select core events of a window; a window that is gone is no error."""
        with _lost():
            self._x.core.ChangeWindowAttributes(window, xcffib.xproto.CW.EventMask, [mask])

    def watch_focus(self, window: int) -> None:
        """Ask to be told when this window gains or loses the focus."""
        self.watch(window, xcffib.xproto.EventMask.FocusChange)

    def sync(self) -> None:
        """Wait until the server has done what it was asked; its events until then have arrived."""
        self.focused_window()

    def focused_window(self) -> int:
        """The window with the focus; 0 if none has it."""
        with _lost():
            window = int(self._x.core.GetInputFocus().reply().focus)
        return 0 if window in _NO_WINDOWS else window

    def mark(self) -> None:
        """Let the server send a PROPERTY event of `own_window` with its time."""
        with _lost():
            self._x.core.ChangeProperty(2, self.own_window, self._marker, _STRING, 8, 0, b"")
            self._x.flush()

    def mark_time(self, head: bytes) -> int | None:
        """The server's time if this PROPERTY event is an answer to `mark`."""
        window, time = _property_time(head)
        return int(time) if window == self.own_window else None

    def keyboard_grabbed(self) -> bool:
        """Whether another client has the keyboard to itself. Changes nothing.

        We try to grab it for a window that is not mapped: the server looks for another's grab
        before it looks at the window, and so answers AlreadyGrabbed or NotViewable.
        """
        with _lost():
            reply = self._x.core.GrabKeyboard(False, self.own_window, 0, 1, 1).reply()
        return int(reply.status) == _ALREADY_GRABBED

    def pointer(self) -> tuple[float, float]:
        """The pointer's place as fractions of the desktop."""
        with _lost():
            reply = self._x.core.QueryPointer(self.root).reply()
        return _fraction(reply.root_x, self.size[0]), _fraction(reply.root_y, self.size[1])

    def describe(self, window: int) -> Focus:
        """The application of a window: the class of it or its nearest ancestor that has one."""
        return Focus(self._application(window), window, self._pid(window))

    def injectors(self) -> frozenset[int]:
        """The devices whose events are made by programs through XTEST."""
        tag = self._intern("XTEST Device")
        extension = self._x(xcffib.xinput.key)
        with _lost():
            devices = [i.deviceid for i in extension.XIQueryDevice(_ALL_DEVICES).reply().infos]
            # All at once: one wait for all answers.
            asked = {d: extension.XIGetProperty(d, 0, tag, 0, 0, 1) for d in devices}
            return frozenset(d for d, cookie in asked.items() if _has_property(cookie))

    def keyboards(self) -> frozenset[str]:
        """The names of the keyboards that are plugged in, real or not."""
        with _lost():
            infos = self._x(xcffib.xinput.key).XIQueryDevice(_ALL_DEVICES).reply().infos
        kinds = (xcffib.xinput.DeviceType.SlaveKeyboard, xcffib.xinput.DeviceType.FloatingSlave)
        return frozenset(
            bytes(b"".join(info.name)).decode("latin-1") for info in infos if info.type in kinds
        )

    def keyboard_map(self) -> Any:
        """The reply to XkbGetMap: key types, symbols and the modifier map."""
        part = xcffib.xkb.MapPart
        wanted = part.KeyTypes | part.KeySyms | part.ModifierMap
        with _lost():
            return self._x(xcffib.xkb.key).GetMap(_CORE_KEYBOARD, wanted, *[0] * 16).reply()

    def keyboard_state(self) -> tuple[int, int]:
        """Held and locked modifiers (a mask), and the layout's group."""
        with _lost():
            reply = self._x(xcffib.xkb.key).GetState(_CORE_KEYBOARD).reply()
        return int(reply.mods), int(reply.group)

    def close(self) -> None:
        """Leave the server."""
        self._x.disconnect()

    def _check_extensions(self) -> None:
        if self._query("XWAYLAND").present:
            raise UnsupportedError(
                "this X server is a guest of Wayland and sees a few windows only; capture has no "
                "source for Wayland. Log in to an X11 session to take part"
            )
        missing = [name for name in _EXTENSIONS if not self._query(name).present]
        if missing:
            raise UnsupportedError(
                f"the X server has no {', '.join(missing)}; capture needs a server with them"
            )
        with _lost():
            version = self._x(xcffib.xinput.key).XIQueryVersion(2, 2).reply()
            self._x(xcffib.xkb.key).UseExtension(1, 0).reply()
            self._x(xcffib.res.key).QueryVersion(1, 2).reply()
        if version.major_version < 2:
            raise UnsupportedError(
                f"the X server speaks XInput {version.major_version}; capture needs 2.2"
            )

    def _select_raw(self, masters: int, devices: int) -> None:
        masks = [
            xcffib.xinput.EventMask.synthetic(device, 1, [mask])
            for device, mask in ((_ALL_MASTERS, masters), (_ALL_DEVICES, devices))
        ]
        with _lost():
            self._x(xcffib.xinput.key).XISelectEvents(self.root, len(masks), masks)

    def _application(self, window: int) -> str:
        while window not in (0, self.root):
            try:
                with _lost():
                    found = self._x.core.GetProperty(False, window, _WM_CLASS, _STRING, 0, 64)
                    value = bytes(b"".join(found.reply().value))
                    if value:
                        # "instance\0Class\0"; titles are never asked for.
                        name = value.rstrip(b"\0").split(b"\0")[-1].decode("latin-1").lower()
                        return _ID.sub("-", name)[:64]
                    window = self._x.core.QueryTree(window).reply().parent
            except xcffib.xproto.WindowError:
                return ""
        return ""

    def _pid(self, window: int) -> int | None:
        spec = xcffib.res.ClientIdSpec.synthetic(window, _LOCAL_PID)
        with _lost():
            reply = self._x(xcffib.res.key).QueryClientIds(1, [spec]).reply()
        return next((int(found.value[0]) for found in reply.ids if found.length), None)

    def _query(self, extension: str) -> Any:
        with _lost():
            return self._x.core.QueryExtension(len(extension), extension.encode()).reply()

    def _intern(self, name: str) -> int:
        with _lost():
            return int(self._x.core.InternAtom(False, len(name), name.encode()).reply().atom)

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except xcffib.Error:
        raise  # the server's answer to one request
    except xcffib.XcffibException as error:
        raise DisplayLostError(str(error)) from None


def _has_property(cookie: Any) -> bool:
    try:
        return bool(cookie.reply().type)
    except xcffib.Error:
        return False  # unplugged meanwhile


def _fraction(pixel: int, pixels: int) -> float:
    """The middle of a pixel, in (0, 1)."""
    return min(max((pixel + 0.5) / pixels, 0.0), 1.0)
