"""The accessibility bus: what is taken from it and what is refused, over a real D-Bus daemon."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from jeepney import DBusAddress, MessageType, new_error, new_method_return, new_signal
from jeepney.io.blocking import DBusConnection, open_dbus_connection

from hand_clock import HandClock
from tacitly_client.capture.clock import SystemClock
from tacitly_client.capture.gate.accessibility import (
    Accessibility,
    Field,
    FieldKind,
    Move,
    Question,
)
from x_display import need, wait_for

OBJECTS = "org.a11y.atspi.Event.Object"
NOTHING = ("s", "")


class Application:
    """An application that tells and answers as the test says."""

    def __init__(self, address: str) -> None:
        self.bus: DBusConnection = open_dbus_connection(address)
        self.name = str(self.bus.unique_name)

    def tell(self, path: str, *body: object, member: str = "StateChanged", how: str = "") -> None:
        emitter = DBusAddress(path, interface=OBJECTS)
        self.bus.send(new_signal(emitter, member, how or "siiv", body))

    def focus(self, path: str, gained: int = 1) -> None:
        self.tell(path, "focused", gained, 0, NOTHING)

    def answer(self, **answers: tuple[str, object] | None) -> None:
        """Answer as many calls as there are answers, by method; None: an error."""
        for _ in answers:
            call = self.bus.receive(timeout=5)
            while call.header.message_type is not MessageType.method_call:
                call = self.bus.receive(timeout=5)
            answer = answers[call.header.fields[3]]
            if answer is None:
                self.bus.send(new_error(call, "org.freedesktop.DBus.Error.UnknownObject"))
            else:
                self.bus.send(new_method_return(call, answer[0], (answer[1],)))


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    daemon = subprocess.Popen(
        [need("dbus-daemon"), "--session", "--print-address", "--nofork"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert daemon.stdout is not None
    where = daemon.stdout.readline().strip()
    monkeypatch.setenv("AT_SPI_BUS_ADDRESS", where)
    yield where
    daemon.kill()
    daemon.wait()
    daemon.stdout.close()


@pytest.fixture
def registry(address: str) -> Iterator[None]:
    """Takes listeners, as at-spi2-registryd does."""
    code = (
        "import sys; from jeepney import *; from jeepney.bus_messages import message_bus as m;"
        "from jeepney.io.blocking import open_dbus_connection as o;"
        "b = o(sys.argv[1]); b.send_and_get_reply(m.RequestName('org.a11y.atspi.Registry'));"
        "print('there', flush=True)\n"
        "while True:\n"
        "    c = b.receive()\n"
        "    if c.header.message_type is MessageType.method_call:\n"
        "        b.send(new_method_return(c))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, address], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.kill()


@pytest.fixture
def listening(registry: None) -> Iterator[Accessibility]:
    accessibility = Accessibility(SystemClock())
    assert accessibility.poll() == []
    yield accessibility
    accessibility.close()


@pytest.fixture
def application(address: str) -> Iterator[Application]:
    running = Application(address)
    yield running
    running.bus.close()


def arrived(listening: Accessibility, last: Move) -> list[Move]:
    """The moves until this one."""
    moves: list[Move] = []

    def all_arrived() -> bool:
        moves.extend(listening.poll())
        return last in moves

    wait_for(all_arrived)
    return moves


def answered(listening: Accessibility, question: Question) -> FieldKind | None:
    wait_for(lambda: listening.poll() == [] and question.kind is not None)
    return question.kind


def asked(listening: Accessibility, application: Application, **answers: object) -> Question:
    question = Question(Field(application.name, "/field"))
    listening.ask(question)
    application.answer(**answers)  # type: ignore[arg-type]
    answered(listening, question)
    return question


def test_moves_are_told_in_order(listening: Accessibility, application: Application) -> None:
    application.focus("/a")
    application.focus("/a", 0)
    application.focus("/b")
    name = application.name
    last = Move(Field(name, "/b"), True)
    assert arrived(listening, last) == [
        Move(Field(name, "/a"), True),
        Move(Field(name, "/a"), False),
        last,
    ]


def test_other_signals_are_no_moves(listening: Accessibility, application: Application) -> None:
    application.tell("/a", "showing", 1, 0, NOTHING)
    application.tell("/a", "focused", 1, 0, NOTHING, member="TextChanged")
    application.tell("/a", "focused", how="s")
    application.tell("/a", 1, how="u")
    application.focus("/b")
    last = Move(Field(application.name, "/b"), True)
    assert arrived(listening, last) == [last]


@pytest.mark.parametrize(
    ("role", "states", "kind"),
    [
        (40, [1 << 7 | 1 << 12, 0], FieldKind.MASKED),
        (40, [0, 0], FieldKind.MASKED),
        (79, [1 << 7 | 1 << 12, 0], FieldKind.TEXT),
        (61, [1 << 7, 5], FieldKind.TEXT),
        (79, [1 << 12, 0], FieldKind.OTHER),
        (60, [1 << 7 | 1 << 12, 0], FieldKind.OTHER),
        (79, [], FieldKind.OTHER),
    ],
)
def test_a_field_is_what_its_role_and_states_say(
    listening: Accessibility, application: Application, role: int, states: list[int], kind: str
) -> None:
    question = asked(listening, application, GetRole=("u", role), GetState=("au", states))
    assert question.kind is kind
    assert question.pid == os.getpid()
    assert question.focused == bool(sum(states[:1]) & 1 << 12)


@pytest.mark.parametrize(
    ("role", "states"),
    [
        (None, ("au", [128, 0])),
        (("u", 79), None),
        (("s", "entry"), ("au", [128, 0])),
        (("u", 79), ("s", "editable")),
    ],
)
def test_a_strange_answer_makes_it_another_field(
    listening: Accessibility, application: Application, role: object, states: object
) -> None:
    question = asked(listening, application, GetRole=role, GetState=states)
    assert question.kind is FieldKind.OTHER


def test_a_name_that_left_the_bus_is_another_field(listening: Accessibility) -> None:
    question = Question(Field(":1.999", "/field"))
    listening.ask(question)
    assert answered(listening, question) is FieldKind.OTHER


def test_open_questions_are_answered_when_the_bus_is_left(
    listening: Accessibility, application: Application
) -> None:
    question = Question(Field(application.name, "/field"))
    listening.ask(question)
    assert question.kind is None
    listening.close()
    assert question.kind is FieldKind.OTHER


def test_without_a_bus_nothing_is_told_and_it_is_looked_for_again_later(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """There is no registry: nobody would tell us anything."""
    clock = HandClock()
    accessibility = Accessibility(clock)
    assert accessibility.poll() == []
    question = Question(Field(":1.1", "/field"))
    accessibility.ask(question)
    assert question.kind is FieldKind.OTHER
    attempts = []

    def connect() -> DBusConnection:
        attempts.append(clock.monotonic_ns())
        raise ConnectionRefusedError

    accessibility = Accessibility(clock, connect)
    for _ in range(21):
        accessibility.poll()
        clock.pass_(1.0)
    assert len(attempts) == 3


def test_a_bus_that_goes_away_is_no_error(listening: Accessibility) -> None:
    listening._bus.sock.shutdown(2)  # type: ignore[union-attr]
    assert listening.poll() == []
    assert listening._bus is None
