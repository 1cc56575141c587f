"""How long events stay, on clocks that are moved by hand."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacitly_client.store import (
    EventStore,
    Instant,
    RetentionPolicy,
    StoreError,
    expire,
    mark_trained,
)
from tacitly_client.store.days import DAY_NS, day_at
from tacitly_client.store.dropped import add_dropped, read_dropped
from tacitly_common.errors import ValidationError
from tacitly_common.events import Event, EventKind

HOUR_NS = DAY_NS // 24
TODAY = 20_000


@dataclass
class Machine:
    """A machine's clocks, and the store on it. `clock` moves the wall clock alone."""

    store: Path
    at: Instant

    def passes(self, days: float) -> None:
        """Time goes by, and the store is looked at every two hours."""
        for _ in range(max(1, round(days * 12))):
            self.at = replace(
                self.at,
                wall_ns=self.at.wall_ns + 2 * HOUR_NS,
                running_ns=self.at.running_ns + 2 * HOUR_NS,
            )
            expire(self.store, self.at)

    def jumps(self, days: float) -> None:
        self.at = replace(self.at, wall_ns=self.at.wall_ns + round(days * DAY_NS))

    def is_off(self, days: float, *, clock_moves: bool = True) -> None:
        wall_ns = self.at.wall_ns + round(days * DAY_NS) * clock_moves
        self.at = Instant(wall_ns, 60 * 10**9, self.at.boot + "x")

    def types(self, day: int = TODAY, *, count: int = 1) -> None:
        with EventStore.open_to_append(self.store) as store:
            store.append([Event(EventKind.KEY_DOWN, 0, day * DAY_NS, key="k")] * count)

    @property
    def days(self) -> list[int]:
        return [day.toordinal() - day_at(0).toordinal() for day in self._opened.days()]

    @property
    def _opened(self) -> EventStore:
        return EventStore.open(self.store, now=lambda: self.at)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    at = Instant(TODAY * DAY_NS + 12 * HOUR_NS, 5 * HOUR_NS, "a")
    EventStore.create(tmp_path, now=lambda: at).close()
    return Machine(tmp_path, at)


def test_a_day_stays_for_the_cap_and_no_longer(machine: Machine) -> None:
    machine.types()
    machine.passes(6.9)
    assert machine.days == [TODAY]
    machine.passes(0.2)
    assert machine.days == []


def test_what_expired_goes_at_the_next_opening_whoever_opens(machine: Machine) -> None:
    machine.types()
    machine.passes(1)
    machine.is_off(8)
    assert machine.days == []


@pytest.mark.parametrize("days", [-10_000, -3, 3, 10_000])
def test_a_jump_of_the_clock_neither_wipes_nor_keeps(machine: Machine, days: int) -> None:
    machine.types()
    machine.passes(3)
    machine.jumps(days)
    machine.passes(3.9)
    assert machine.days == [TODAY]
    machine.passes(0.2)
    assert machine.days == []


def test_events_that_a_wrong_clock_dated_expire_like_others(machine: Machine) -> None:
    machine.types(TODAY + 5_000)
    machine.types(1)
    machine.passes(7.1)
    assert machine.days == []


def test_time_switched_off_counts_if_the_clock_is_believable(machine: Machine) -> None:
    machine.types()
    machine.is_off(6.5)
    assert machine.days == [TODAY]
    machine.passes(0.6)
    assert machine.days == []


@pytest.mark.parametrize("days", [-5_000, 5_000])
def test_a_machine_that_starts_with_a_wrong_clock_wipes_nothing(
    machine: Machine, days: int
) -> None:
    machine.types()
    machine.jumps(days)
    machine.is_off(0)
    assert machine.days == [TODAY]
    machine.passes(7.1)
    assert machine.days == []


def test_where_there_is_no_store_there_is_nothing_to_expire(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StoreError, match="holds no event store"):
            expire(directory)


def test_a_lost_clock_begins_anew(machine: Machine) -> None:
    machine.types()
    machine.passes(5)
    (machine.store / "ages.json").write_bytes(b"{")
    machine.passes(6.9)
    assert machine.days == [TODAY]
    machine.passes(0.2)
    assert machine.days == []


def test_days_that_were_trained_on_go_once_they_are_over(machine: Machine) -> None:
    machine.types(TODAY - 1)
    machine.types(TODAY)
    trained = [day_at((TODAY + n) * DAY_NS) for n in (-2, -1, 0)]
    mark_trained(machine.store, trained, machine.at)
    machine.passes(1 / 24)
    assert machine.days == [TODAY]
    machine.passes(2)
    assert machine.days == [TODAY]


def test_trained_days_stay_for_the_cap_if_the_person_wants_it(machine: Machine) -> None:
    with EventStore.open(machine.store, now=lambda: machine.at) as store:
        store.set_retention(RetentionPolicy(cap_days=2, delete_after_training=False))
    machine.types(TODAY - 1)
    mark_trained(machine.store, [day_at((TODAY - 1) * DAY_NS)], machine.at)
    machine.passes(1.9)
    assert machine.days == [TODAY - 1]
    machine.passes(0.2)
    assert machine.days == []


def test_beyond_the_size_cap_the_oldest_segments_go(machine: Machine) -> None:
    with EventStore.open(machine.store, now=lambda: machine.at) as store:
        store.set_retention(RetentionPolicy(max_bytes=5_000))
    for day in (TODAY + 2, TODAY + 1, TODAY):
        machine.types(day, count=20)
        machine.passes(1 / 24)
    # The first that was typed is the oldest, whatever its date.
    assert machine.days == [TODAY, TODAY + 1]
    with EventStore.open(machine.store, now=lambda: machine.at) as store:
        assert store.size_bytes() <= 5_000
        assert store.count() == 40


def test_counts_of_what_was_not_kept_expire_too(machine: Machine) -> None:
    add_dropped(machine.store, day_at(TODAY * DAY_NS), {"secret field": 1})
    machine.passes(6.9)
    assert read_dropped(machine.store)
    machine.passes(0.2)
    assert not read_dropped(machine.store)


def test_an_expiry_destroys_the_key_that_opened_what_went(machine: Machine) -> None:
    machine.types()
    [before] = machine.store.glob("*.key")
    machine.passes(7.1)
    [after] = machine.store.glob("*.key")
    assert before != after


@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["passes", "jumps", "is_off"]), st.integers(-40, 40)), max_size=6
    )
)
def test_whatever_the_clocks_do_a_running_week_is_enough(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, int]]
) -> None:
    at = Instant(TODAY * DAY_NS, 5 * HOUR_NS, "a")
    directory = tmp_path_factory.mktemp("store")
    EventStore.create(directory, now=lambda: at).close()
    machine = Machine(directory, at)
    machine.types()
    for move, days in moves:
        if move == "jumps":
            machine.jumps(days)
        elif move == "is_off":
            machine.is_off(abs(days))
        else:
            machine.passes(min(abs(days), 2))
    machine.passes(7.1)
    assert machine.days == []


@pytest.mark.parametrize("wrong", [{"cap_days": 0}, {"max_bytes": 0}])
def test_a_policy_keeps_something(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        RetentionPolicy(**wrong)  # type: ignore[arg-type]
