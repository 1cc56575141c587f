"""The encrypted event store on a real file system."""

import os
import random
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacitly_client.store import Damage, EventStore, StoreError
from tacitly_client.store.dropped import add_dropped
from tacitly_common.errors import ValidationError
from tacitly_common.events import Event, EventKind

DAY_NS = 86_400 * 10**9
SECRET = "correct-horse-battery"


def typed(text: str, start_ns: int = 1_700_000_000 * 10**9) -> list[Event]:
    """One key_down a character, a millisecond apart."""
    return [
        Event(EventKind.KEY_DOWN, i * 10**6, start_ns + i * 10**6, key=character)
        for i, character in enumerate(text)
    ]


def all_bytes(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


def span_of(characters: str, text: str = "abc") -> tuple[int, int]:
    """The times of some characters of `typed(text)`."""
    times = [event.wall_ns for event in typed(text) if event.key in characters]
    return times[0], times[-1] + 1


def private_key(directory: Path) -> Path:
    [path] = directory.glob("*.key")
    return path


def segments(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.seg"))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3 * DAY_NS), st.text(min_size=1, max_size=3)), max_size=50)
)
def test_what_was_appended_is_read_back_in_order_of_time(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, str]]
) -> None:
    events = [Event(EventKind.KEY_DOWN, 0, wall, key=key) for wall, key in drawn]
    with EventStore.create(tmp_path_factory.mktemp("store")) as store:
        store.append(events)
        assert list(store.events()) == sorted(events, key=lambda event: event.wall_ns)
        assert store.count() == len(events)


def test_reading_by_time_takes_the_start_and_leaves_the_end(tmp_path: Path) -> None:
    events = typed("abcdef")
    with EventStore.create(tmp_path) as store:
        store.append(events)
        window = store.events(events[1].wall_ns, events[4].wall_ns)
        assert [event.key for event in window] == ["b", "c", "d"]


def test_nothing_typed_is_readable_in_the_files(tmp_path: Path) -> None:
    with EventStore.create(tmp_path) as store:
        store.append(typed(SECRET))
        plain = b"\n".join(event.key.encode() for event in store.events())
    stored = all_bytes(tmp_path)
    assert b"key_down" not in stored
    assert plain not in stored
    assert SECRET.encode() not in stored


def test_what_is_in_a_store_is_for_its_owner_alone(tmp_path: Path) -> None:
    with EventStore.create(tmp_path / "store") as store:
        store.append(typed("abc"))
        store.erase(*span_of("b"))
    add_dropped(tmp_path / "store", date(2026, 11, 25), {"secret field": 1})
    for path in [tmp_path / "store", *(tmp_path / "store").rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_appending_needs_no_private_key(tmp_path: Path) -> None:
    EventStore.create(tmp_path).close()
    key = private_key(tmp_path)
    raw = key.read_bytes()
    key.unlink()
    with EventStore.open_to_append(tmp_path) as store:
        store.append(typed("abc"))
        with pytest.raises(StoreError, match="may only add"):
            store.count()
    with pytest.raises(StoreError, match=key.name):
        EventStore.open(tmp_path).count()
    key.write_bytes(raw)
    assert EventStore.open(tmp_path).count() == 3


def test_creating_over_a_store_is_refused_and_loses_nothing(tmp_path: Path) -> None:
    with EventStore.create(tmp_path) as store:
        store.append(typed("abc"))
    with pytest.raises(StoreError, match="exists already"):
        EventStore.create(tmp_path)
    assert EventStore.open(tmp_path).count() == 3


def test_wrong_key_is_named_as_such(tmp_path: Path) -> None:
    with EventStore.create(tmp_path) as store:
        store.append(typed("abc"))
    key = private_key(tmp_path)
    own = key.read_bytes()
    key.write_bytes(bytes(32))
    with pytest.raises(StoreError, match="put the right key back"):
        EventStore.open(tmp_path).count()
    key.write_bytes(own)
    assert EventStore.open(tmp_path).count() == 3


def test_one_flipped_byte_costs_its_frame_and_is_named(tmp_path: Path) -> None:
    with EventStore.create(tmp_path) as store:
        for text in ("aaa", "bbb", "ccc"):
            store.append(typed(text))
    [segment] = segments(tmp_path)
    data = bytearray(segment.read_bytes())
    middle_frame = 96 + (len(data) - 96) // 2
    data[middle_frame] ^= 1
    segment.write_bytes(data)

    store = EventStore.open(tmp_path)
    with pytest.raises(StoreError, match=r"frame 1: does not authenticate"):
        list(store.events())
    damage: list[Damage] = []
    assert {event.key for event in store.events(on_damage=damage.append)} == {"a", "c"}
    assert [(item.segment, item.frame) for item in damage] == [(segment, 1)]


def test_frames_cannot_be_exchanged(tmp_path: Path) -> None:
    with EventStore.create(tmp_path) as store:
        store.append(typed("aaa"))
        store.append(typed("bbb"))
    [segment] = segments(tmp_path)
    data = segment.read_bytes()
    half = (len(data) - 96) // 2
    segment.write_bytes(data[:96] + data[96 + half :] + data[96 : 96 + half])
    damage: list[Damage] = []
    assert list(EventStore.open(tmp_path).events(on_damage=damage.append)) == []
    assert len(damage) == 2


@pytest.mark.parametrize("keep", [1, 50, 97, 99, 120])
def test_a_torn_segment_costs_only_its_own_tail(tmp_path: Path, keep: int) -> None:
    with EventStore.create(tmp_path) as store:
        store.append(typed("abc"))
        store.append(typed("xyz", start_ns=DAY_NS))
    torn = segments(tmp_path)[-1]
    torn.write_bytes(torn.read_bytes()[:keep])
    damage: list[Damage] = []
    readable = [event.key for event in EventStore.open(tmp_path).events(on_damage=damage.append)]
    assert readable == ["x", "y", "z"]
    assert len(damage) == 1


def test_erasing_a_span_leaves_the_rest_and_no_old_file(tmp_path: Path) -> None:
    events = typed("abcdef")
    with EventStore.create(tmp_path) as store:
        store.append(events)
        [old] = segments(tmp_path)
        assert store.erase(events[2].wall_ns, events[4].wall_ns).events == 2
        assert [event.key for event in store.events()] == ["a", "b", "e", "f"]
    assert not old.exists()


def test_erasing_everything_leaves_no_segment(tmp_path: Path) -> None:
    with EventStore.create(tmp_path) as store:
        store.append(typed("abc"))
        store.append(typed("xyz", start_ns=5 * DAY_NS))
        assert store.erase().events == 6
        assert store.count() == 0
    assert segments(tmp_path) == []


def test_unfinished_survivors_do_not_count(tmp_path: Path) -> None:
    with EventStore.create(tmp_path) as store:
        store.append(typed("abc"))
        [old] = segments(tmp_path)
        part = old.with_name(f"0123.{old.stem}.part")
        part.write_bytes(old.read_bytes())
        assert store.count() == 3
        store.erase(0, 1)
    assert not part.exists()


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from tacitly_client.store import EventStore, StoreError
from tacitly_common.events import Event, EventKind
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
event = Event(EventKind.KEY_DOWN, 0, 0, key="a")
with EventStore.create(Path(sys.argv[1])) as store:
    store.append([event] * 100)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_192, resource.RLIM_INFINITY))
    try:
        store.append([event] * 1_000)
    except StoreError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.append([event] * 10)
    print(store.count(), len(list(Path(sys.argv[1]).rglob("*.seg"))))
"""


def test_a_write_the_disk_refuses_is_named_and_loses_nothing_else(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / "store"],
        capture_output=True,
        text=True,
        check=True,
    )
    message, counts = result.stdout.splitlines()
    assert "were not stored, earlier ones are" in message
    # The second segment: the first one's key and frame number have sealed what was refused.
    assert counts.split() == ["110", "2"]


def test_a_writer_whose_file_another_process_erases_goes_on_in_a_fresh_one(tmp_path: Path) -> None:
    with EventStore.create(tmp_path) as writer:
        writer.append(typed("abc"))
        with EventStore.open(tmp_path) as other:
            assert other.erase().events == 3
        writer.append(typed("de"))
        assert [event.key for event in EventStore.open(tmp_path).events()] == ["d", "e"]


def test_erasing_everything_leaves_no_day_that_was_worked_on(tmp_path: Path) -> None:
    with EventStore.create(tmp_path) as store:
        store.append(typed("abc"))
        store.append(typed("xyz", start_ns=5 * DAY_NS))
        store.erase(since_ns=6 * DAY_NS)
        assert [path.name for path in (tmp_path / "segments").iterdir()] == ["1970-01-06"]
        store.erase()
    assert list((tmp_path / "segments").iterdir()) == []


def test_survivors_have_their_name_on_the_disk_before_the_old_file_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = typed("abcdef")
    store = EventStore.create(tmp_path)
    store.append(events)
    [old] = segments(tmp_path)
    before = old.read_bytes()
    fsync, synced = os.fsync, []

    def noted(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        untouched = old.exists() and old.read_bytes() == before
        synced.append((path, len(segments(tmp_path)), untouched))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    store.erase(events[0].wall_ns, events[3].wall_ns)
    names = [entry for entry in synced if entry[0] in (old, old.parent)]
    # The survivors' file made and named, the old one overwritten, the old one gone.
    assert (old.parent, 2, True) in names[: names.index((old, 2, False))]
    assert names[-1] == (old.parent, 1, False)


def test_the_name_of_a_new_day_is_made_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    EventStore.create(tmp_path).close()
    fsync, synced = os.fsync, []

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    with EventStore.open(tmp_path) as store:
        store.append(typed("a"))
    assert tmp_path / "segments" in synced


def test_the_last_nanosecond_of_a_day_is_erased_with_its_day(tmp_path: Path) -> None:
    with EventStore.create(tmp_path) as store:
        store.append(typed("a", start_ns=20_000 * DAY_NS - 1))
        assert store.erase(until_ns=20_000 * DAY_NS).events == 1


def test_a_frame_that_no_reader_would_accept_is_refused_and_loses_nothing_else(
    tmp_path: Path,
) -> None:
    with EventStore.create(tmp_path) as store:
        store.append(typed("a"))
        overlong = Event(EventKind.FOCUS, 0, 1_700_000_000 * 10**9, app="x" * 2**24)
        with pytest.raises(StoreError, match="were not stored"):
            store.append([overlong])
        store.append(typed("b", start_ns=1_700_000_001 * 10**9))
        assert [event.key for event in store.events()] == ["a", "b"]


@pytest.mark.parametrize(
    "event",
    [
        Event(EventKind.POINTER_MOVE, 0, 0, x=float("nan")),
        Event(EventKind.SCROLL, 0, 0, dy=float("inf")),
        Event(EventKind.KEY_DOWN, 0, 0, key="\ud800"),
        Event(EventKind.KEY_DOWN, 0, 2**80, key="a"),
    ],
)
def test_an_event_that_could_not_be_read_back_is_refused(tmp_path: Path, event: Event) -> None:
    with EventStore.create(tmp_path) as store:
        store.append(typed("a"))
        with pytest.raises(ValidationError):
            store.append([event])
        assert store.count() == 1


WRITER = """
import sys
from pathlib import Path
from tacitly_client.store import EventStore
from tacitly_common.events import Event, EventKind
with EventStore.open(Path(sys.argv[1])) as store:
    number = int(sys.argv[2])
    while True:
        store.append([Event(EventKind.KEY_DOWN, number, number * 10**6, key="k")] * 10)
        number += 1
        print(number, flush=True)
"""


def test_killed_writer_loses_no_acknowledged_event(tmp_path: Path) -> None:
    EventStore.create(tmp_path).close()
    rng = random.Random(1)
    acknowledged = 0
    for _ in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path, str(acknowledged)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        with writer, writer.stdout:
            writer.stdout.readline()
            time.sleep(rng.uniform(0, 0.1))
            os.kill(writer.pid, signal.SIGKILL)
            lines = writer.stdout.read().split("\n")
        acknowledged = max([acknowledged + 1, *(int(line) for line in lines[:-1])])
        numbers = {event.monotonic_ns for event in EventStore.open(tmp_path).events()}
        assert set(range(acknowledged)) <= numbers
        # What the killed writer had appended but not yet acknowledged.
        acknowledged = max(numbers) + 1
