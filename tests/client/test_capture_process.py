"""The loop of capture, step by step with a scripted source: permission before all."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hand_clock import SECOND, HandClock
from tacitly_client.capture.content import NoContent
from tacitly_client.capture.normaliser import Normaliser, Observation
from tacitly_client.capture.permit import Permission
from tacitly_client.capture.process import FLUSH_SECONDS, FRAME_EVENTS, Capture, Writer
from tacitly_client.capture.source import Anchor, Health, RawEvent, UnsupportedError
from tacitly_client.capture.state import CaptureState, Doing
from tacitly_client.store import EventStore
from tacitly_common.events import Event, EventKind


class ScriptedSource:
    """Gives what the test put in; counts what was asked of it."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.waiting: list[RawEvent] = []
        self.state = Health.STOPPED
        self.log: list[str] = []
        self.during_poll: list[object] = []

    def start(self) -> None:
        self.state = Health.RECEIVING
        self.log.append("start")

    def stop(self) -> None:
        self.state = Health.STOPPED
        self.waiting.clear()
        self.log.append("stop")

    def poll(self, timeout_seconds: float) -> list[RawEvent]:
        self.clock.pass_(timeout_seconds)
        for action in self.during_poll:
            action()  # type: ignore[operator]
        self.during_poll.clear()
        events, self.waiting = self.waiting, []
        return events

    def anchor(self) -> Anchor:
        return Anchor(0, 0)

    def health(self) -> Health:
        return self.state

    def close(self) -> None:
        self.state = Health.STOPPED
        self.log.append("close")


class Holding(NoContent):
    """Holds everything back until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Event] = []
        self.open = False

    def accept(self, observations: Sequence[Observation]) -> list[Event]:
        self.held += super().accept(observations)
        if not self.open:
            return []
        released, self.held = self.held, []
        return released

    def discard(self) -> None:
        super().discard()
        self.held.clear()


class Setting:
    """A capture loop whose every turn the test makes."""

    def __init__(self, home: Path, content: NoContent | None = None) -> None:
        self.clock = HandClock()
        self.permission: Permission | None = None
        self.away = False
        self.made: list[bool] = []
        self.source = ScriptedSource(self.clock)
        self.unsupported = ""
        self.shown: list[CaptureState] = []
        self.directory = home / "store"
        self.store = EventStore.create(self.directory)
        self._appending = EventStore.open_to_append(self.directory)
        self.writer = Writer(self._appending, self.clock)
        self.capture = Capture(
            permit=lambda: self.permission,
            away=lambda: self.away,
            source=self.make,
            normaliser=Normaliser(self.clock),
            content=content or NoContent(),
            writer=self.writer,
            clock=self.clock,
            show=self.shown.append,
        )

    def make(self, motion: bool) -> ScriptedSource:
        if self.unsupported:
            raise UnsupportedError(self.unsupported)
        self.made.append(motion)
        return self.source

    def permit(self, *, capturing: bool = True, motion: bool = False) -> None:
        self.permission = Permission(
            capturing=capturing, since_ns=self.clock.monotonic, motion=motion
        )

    def press(self, *keys: str) -> None:
        """Keys pressed now."""
        now_ms = self.clock.monotonic // 10**6
        self.source.waiting += [
            RawEvent(EventKind.KEY_DOWN, now_ms, key=key, code=ord(key[0])) for key in keys
        ]

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.capture._step()

    def stored(self) -> list[str]:
        self.writer.flush()
        self._appending.close()
        return [event.key for event in self.store.events()]

    def close(self) -> None:
        self._appending.close()

    def doing(self) -> list[Doing]:
        return [state.doing for state in self.shown]


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    made = Setting(tmp_path)
    yield made
    made.close()


def test_without_a_permission_no_source_is_even_made(setting: Setting) -> None:
    setting.turn(3)
    assert setting.made == []
    assert setting.stored() == []
    assert list((setting.directory / "segments").iterdir()) == []
    assert setting.doing() == [Doing.NOT_PERMITTED]


def test_with_one_events_are_stored_as_classes(setting: Setting) -> None:
    setting.permit(motion=True)
    setting.turn()
    setting.press("a", "7", " ")
    setting.turn()
    assert setting.made == [True]
    assert setting.stored() == ["<letter>", "<digit>", "Space"]
    assert setting.doing() == [Doing.CAPTURING]


def test_a_pause_deselects_and_the_connection_stays(setting: Setting) -> None:
    setting.permit()
    setting.turn()
    setting.permit(capturing=False)
    setting.press("a")
    setting.turn(3)
    setting.permit()
    setting.turn()
    assert setting.source.log == ["start", "stop", "start"]
    assert setting.stored() == []
    assert setting.doing() == [Doing.CAPTURING, Doing.PAUSED, Doing.CAPTURING]


def test_a_withdrawn_permission_closes_the_connection(setting: Setting) -> None:
    setting.permit()
    setting.turn()
    setting.permission = None
    setting.turn(3)
    assert setting.source.log == ["start", "close"]


def test_what_was_read_while_the_permission_ended_is_dropped(setting: Setting) -> None:
    setting.permit()
    setting.turn()
    setting.press("a")
    setting.source.during_poll.append(lambda: setattr(setting, "permission", None))
    setting.turn()
    assert setting.stored() == []


def test_a_pause_that_a_stalled_process_slept_through_still_counts(tmp_path: Path) -> None:
    content = Holding()
    setting = Setting(tmp_path, content)
    setting.permit()
    setting.turn()
    setting.press("a")
    setting.turn()
    assert len(content.held) == 1

    def sleep_through() -> None:
        setting.press("b", "c")
        setting.clock.pass_(5)
        setting.permit()  # paused long ago, and resumed this moment
        setting.press("1")

    setting.source.during_poll.append(sleep_through)
    setting.turn()
    content.open = True
    setting.turn()
    assert setting.stored() == ["<digit>"]


def test_what_is_held_back_when_capture_ends_is_forgotten(tmp_path: Path) -> None:
    for end in ("pause", "withdraw", "lock"):
        content = Holding()
        setting = Setting(tmp_path / end, content)
        setting.permit()
        setting.turn()
        setting.press("a")
        setting.turn()
        assert len(content.held) == 1
        if end == "pause":
            setting.permit(capturing=False)
        elif end == "withdraw":
            setting.permission = None
        else:
            setting.away = True
        setting.turn()
        assert content.held == []
        assert setting.stored() == []


def test_a_locked_screen_is_a_pause(setting: Setting) -> None:
    setting.permit()
    setting.turn()
    setting.away = True
    setting.turn()
    setting.away = False
    setting.turn()
    assert setting.source.log == ["start", "stop", "start"]
    assert setting.doing() == [Doing.CAPTURING, Doing.AWAY, Doing.CAPTURING]


def test_while_nothing_happens_it_looks_half_as_often(setting: Setting) -> None:
    def turn_seconds() -> float:
        before = setting.clock.monotonic
        setting.turn()
        return (setting.clock.monotonic - before) / 1e9

    setting.permit()
    assert turn_seconds() == 0.25
    setting.clock.pass_(10)
    assert turn_seconds() == 0.5
    setting.press("a")
    assert turn_seconds() == 0.5
    assert turn_seconds() == 0.25


def test_motion_is_asked_for_as_permitted(setting: Setting) -> None:
    setting.permit(motion=False)
    setting.turn()
    setting.permit(motion=True)
    setting.turn(2)  # seen at the end of the first
    assert setting.made == [False, True]
    assert setting.source.log == ["start", "close", "start"]


def test_a_desktop_that_cannot_be_captured_is_said_and_not_tried_again(setting: Setting) -> None:
    setting.unsupported = "this is Wayland"
    setting.permit()
    setting.turn(3)
    assert setting.shown == [CaptureState(Doing.UNSUPPORTED, "this is Wayland")]
    setting.permission = None
    setting.turn()
    setting.unsupported = ""
    setting.permit()
    setting.turn()
    assert setting.doing()[-1] is Doing.CAPTURING


def test_a_server_that_is_gone_is_said(setting: Setting) -> None:
    setting.permit()
    setting.turn()
    setting.source.state = Health.NOT_RECEIVING
    setting.turn()
    assert setting.doing() == [Doing.CAPTURING, Doing.NOT_RECEIVING]


def test_events_are_written_after_five_seconds_or_a_frame(setting: Setting) -> None:
    def segments() -> int:
        return sum(path.stat().st_size for path in setting.directory.glob("segments/*/*"))

    setting.permit()
    setting.turn()
    setting.press("a")
    setting.turn()
    assert segments() == 0
    setting.turn(int(FLUSH_SECONDS / 0.25))
    written = segments()
    assert written > 0
    setting.press(*(chr(0x4E00 + n) for n in range(FRAME_EVENTS)))
    setting.turn()
    assert segments() > written


def test_a_store_that_cannot_be_written_is_said_and_nothing_piles_up(setting: Setting) -> None:
    setting.permit()
    setting.turn()
    layout = setting.directory / "store.json"
    content = layout.read_bytes()
    layout.unlink()
    for keys in ("ab", "cd"):
        setting.press(*keys)
        setting.turn(int(FLUSH_SECONDS / 0.25) + 1)
    assert setting.writer._events == []
    assert setting.doing() == [Doing.CAPTURING, Doing.NOT_STORING]
    layout.write_bytes(content)
    setting.press("e")
    assert len(setting.stored()) == 0  # still in the source
    setting.turn(int(FLUSH_SECONDS / 0.25) + 2)
    assert setting.stored() == ["<letter>"]
    assert setting.doing()[-1] is Doing.CAPTURING


def test_what_was_accepted_is_stored_at_the_end(setting: Setting) -> None:
    setting.permit()
    stop = threading.Event()
    setting.turn()
    setting.press("a")
    setting.source.during_poll.append(stop.set)
    setting.capture.run(stop)
    assert setting.source.log == ["start", "close"]
    assert [event.key for event in setting.store.events()] == ["<letter>"]


def test_stored_times_are_the_events_own(setting: Setting) -> None:
    setting.permit()
    setting.turn()
    setting.press("a")
    setting.turn(8)
    setting.writer.flush()
    (event,) = setting.store.events()
    assert 0 <= setting.clock.wall - event.wall_ns - 2 * SECOND < SECOND / 2
