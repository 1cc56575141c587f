"""What this machine says about training: asked of the X server, the battery, NetworkManager.

The person's choice comes first: `train_when` of the settings is "idle", as it ships, or "always",
for machines that nobody sits at.
"""

import os
import time
from collections.abc import Callable
from typing import Any, Final

from tacitly_client.daemon.conditions import Hindrance, Reading, hindrances
from tacitly_client.home import AgentHome, TrainWhen, read_settings
from tacitly_common.errors import ValidationError

# Batteries and networks change slowly, and asking costs a call.
_SLOW_SECONDS: Final = 20.0
_ANSWER_SECONDS: Final = 2.0
_METERED: Final = (1, 3)  # NMMetered: yes, guessed yes


class Conditions:
    """Called with whether a trainer runs: why none may, by settings and machine."""

    def __init__(self, home: AgentHome) -> None:
        self._home = home
        self._input = LastInput()
        self._slow: tuple[bool | None, bool | None] = (None, None)
        self._slow_until = 0.0

    def __call__(self, training: bool) -> tuple[Hindrance, ...]:
        try:
            settings = read_settings(self._home)
        except ValidationError:
            return (Hindrance.NOT_SET_UP,)
        if settings.train_when is TrainWhen.ALWAYS:
            return ()
        return hindrances(self._reading(), training=training)

    def close(self) -> None:
        """Let go of the X server."""
        self._input.close()

    def _reading(self) -> Reading:
        if time.monotonic() >= self._slow_until:
            self._slow = (_or_none(_on_mains), _or_none(_metered))
            self._slow_until = time.monotonic() + _SLOW_SECONDS
        on_mains, metered = self._slow
        return Reading(
            idle_seconds=self._input.seconds_ago(),
            on_mains=on_mains,
            metered=metered,
            load=os.getloadavg()[0] / (os.cpu_count() or 1),
        )


class LastInput:
    """When the person last pressed a key or moved the pointer, as the X server knows."""

    def __init__(self) -> None:
        self._connection: Any = None

    def seconds_ago(self) -> float | None:
        """None where no X server tells; under Wayland it would not know."""
        display = os.environ.get("DISPLAY")
        if not display or os.environ.get("WAYLAND_DISPLAY"):
            return None
        try:
            return self._asked(display)
        except Exception:
            # Whatever it is: the X server has gone, or has no such extension.
            self.close()
            return None

    def close(self) -> None:
        """Disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _asked(self, display: str) -> float:
        import xcffib
        import xcffib.screensaver
        import xcffib.xproto

        if self._connection is None:
            self._connection = xcffib.connect(display)
        root = self._connection.setup.roots[0].root
        answer = self._connection(xcffib.screensaver.key).QueryInfo(root).reply()
        return float(answer.ms_since_user_input) / 1_000.0


def _on_mains() -> bool | None:
    import psutil

    battery = psutil.sensors_battery()
    return None if battery is None else bool(battery.power_plugged)


def _metered() -> bool:
    from jeepney import DBusAddress, Properties
    from jeepney.io.blocking import open_dbus_connection

    manager = DBusAddress(
        "/org/freedesktop/NetworkManager",
        "org.freedesktop.NetworkManager",
        "org.freedesktop.NetworkManager",
    )
    with open_dbus_connection(bus="SYSTEM") as bus:
        answer = bus.send_and_get_reply(Properties(manager).get("Metered"), timeout=_ANSWER_SECONDS)
    return answer.body[0][1] in _METERED


def _or_none(ask: Callable[[], bool | None]) -> bool | None:
    """What is answered; None if the part of the system that knows is missing or fails."""
    try:
        return ask()
    except Exception:
        return None
