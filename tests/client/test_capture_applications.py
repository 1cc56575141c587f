"""Every event in real applications is stored, once and in order, at a thousand pointer events a
second. A short form of `trials/stream.py`, which has browsers too."""

from pathlib import Path

from tacitly_client.home import AgentHome
from trials import stream
from trials.desktop import desktop
from x_display import need


def test_each_event_in_applications_is_stored_once_and_in_order(tmp_path: Path) -> None:
    need("xterm")
    home = AgentHome(tmp_path / "home")
    with desktop(tmp_path) as running, stream.working(running, home) as captured:
        for name in ("xterm", "GTK 3"):
            result = stream.work_in(name, running, captured)
            assert result.stored == result.expected, name
            assert result.complete, name
