"""What is done to stores in processes that are killed. Apart, so that those load little."""

from pathlib import Path
from typing import Final

from former_store import make_former_store
from tacitly_client.store import EventStore, expire, mark_trained
from tacitly_client.store.days import DAY_NS, day_at
from tacitly_common.events import Event, EventKind

SECOND_NS: Final = 10**9


def typed(day: int, text: str) -> list[Event]:
    """A key a second, from midnight on."""
    return [
        Event(EventKind.KEY_DOWN, n, day * DAY_NS + n * SECOND_NS, key=key, app="editor")
        for n, key in enumerate(text)
    ]


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
