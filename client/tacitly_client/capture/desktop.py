"""Which source fits this desktop."""

import sys
from collections.abc import Mapping

from tacitly_client.capture.clock import Clock
from tacitly_client.capture.source import Source, UnsupportedError


def source_for(environ: Mapping[str, str], clock: Clock, *, motion: bool) -> Source:
    """A source that is not started.

    Raises:
        UnsupportedError: there is none for this desktop: Wayland, or no desktop at all.
    """
    if sys.platform != "linux":
        from tacitly_client.capture.hooks import HookSource

        return HookSource(clock, motion=motion)
    if environ.get("WAYLAND_DISPLAY") or environ.get("XDG_SESSION_TYPE") == "wayland":
        raise UnsupportedError(
            "this is a Wayland session, which lets no program listen to others' input; nothing is "
            "captured. Log in to an X11 session to take part"
        )
    display = environ.get("DISPLAY")
    if not display:
        raise UnsupportedError("DISPLAY is not set: there is no desktop to capture from")

    from tacitly_client.capture.x11 import X11Source

    return X11Source(display, clock, motion=motion)
