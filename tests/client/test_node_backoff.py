"""Every trouble has its own bounded wait; a sleeping laptop is noticed."""

import pytest

from tacitly_client.node.backoff import Backoff, Pause, Trouble, Wake, seconds_since_boot

CEILINGS = {
    Trouble.STILL_ONLINE: [5, 10, 20, 40, 60, 60],
    Trouble.UNAUTHENTICATED: [5, 10, 20, 40, 80, 160, 320, 640, 900, 900],
    Trouble.FORBIDDEN: [5, 10, 20, 40, 80, 160, 320, 640, 900, 900],
    Trouble.PROXY: [10, 20, 40, 80, 160, 320, 640, 900, 900],
    Trouble.THROTTLED: [5, 10, 20, 40, 80, 160, 320, 640, 900, 900],
    Trouble.SERVER: [2, 4, 8, 16, 32, 60, 60],
    Trouble.TRANSPORT: [1, 2, 4, 8, 16, 32, 60, 60],
    Trouble.TLS: [30, 60, 120, 240, 480, 960, 1920, 3600, 3600],
    Trouble.PENDING: [0.2, 0.4, 0.8, 1.6, 2, 2],
    Trouble.PROTOCOL: [5, 10, 20, 40, 80, 160, 320, 640, 900, 900],
    Trouble.UNKNOWN: [5, 10, 20, 40, 80, 160, 320, 640, 900, 900],
}


def highest(_low: float, high: float) -> float:
    return high


def lowest(low: float, _high: float) -> float:
    return low


@pytest.mark.parametrize("trouble", Trouble)
def test_the_ceiling_doubles_up_to_its_cap(trouble: Trouble) -> None:
    backoff = Backoff(highest)
    waits = [backoff.wait_after(trouble) for _ in CEILINGS[trouble]]
    assert waits == pytest.approx(CEILINGS[trouble])


@pytest.mark.parametrize("trouble", Trouble)
def test_a_long_outage_stays_at_the_cap(trouble: Trouble) -> None:
    backoff = Backoff(highest)
    waits = [backoff.wait_after(trouble) for _ in range(2_000)]
    assert waits[-1] == CEILINGS[trouble][-1]


def test_the_whole_range_below_the_ceiling_is_drawn_from_but_never_nothing() -> None:
    assert Backoff(lowest).wait_after(Trouble.TLS) == pytest.approx(0.1)


def test_success_starts_again_small() -> None:
    backoff = Backoff(highest)
    for _ in range(9):
        backoff.wait_after(Trouble.TRANSPORT)
    backoff.reset()
    assert backoff.wait_after(Trouble.TRANSPORT) == 1


def test_one_kind_of_trouble_does_not_make_another_look_old() -> None:
    backoff = Backoff(highest)
    waits = [
        backoff.wait_after(trouble)
        for trouble in (Trouble.TRANSPORT, Trouble.TRANSPORT, Trouble.SERVER, Trouble.TRANSPORT)
    ]
    assert waits == [1, 2, 2, 4]


@pytest.mark.parametrize(
    ("retry_after", "shortest"), [(120.0, 120.0), (1e9, 3_600.0), (-5.0, 0.1), (None, 0.1)]
)
def test_retry_after_is_honoured_within_an_hour(retry_after: float | None, shortest: float) -> None:
    assert Backoff(lowest).wait_after(Trouble.THROTTLED, retry_after) == pytest.approx(shortest)
    # Jitter comes on top: those who were told the same time do not come back together.
    longest = Backoff(highest).wait_after(Trouble.THROTTLED, retry_after)
    assert longest >= shortest + 4.9


class Machine:
    """A machine whose clock moves by waiting, and by `asleep` seconds during the n-th wait."""

    def __init__(self, asleep: dict[int, float] | None = None, stop_at: int = -1) -> None:
        self.now, self.waits = 1_000.0, list[float]()
        self._asleep, self._stop_at = asleep or {}, stop_at

    def wait(self, seconds: float) -> bool:
        self.now += seconds + self._asleep.get(len(self.waits), 0.0)
        self.waits.append(seconds)
        return len(self.waits) == self._stop_at

    def elapsed(self) -> float:
        return self.now


def test_a_wait_is_the_time_asked_for() -> None:
    machine = Machine()
    assert Pause(machine.wait, machine.elapsed).for_seconds(25) is Wake.ELAPSED
    assert machine.waits == [10, 10, 5]


def test_a_stop_ends_a_wait() -> None:
    machine = Machine(stop_at=2)
    assert Pause(machine.wait, machine.elapsed).for_seconds(3_600) is Wake.STOPPED
    assert machine.now == 1_020


def test_a_sleep_in_the_middle_ends_the_wait_early() -> None:
    machine = Machine(asleep={1: 8 * 3_600})
    assert Pause(machine.wait, machine.elapsed).for_seconds(60) is Wake.RESUMED
    assert len(machine.waits) == 2


def test_a_busy_machine_is_not_taken_for_one_that_slept() -> None:
    machine = Machine(asleep={0: 20})
    assert Pause(machine.wait, machine.elapsed).for_seconds(60) is Wake.ELAPSED


def test_the_clock_of_waits_only_grows() -> None:
    first = seconds_since_boot()
    assert seconds_since_boot() >= first
