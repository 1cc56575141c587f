"""Which source a desktop gets; Wayland gets none."""

import pytest

from tacitly_client.capture.clock import SystemClock
from tacitly_client.capture.desktop import source_for
from tacitly_client.capture.source import Health, UnsupportedError


@pytest.mark.parametrize(
    "environ",
    [
        {"WAYLAND_DISPLAY": "wayland-0", "DISPLAY": ":0"},
        {"XDG_SESSION_TYPE": "wayland", "DISPLAY": ":0"},
    ],
)
def test_wayland_captures_nothing_and_says_so(environ: dict[str, str]) -> None:
    """Also where Xwayland would show a few windows."""
    with pytest.raises(UnsupportedError, match=r"Wayland session.*nothing is captured"):
        source_for(environ, SystemClock(), motion=True)


def test_no_desktop_is_said() -> None:
    with pytest.raises(UnsupportedError, match="DISPLAY is not set"):
        source_for({}, SystemClock(), motion=True)


def test_x11_gets_a_source_that_has_not_connected() -> None:
    source = source_for({"DISPLAY": ":4711"}, SystemClock(), motion=True)
    assert source.health() is Health.STOPPED
