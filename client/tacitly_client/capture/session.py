"""Whether the person is away: the session is locked or not in front, or the machine goes to sleep.

Told by logind over the system bus. Where there is none, nothing is known here; a locker is then
still noticed by its grab of the keyboard. Signals only say that something may have changed: what
is so is asked of logind itself.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Self

from jeepney import DBusAddress, DBusErrorResponse, MatchRule, Properties, new_method_call
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import DBusConnection, open_dbus_connection
from jeepney.wrappers import unwrap_msg

_SERVICE: Final = "org.freedesktop.login1"
_ROOT: Final = "/org/freedesktop/login1"
_ANSWER_SECONDS: Final = 2.0


class LoginSession:
    """The graphical session of this user, as logind sees it."""

    def __init__(self, connection: DBusConnection, path: str) -> None:
        self._connection: DBusConnection | None = connection
        self._session = DBusAddress(path, _SERVICE, f"{_SERVICE}.Session")
        self._manager = DBusAddress(_ROOT, _SERVICE, f"{_SERVICE}.Manager")
        for where in (self._session, self._manager):
            rule = MatchRule(type="signal", sender=_SERVICE, path=where.object_path)
            _call(connection, message_bus.AddMatch(rule))
        self._away = self._asked()

    @classmethod
    def find(cls, environ: Mapping[str, str] = os.environ) -> Self | None:
        """This session; None where logind is not there or has none for this user."""
        try:
            connection = open_dbus_connection(bus="SYSTEM")
        except (OSError, ValueError, RuntimeError):
            return None
        try:
            return cls(connection, _session_path(connection, environ))
        except (DBusErrorResponse, OSError, LookupError):
            connection.close()
            return None

    def away(self) -> bool:
        """Whether the person is away. Does not wait unless something changed."""
        if self._connection is None:
            return False
        try:
            changed = False
            with suppress(TimeoutError):
                while True:
                    self._connection.receive(timeout=0)
                    changed = True
            if changed:
                self._away = self._asked()
        except (DBusErrorResponse, OSError):
            # The bus or logind is gone, and with it all it knew.
            self.close()
            self._away = False
        return self._away

    def close(self) -> None:
        """Leave the bus."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _asked(self) -> bool:
        return bool(
            self._property(self._session, "LockedHint")
            or not self._property(self._session, "Active")
            or self._property(self._manager, "PreparingForSleep")
        )

    def _property(self, where: DBusAddress, name: str) -> Any:
        return _call(self._connection, Properties(where).get(name))[0][1]


def _session_path(connection: DBusConnection, environ: Mapping[str, str]) -> str:
    """The session that this process belongs to, or the one that this user looks at.

    Raises:
        LookupError: this user looks at none.
    """
    manager = DBusAddress(_ROOT, _SERVICE, f"{_SERVICE}.Manager")
    if own := environ.get("XDG_SESSION_ID"):
        return str(_call(connection, new_method_call(manager, "GetSession", "s", (own,)))[0])
    # A user unit belongs to no session.
    (user,) = _call(connection, new_method_call(manager, "GetUser", "u", (os.getuid(),)))
    shown = Properties(DBusAddress(user, _SERVICE, f"{_SERVICE}.User")).get("Display")
    _, (name, path) = _call(connection, shown)[0]
    if not name:
        raise LookupError("no session with a display")
    return str(path)


def _call(connection: DBusConnection | None, message: Any) -> Any:
    if connection is None:
        raise ConnectionResetError("the connection to the bus is closed")
    return unwrap_msg(connection.send_and_get_reply(message, timeout=_ANSWER_SECONDS))
