"""Devices that say they paid what nobody charged them, or less than they said before."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from desk import Desk, desk_beside_superlink
from ledgers import PLAN, SUBJECTS, charge
from tacitly_server.enrolment.alarms import AlarmKind, read_alarms
from tacitly_server.ledger.place import open_ledger
from tacitly_server.ledger.subjects import subject_name

HEAD = "c" * 64


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_beside_superlink(tmp_path / "home") as running:
        yield running


def charge_person(desk: Desk, person: str, *, attempts: int, epochs: tuple[str, ...]) -> None:
    subject = subject_name(desk.home.subject_secret.read_bytes(), person)
    with open_ledger(desk.home) as ledger:
        for _ in range(attempts):
            charge(ledger, ledger.plan(PLAN, 1), [subject, *SUBJECTS], epochs=epochs)


def test_a_device_ahead_of_its_person_raises_one_alarm_for_each_thing_it_says(desk: Desk) -> None:
    device, other = desk.device("ada"), desk.device("ada")
    charge_person(desk, "ada", attempts=2, epochs=("2026-01", "2026-02"))
    device.refresh(attempts=2, ledger_head=HEAD)
    other.refresh(attempts=1, ledger_head=HEAD)
    assert not read_alarms(desk.home.alarms)
    assert not desk.campaigns().alarms

    device.refresh(attempts=3, ledger_head=HEAD)
    device.refresh(attempts=3, ledger_head=HEAD)
    (alarm,) = read_alarms(desk.home.alarms)
    assert (alarm.kind, alarm.attempts, alarm.charged) == (AlarmKind.AHEAD, 3, 2)
    assert alarm.node == str(device.answer.node_id)
    assert desk.home.alarms.stat().st_mode & 0o777 == 0o600


def test_a_device_whose_ledger_was_put_back_raises_an_alarm(desk: Desk) -> None:
    device = desk.device("ada")
    charge_person(desk, "ada", attempts=3, epochs=("2026-01",))
    for attempts in (3, 1):
        device.refresh(attempts=attempts, ledger_head=HEAD)
    (alarm,) = read_alarms(desk.home.alarms)
    assert (alarm.kind, alarm.attempts, alarm.charged) == (AlarmKind.ROLLED_BACK, 1, 3)


def test_officers_are_told_how_many_and_nothing_of_whom(desk: Desk) -> None:
    devices = [desk.device("ada"), desk.device("bob")]
    for device in devices:
        device.refresh(attempts=5, ledger_head=HEAD)
    devices[0].refresh(attempts=1, ledger_head=HEAD)
    ahead, rolled_back = desk.campaigns().alarms
    assert ahead.startswith("devices that paid for more attempts than the population ledger")
    assert ": 2 (first " in ahead
    assert rolled_back.startswith("devices whose ledger was put back to an earlier state: 1 (")
    said = ahead + rolled_back
    assert not any(str(device.answer.node_id) in said for device in devices)


def test_a_line_that_a_crash_tore_hides_no_other(desk: Desk) -> None:
    device = desk.device()
    device.refresh(attempts=1, ledger_head=HEAD)
    with desk.home.alarms.open("ab") as file:
        file.write(b'{"time":"2026')
    device.refresh(attempts=2, ledger_head=HEAD)
    assert [alarm.attempts for alarm in read_alarms(desk.home.alarms)] == [1, 2]
