"""What field has the focus, as applications tell it on the accessibility bus (AT-SPI 2, D-Bus).

Applications send `StateChanged("focused")` when the focus moves; what a field is must be asked.
Nothing here waits for an answer: `poll` takes what has arrived. Three things are asked, and no
others: a field's role, its states, and the process that a name on the bus belongs to. Never a
name, a text or a description of anything.

Roles are compared by number: Qt has 40 for a password field and calls it "text".
(at-spi2-core, atspi-constants.h: AtspiRole, AtspiStateType.)
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple

from jeepney import (
    DBusAddress,
    DBusErrorResponse,
    HeaderFields,
    MatchRule,
    Message,
    MessageType,
    new_method_call,
)
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import DBusConnection, open_dbus_connection
from jeepney.wrappers import unwrap_msg

from tacitly_client.capture.clock import Clock

_PASSWORD_TEXT: Final = 40
# text, paragraph, entry, section, document text, document e-mail; not 60, terminal.
_TEXT_ROLES: Final = frozenset((61, 73, 79, 85, 94, 96))
_EDITABLE, _FOCUSED = 7, 12
_CONNECT_SECONDS: Final = 2.0
_RETRY_NS: Final = 10 * 10**9
_MOST_OPEN: Final = 64
_PROCESSES_KEPT: Final = 256
_GONE: Final = (OSError, KeyError, ValueError, RuntimeError, StopIteration, DBusErrorResponse)


class FieldKind(StrEnum):
    """What a field is."""

    MASKED = "masked"  # a password field
    TEXT = "text"  # editable, and known to be no password field
    OTHER = "other"  # anything else, and what cannot be asked any more


class Field(NamedTuple):
    """An accessible object: the bus name of its application, its path there."""

    owner: str
    path: str


class Question:
    """What is a field, and does it have the focus? Answered when `kind` is not None."""

    __slots__ = ("_missing", "field", "focused", "kind", "pid", "role", "states")

    def __init__(self, field: Field) -> None:
        self.field = field
        self.kind: FieldKind | None = None
        self.focused = False
        self.pid: int | None = None
        self.role = 0
        self.states = 0
        self._missing = {"role", "states", "pid"}

    def tell(self, part: str, value: Any) -> None:
        """One part of the answer; None: there is none to be had."""
        self._missing.discard(part)
        if value is None:
            self.kind = FieldKind.OTHER
        elif part == "states":
            self.states = sum(word << 32 * place for place, word in enumerate(value))
        else:
            setattr(self, part, value)
        if not self._missing and self.kind is None:
            self.focused = bool(self.states & 1 << _FOCUSED)
            self.kind = self._what()

    def _what(self) -> FieldKind:
        if self.role == _PASSWORD_TEXT:
            return FieldKind.MASKED
        editable = self.states & 1 << _EDITABLE and self.role in _TEXT_ROLES
        return FieldKind.TEXT if editable else FieldKind.OTHER


class Move(NamedTuple):
    """The focus came to a field, or left it."""

    field: Field
    gained: bool


class Accessibility:
    """A connection to the accessibility bus, made when first asked for and again when lost."""

    def __init__(self, clock: Clock, connect: Callable[[], DBusConnection] | None = None) -> None:
        self._clock = clock
        self._connect = connect or _open_bus
        self._bus: DBusConnection | None = None
        self._retry_ns = 0
        self._waiting: OrderedDict[int, tuple[Question, str]] = OrderedDict()
        self._processes: OrderedDict[str, int] = OrderedDict()

    def poll(self) -> list[Move]:
        """The moves that were told since; questions are answered on the way. Does not wait."""
        bus = self._connected()
        if bus is None:
            return []
        moves: list[Move] = []
        try:
            for message in _arrived(bus):
                if message.header.message_type is MessageType.signal:
                    moves += _moves(message)
                else:
                    self._on_reply(message)
        except OSError:
            self._lose()
        return moves

    def ask(self, question: Question) -> None:
        """Ask; the answer is for a later `poll`. Without a bus it is `FieldKind.OTHER`."""
        bus, field = self._bus, question.field
        if bus is None:
            question.tell("role", None)
            return
        accessible = DBusAddress(field.path, field.owner, "org.a11y.atspi.Accessible")
        calls = {
            "role": new_method_call(accessible, "GetRole"),
            "states": new_method_call(accessible, "GetState"),
        }
        if (pid := self._processes.get(field.owner)) is not None:
            question.tell("pid", pid)
        else:
            calls["pid"] = message_bus.GetConnectionUnixProcessID(field.owner)
        try:
            for part, call in calls.items():
                serial = next(bus.outgoing_serial)
                bus.send(call, serial=serial)
                self._waiting[serial] = (question, part)
        except OSError:
            self._lose()
            question.tell("role", None)
        while len(self._waiting) > 3 * _MOST_OPEN:
            self._waiting.popitem(last=False)[1][0].tell("role", None)

    def close(self) -> None:
        """Leave the bus: applications are told that nobody listens. `poll` connects again."""
        self._retry_ns = 0
        self._lose()

    def _lose(self) -> None:
        if self._bus is not None:
            self._bus.close()
            self._bus = None
        for question, _ in self._waiting.values():
            question.tell("role", None)
        self._waiting.clear()
        self._processes.clear()

    def _connected(self) -> DBusConnection | None:
        now_ns = self._clock.monotonic_ns()
        if self._bus is None and now_ns >= self._retry_ns:
            self._retry_ns = now_ns + _RETRY_NS
            try:
                self._bus = self._connect()
            except _GONE:
                return None
        return self._bus

    def _on_reply(self, message: Message) -> None:
        serial = message.header.fields.get(HeaderFields.reply_serial)
        question, part = self._waiting.pop(serial, (None, ""))
        if question is None:
            return
        value = None
        if message.header.message_type is MessageType.method_return:
            expected = "au" if part == "states" else "u"
            told = message.header.fields.get(HeaderFields.signature)
            value = message.body[0] if told == expected else None
        if part == "pid" and value is not None:
            self._processes[question.field.owner] = value
            while len(self._processes) > _PROCESSES_KEPT:
                self._processes.popitem(last=False)
        question.tell(part, value)


def _open_bus() -> DBusConnection:
    """Connect and listen for moves of the focus.

    The accessibility bus is another than the session's, which tells its address. Applications
    send events only while the registry knows of a listener.
    """
    where = os.environ.get("AT_SPI_BUS_ADDRESS") or _address()
    bus = open_dbus_connection(where)
    try:
        rule = MatchRule(type="signal", interface="org.a11y.atspi.Event.Object")
        rule.header_fields["member"] = "StateChanged"
        rule.add_arg_condition(0, "focused")
        _call(bus, message_bus.AddMatch(rule))
        registry = DBusAddress(
            "/org/a11y/atspi/registry", "org.a11y.atspi.Registry", "org.a11y.atspi.Registry"
        )
        properties: list[str] = []
        what = ("object:state-changed:focused", properties, "")
        _call(bus, new_method_call(registry, "RegisterEvent", "sass", what))
    except BaseException:
        bus.close()
        raise
    return bus


def _address() -> str:
    launcher = DBusAddress("/org/a11y/bus", "org.a11y.Bus", "org.a11y.Bus")
    with open_dbus_connection("SESSION") as session:
        return str(_call(session, new_method_call(launcher, "GetAddress"))[0])


def _call(bus: DBusConnection, message: Message) -> Any:
    return unwrap_msg(bus.send_and_get_reply(message, timeout=_CONNECT_SECONDS))


def _arrived(bus: DBusConnection) -> Iterator[Message]:
    while True:
        try:
            yield bus.receive(timeout=0)
        except TimeoutError:
            return


def _moves(message: Message) -> Iterator[Move]:
    fields = message.header.fields
    told = str(fields.get(HeaderFields.signature, ""))
    if fields.get(HeaderFields.member) != "StateChanged" or not told.startswith("sii"):
        return
    if message.body[0] == "focused":
        field = Field(fields[HeaderFields.sender], fields[HeaderFields.path])
        yield Move(field, bool(message.body[1]))
