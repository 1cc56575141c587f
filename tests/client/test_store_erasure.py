"""Erasing: what stays, what is gone, and what could still be opened by whom."""

import base64
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacitly_client.store import (
    Damage,
    EventStore,
    Instant,
    Span,
    StoreError,
    expire,
)
from tacitly_client.store.days import DAY_NS, day_at
from tacitly_client.store.dropped import add_dropped, read_dropped
from tacitly_client.store.erasure import is_pending
from tacitly_client.store.layout import Vault
from tacitly_client.store.segment import read_segment
from tacitly_common.events import Event, EventKind, to_json_line

SECOND_NS = 10**9
CANARY = "canary-7f3a-of-a-typed-secret"
NOON_NS = 20_000 * DAY_NS + DAY_NS // 2


def typed(*keys: str, start_ns: int = NOON_NS, app: str = "editor") -> list[Event]:
    """A key a second."""
    return [
        Event(EventKind.KEY_DOWN, 0, start_ns + n * SECOND_NS, key=key, app=app)
        for n, key in enumerate(keys)
    ]


def keys(store: EventStore) -> list[str]:
    return [event.key for event in store.events()]


def private_key(directory: Path) -> Path:
    [path] = directory.glob("*.key")
    return path


def openable(copy: Path, store: Path) -> list[Event]:
    """What the keys that a store has now open of a copy of its segments."""
    vault, found = Vault.of(store), []
    for path in copy.rglob("*.seg"):
        try:
            found += list(read_segment(path, vault.key, lambda _damage: None))
        except StoreError:
            continue
    return found


DRAWN_EVENTS = st.lists(
    st.tuples(
        st.integers(0, 4 * DAY_NS),
        st.sampled_from(["editor", "mail", ""]),
        st.text(min_size=1, max_size=3),
    ),
    max_size=40,
)
DRAWN_SPANS = st.lists(
    st.builds(
        Span,
        st.none() | st.integers(0, 4 * DAY_NS),
        st.none() | st.integers(0, 4 * DAY_NS),
        st.none() | st.sampled_from(["editor", "mail", "", "never seen"]),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=30, deadline=None)
@given(DRAWN_EVENTS, DRAWN_SPANS)
def test_erasing_any_spans_leaves_exactly_the_rest(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[tuple[int, str, str]],
    spans: list[Span],
) -> None:
    events = [Event(EventKind.KEY_DOWN, 0, wall, key=key, app=app) for wall, app, key in drawn]
    rest = events
    with EventStore.create(tmp_path_factory.mktemp("store")) as store:
        store.append(events)
        for span in spans:
            erased = store.erase(span.since_ns, span.until_ns, app=span.app)
            left = [event for event in rest if not span.holds(event)]
            assert erased.events == len(rest) - len(left)
            rest = left
            with EventStore.open(store.directory) as again:
                found = list(again.events())
            assert found == sorted(rest, key=lambda event: event.wall_ns) or (
                sorted(map(to_json_line, found)) == sorted(map(to_json_line, rest))
            )


def test_no_key_that_is_left_opens_a_copy_made_before(tmp_path: Path) -> None:
    with EventStore.create(tmp_path / "store") as store:
        store.append(typed(*CANARY))
        store.append(typed("stays", start_ns=NOON_NS + DAY_NS))
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    assert len(openable(tmp_path / "copy", tmp_path / "store")) == len(CANARY) + 1
    store.erase(until_ns=NOON_NS + DAY_NS // 2)
    assert keys(store) == ["stays"]
    assert openable(tmp_path / "copy", tmp_path / "store") == []


def test_a_canary_is_in_no_file_and_no_segment_afterwards(tmp_path: Path) -> None:
    with EventStore.create(tmp_path / "store") as store:
        store.append([*typed("before"), *typed(CANARY, start_ns=NOON_NS + 60 * SECOND_NS)])
        store.append(typed("after", start_ns=NOON_NS + 120 * SECOND_NS))
        old = private_key(tmp_path / "store").read_bytes()
        store.erase(NOON_NS + 60 * SECOND_NS, NOON_NS + 61 * SECOND_NS)
    everything = b"\n".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    decrypted = b"\n".join(to_json_line(event) for event in openable(tmp_path, store.directory))
    for form in (CANARY.encode(), old, old.hex().encode(), base64.b64encode(old)):
        assert form not in everything + decrypted
    assert b"before" in decrypted
    assert b"after" in decrypted


def test_a_writer_goes_on_in_a_segment_that_was_sealed_anew_under_it(tmp_path: Path) -> None:
    EventStore.create(tmp_path).close()
    with EventStore.open_to_append(tmp_path) as writer, EventStore.open(tmp_path) as store:
        writer.append(typed("a"))
        [segment] = tmp_path.rglob("*.seg")
        header = segment.read_bytes()[:96]
        store.erase(0, 1)
        assert segment.read_bytes()[:96] != header
        writer.append(typed("b", start_ns=NOON_NS + SECOND_NS))
        assert [*tmp_path.rglob("*.seg")] == [segment]
        assert keys(store) == ["a", "b"]


@pytest.mark.parametrize("seconds_before", [0.001, 60, 1_000])
def test_what_capture_still_held_back_is_not_stored_after_it_was_erased(
    tmp_path: Path, seconds_before: float
) -> None:
    EventStore.create(tmp_path).close()
    now_ns = time.time_ns()
    held = typed("h", start_ns=now_ns - round(seconds_before * SECOND_NS), app="editor")
    other = typed("o", start_ns=now_ns - 60 * SECOND_NS, app="mail")
    with EventStore.open_to_append(tmp_path) as capture, EventStore.open(tmp_path) as store:
        store.erase(app="editor")
        capture.append([*held, *other])
        later = typed("l", start_ns=time.time_ns(), app="editor")
        capture.append(later)
        assert keys(store) == ["o", "l"]


def test_no_name_of_what_was_erased_stays(tmp_path: Path) -> None:
    instant = Instant.now()
    with EventStore.create(tmp_path, now=lambda: instant) as store:
        store.append(typed("a", app="a-telling-name"))
        expire(tmp_path, instant)
        store.erase(app="a-telling-name")
        later = replace(
            instant,
            wall_ns=instant.wall_ns + 3_600 * SECOND_NS,
            running_ns=instant.running_ns + 3_600 * SECOND_NS,
        )
        expire(tmp_path, later)
    for path in tmp_path.rglob("*"):
        assert "2024-10-04" not in path.name
        if path.is_file():
            assert b"a-telling-name" not in path.read_bytes(), path
            assert b"2024-10-04" not in path.read_bytes(), path


def test_a_recording_of_long_ago_can_be_stored_after_everything_was_erased(tmp_path: Path) -> None:
    with EventStore.create(tmp_path) as store:
        store.erase()
        store.append(typed("a"))
        assert keys(store) == ["a"]


def test_counts_of_what_was_not_kept_go_with_their_day_alone(tmp_path: Path) -> None:
    with EventStore.create(tmp_path) as store:
        first, second = day_at(NOON_NS), day_at(NOON_NS + DAY_NS)
        add_dropped(tmp_path, first, {"secret field": 2})
        add_dropped(tmp_path, first, {"secret field": 1})
        add_dropped(tmp_path, second, {"excluded application": 4})
        store.erase(app="editor")
        assert read_dropped(tmp_path)[first] == {"secret field": 3}
        # A day in any time zone, and no other day whole.
        store.erase(NOON_NS - DAY_NS, NOON_NS + DAY_NS // 2 + DAY_NS // 4)
        assert read_dropped(tmp_path) == {second: {"excluded application": 4}}
        store.erase()
        assert read_dropped(tmp_path) == {}


# Without its key ---------------------------------------------------------------------------------


@contextmanager
def key_out_of_reach(directory: Path) -> Iterator[None]:
    key = private_key(directory)
    hidden = directory.parent / "hidden"
    key.rename(hidden)
    yield
    hidden.rename(key)


def test_whole_days_go_without_the_key_and_parts_wait_for_it(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    with EventStore.create(directory) as store:
        for day in range(3):
            store.append(typed("a", "b", start_ns=NOON_NS + day * DAY_NS))
        with key_out_of_reach(directory), pytest.raises(StoreError, match="not there"):
            store.erase(until_ns=NOON_NS + DAY_NS + SECOND_NS)
        assert is_pending(directory)
        assert [day.isoformat() for day in store.days()] == ["2024-10-05", "2024-10-06"]
        assert keys(store) == ["b", "a", "b"]  # reading finishes it
        assert not is_pending(directory)


def test_an_erasure_that_is_finished_late_spares_what_was_stored_since(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    asked_ns = time.time_ns()
    with EventStore.create(directory) as store, EventStore.open_to_append(directory) as capture:
        capture.append(typed("old", start_ns=asked_ns - 3 * SECOND_NS))
        with key_out_of_reach(directory), pytest.raises(StoreError):
            store.erase(asked_ns - 600 * SECOND_NS)
        capture.append(typed("held", start_ns=asked_ns - 2 * SECOND_NS))
        capture.append(typed("new", start_ns=time.time_ns()))
        assert keys(store) == ["new"]


def test_erasing_everything_takes_what_a_wrong_clock_dated_ahead(tmp_path: Path) -> None:
    with EventStore.create(tmp_path) as store:
        store.append(typed("a", start_ns=time.time_ns() + 3 * SECOND_NS))
        store.append(typed("b", start_ns=time.time_ns() + 900 * DAY_NS))
        store.erase(time.time_ns() - 600 * SECOND_NS)
        assert keys(store) == []


def test_erasing_everything_needs_no_key_at_all(tmp_path: Path) -> None:
    with EventStore.create(tmp_path) as store:
        store.append(typed("a"))
        private_key(tmp_path).unlink()
        store.erase()
        store.append(typed("b"))
        assert keys(store) == ["b"]


def test_a_bad_frame_outside_what_is_erased_costs_only_itself(tmp_path: Path) -> None:
    with EventStore.create(tmp_path) as store:
        for key in "abc":
            store.append(typed(key))
        [segment] = tmp_path.rglob("*.seg")
        content = bytearray(segment.read_bytes())
        content[96 + (len(content) - 96) // 2] ^= 1
        segment.write_bytes(content)
        store.erase(0, 1)
        damage: list[Damage] = []
        assert [event.key for event in store.events(on_damage=damage.append)] == ["a", "c"]
        assert len(damage) == 1


# A full disk -------------------------------------------------------------------------------------


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", directory], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system takes root")
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


def fill(path: Path) -> None:
    """Leave no block of the file system free."""
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4_096)


def test_on_a_full_disk_nothing_is_lost_and_erasing_makes_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, EventStore.create(disk / "store") as store:
        store.append(typed("first"))
        store.append(typed(*"x" * 500, start_ns=NOON_NS + DAY_NS))
        fill(disk / "filler")
        for _ in range(2):
            with pytest.raises(StoreError, match="Free some space"):
                store.append(typed(*"y" * 100, start_ns=NOON_NS + DAY_NS))
        assert store.count() == 501
        assert store.erase(NOON_NS + DAY_NS // 2).events == 500
        store.append(typed("again", start_ns=NOON_NS + SECOND_NS))
        assert keys(store) == ["first", "again"]


FULL = """
import resource, signal, sys
from pathlib import Path
from tacitly_client.store import EventStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with EventStore.open(Path(sys.argv[1])) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    store.erase(*map(int, sys.argv[3:]))
"""


def test_an_erasure_for_which_there_is_no_room_is_finished_when_there_is(tmp_path: Path) -> None:
    with EventStore.create(tmp_path) as store:
        store.append(typed("out", *"x" * 200))
    span = (str(NOON_NS), str(NOON_NS + SECOND_NS))
    command = [sys.executable, "-c", FULL, tmp_path, "2000", *span]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "Free some space" in done.stderr
    assert is_pending(tmp_path)
    with EventStore.open(tmp_path) as store:
        assert keys(store) == ["x"] * 200
