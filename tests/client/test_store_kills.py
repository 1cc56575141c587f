"""The store under SIGKILL: nothing that was stored is lost, no erasure stays half done."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from former_store import make_former_store
from killed import killed_before
from tacitly_client.store import EventStore, StoreError, expire, mark_trained
from tacitly_client.store.days import DAY_NS, day_at
from tacitly_client.store.erasure import is_pending
from tacitly_client.store.layout import Vault
from tacitly_client.store.segment import read_segment
from tacitly_common.events import Event, EventKind

SECOND_NS = 10**9


def typed(day: int, text: str) -> list[Event]:
    """A key a second, from midnight on."""
    return [
        Event(EventKind.KEY_DOWN, n, day * DAY_NS + n * SECOND_NS, key=key, app="editor")
        for n, key in enumerate(text)
    ]


def keys(store: Path) -> str:
    with EventStore.open(store) as opened:
        return "".join(event.key for event in opened.events())


def three_days(store: Path) -> None:
    """The middle one in two segments, of two frames and one."""
    with EventStore.create(store) as made:
        made.append(typed(100, "abc"))
        made.append(typed(101, "def"))
        made.append(typed(101, "xyz"))
    with EventStore.open_to_append(store) as made:
        made.append(typed(101, "uvw"))
        made.append(typed(102, "ghi"))


def two_former_days(store: Path) -> None:
    make_former_store(store, [typed(100, "abc"), typed(101, "def")])


def append(store: Path) -> None:
    with EventStore.open_to_append(store) as opened:
        opened.append(typed(103, "jkl"))


def erase_a_day_from_its_second_key_on(store: Path) -> None:
    start_ns = typed(101, "a")[0].wall_ns + SECOND_NS
    with EventStore.open(store) as opened:
        opened.erase(start_ns, start_ns + DAY_NS)


def erase_application(store: Path) -> None:
    with EventStore.open(store) as opened:
        opened.erase(app="editor")


def expire_trained(store: Path) -> None:
    mark_trained(store, [day_at(100 * DAY_NS), day_at(101 * DAY_NS)])
    expire(store)


def only_open(store: Path) -> None:
    EventStore.open(store).close()


def assert_opens_nothing(store: Path, copy: Path) -> None:
    """No key that is left opens a segment of a copy that was made before."""
    vault = Vault.of(store)
    for path in copy.glob("segments/*/*.seg"):
        with pytest.raises(StoreError, match="not there"):
            list(read_segment(path, vault.key, lambda _damage: None))


@pytest.mark.parametrize(
    ("make", "act", "before", "after"),
    [
        (three_days, append, "abcduxevyfwzghi", "abcduxevyfwzghijkl"),
        (three_days, erase_a_day_from_its_second_key_on, "abcduxevyfwzghi", "abcduxhi"),
        (three_days, erase_application, "abcduxevyfwzghi", ""),
        (three_days, expire_trained, "abcduxevyfwzghi", "ghi"),
        (two_former_days, only_open, "abcdef", "abcdef"),
    ],
)
def test_killed_at_any_step_it_is_as_before_or_gets_done_at_the_next_opening(
    tmp_path: Path,
    make: Callable[[Path], None],
    act: Callable[[Path], None],
    before: str,
    after: str,
) -> None:
    made = tmp_path / "made"
    make(made)
    kills, killed = 0, True
    while killed:
        store = tmp_path / str(kills)
        shutil.copytree(made, store)
        killed = killed_before(kills, act, store)
        begun = is_pending(store)
        # Which of two segments is read first is chance, where their times are the same.
        found = sorted(keys(store))
        assert found == sorted(after) or (killed and not begun and found == sorted(before))
        assert not is_pending(store)
        assert len(list(store.glob("*.key"))) == 1
        assert not [*store.rglob("*.part")]
        if act is not append and (begun or not killed):
            assert_opens_nothing(store, made)
        kills += killed
    assert kills >= 5
