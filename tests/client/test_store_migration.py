"""A store of the first form, opened by today's program."""

from pathlib import Path

import pytest

from former_store import make_former_store
from tacitly_client.store import EventStore, StoreError, expire
from tacitly_client.store.days import DAY_NS
from tacitly_common.events import Event, EventKind, to_json_line


def typed(day: int, count: int) -> list[Event]:
    return [
        Event(EventKind.KEY_DOWN, n, day * DAY_NS + n * 10**9, key=chr(97 + n % 26), app="mail")
        for n in range(count)
    ]


FRAMES = [typed(100, 3), typed(100, 2_000), typed(101, 5)]


def lines(store: EventStore) -> list[bytes]:
    return sorted(to_json_line(event) for event in store.events())


def test_nothing_is_lost_and_no_old_key_opens_anything_any_more(tmp_path: Path) -> None:
    make_former_store(tmp_path, FRAMES)
    old_key = (tmp_path / "store.key").read_bytes()
    with EventStore.open(tmp_path) as store:
        assert lines(store) == sorted(to_json_line(event) for each in FRAMES for event in each)
        store.append(typed(102, 1))
        assert store.count() == 2_009
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if path.name in ("store.key", "store.pub")]
    assert not [path for path in files if path.read_bytes().startswith(b"TACITLY1")]
    assert not [path for path in files if old_key in path.read_bytes()]
    for path in files:
        assert path.stat().st_mode & 0o777 == 0o600, path


def test_a_damaged_old_frame_costs_itself_alone(tmp_path: Path) -> None:
    make_former_store(tmp_path, FRAMES)
    newest = max(tmp_path.glob("segments/*/*.seg"), key=lambda path: path.parent.name)
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    with EventStore.open(tmp_path) as store:
        assert store.count() == 2_003


def test_a_damaged_old_key_is_named_and_nothing_is_touched(tmp_path: Path) -> None:
    make_former_store(tmp_path, FRAMES)
    key = tmp_path / "store.key"
    right = key.read_bytes()
    key.write_bytes(right[:-1])
    with pytest.raises(StoreError, match="31 bytes instead of 32"):
        EventStore.open(tmp_path)
    key.write_bytes(right)
    assert EventStore.open(tmp_path).count() == 2_008


def test_capture_says_what_to_do_before_it_was_opened_once(tmp_path: Path) -> None:
    make_former_store(tmp_path, FRAMES)
    with pytest.raises(
        StoreError, match="`tacitly-agent status` brings one of an earlier version up to date"
    ):
        EventStore.open_to_append(tmp_path)


def test_expiring_at_start_is_opening_it_once(tmp_path: Path) -> None:
    make_former_store(tmp_path, FRAMES)
    expire(tmp_path)
    EventStore.open_to_append(tmp_path).close()
    assert EventStore.open(tmp_path).count() == 2_008


def test_a_store_of_a_later_program_is_left_alone(tmp_path: Path) -> None:
    EventStore.create(tmp_path).close()
    (tmp_path / "store.json").write_bytes(b'{"version": 3, "new": true}')
    with pytest.raises(StoreError, match="version 3, this program knows 2; update it"):
        EventStore.open(tmp_path)
