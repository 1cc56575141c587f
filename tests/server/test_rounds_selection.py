import random
from collections import Counter
from collections.abc import Callable

import msgspec
import pytest
from campaign_home import subject
from inprocess_grid import FakeClock, InProcessGrid, silent

from plans import small_plan
from tacitly_server.rounds.selection import select

COHORT = msgspec.structs.replace(
    small_plan().cohort, target=4, minimum=2, selection_timeout_seconds=30
)
NOBODY: frozenset[str] = frozenset()


class Devices:
    """Ten enrolled nodes of ten subjects, all online."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.grid = InProcessGrid(dict.fromkeys(range(1, 11), silent), self.clock)
        self.enrolled = {n: subject(n) for n in self.grid.nodes}

    def select(
        self,
        left_out: frozenset[str] = NOBODY,
        seed: int = 0,
        permitted: Callable[[], bool] = lambda: True,
    ) -> dict[int, str] | None:
        return select(
            self.grid,
            COHORT,
            lambda: self.enrolled,
            left_out,
            clock=self.clock,
            rng=random.Random(seed),
            permitted=permitted,
        )


@pytest.fixture
def devices() -> Devices:
    return Devices()


def test_the_target_is_drawn_at_once_when_it_is_online(devices: Devices) -> None:
    cohort = devices.select()
    assert cohort is not None
    assert len(cohort) == 4
    assert all(devices.enrolled[node] == s for node, s in cohort.items())
    assert devices.clock.now == 0


def test_each_subject_is_drawn_equally_often(devices: Devices) -> None:
    drawn: Counter[int] = Counter()
    for seed in range(1_500):
        drawn.update(list(devices.select(seed=seed) or {}))
    # 600 of 1,500 expected each, standard deviation 19.
    assert all(520 < drawn[node] < 680 for node in range(1, 11))


def test_the_default_randomness_is_the_systems() -> None:
    from tacitly_server.rounds.campaign import Campaign

    factory = Campaign.__dataclass_fields__["rng"].default_factory
    assert factory is random.SystemRandom


def test_two_devices_of_one_person_are_one_chance_and_one_seat(devices: Devices) -> None:
    for node in range(1, 8):
        devices.enrolled[node] = subject(1)
    drawn: Counter[str] = Counter()
    for seed in range(300):
        cohort = devices.select(seed=seed) or {}
        assert len(set(cohort.values())) == len(cohort) == 4
        drawn.update(cohort.values())
    assert set(drawn.values()) == {300}  # four subjects, four seats


def test_strangers_and_the_exhausted_are_never_drawn(devices: Devices) -> None:
    del devices.enrolled[1]
    exhausted = frozenset(subject(n) for n in (2, 3))
    for seed in range(100):
        assert not {1, 2, 3} & set(devices.select(exhausted, seed) or {})


def test_it_waits_for_the_target_no_longer_than_its_own_timeout(devices: Devices) -> None:
    devices.grid.online = {1, 2, 3}
    cohort = devices.select()
    assert cohort is not None
    assert set(cohort) == {1, 2, 3}
    assert devices.clock.now == 30


def test_it_does_not_wait_for_more_than_could_ever_come(devices: Devices) -> None:
    cohort = devices.select(frozenset(subject(n) for n in range(4, 11)))
    assert cohort is not None
    assert set(cohort) == {1, 2, 3}
    assert devices.clock.now == 0


def test_below_the_minimum_it_gives_up_in_time(devices: Devices) -> None:
    devices.grid.online = {1}
    assert devices.select() is None
    assert devices.clock.now == 30


def test_who_comes_online_while_it_waits_is_seen(devices: Devices) -> None:
    devices.grid.online = {1, 2, 3}
    sleep = devices.clock.sleep

    def come_online_later(seconds: float) -> None:
        sleep(seconds)
        if devices.clock.now >= 10:
            devices.grid.online = {1, 2, 3, 4}

    devices.clock.sleep = come_online_later  # type: ignore[method-assign]
    assert set(devices.select() or {}) == {1, 2, 3, 4}
    assert devices.clock.now == 10


def test_nobody_is_waited_for_without_a_permit(devices: Devices) -> None:
    devices.grid.online = {1, 2, 3}
    assert devices.select(permitted=lambda: devices.clock.now < 2) is None
    assert devices.clock.now == 2
