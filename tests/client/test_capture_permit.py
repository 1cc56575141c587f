"""The permit file: anything odd about it is no permission."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hand_clock import SECOND, HandClock
from tacitly_client.capture.permit import BEAT_SECONDS, Permission, PermitFile

GIVEN = Permission(capturing=True, since_ns=1_000 * SECOND, motion=True)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def permit(tmp_path: Path, clock: HandClock) -> PermitFile:
    return PermitFile(tmp_path / "permit", clock)


def test_without_a_file_nothing_is_permitted(permit: PermitFile) -> None:
    assert permit() is None


def test_a_permission_stands_while_it_is_affirmed(permit: PermitFile, clock: HandClock) -> None:
    for _ in range(20):
        permit.beat(GIVEN)
        clock.pass_(BEAT_SECONDS)
        assert permit() == GIVEN


def test_silence_ends_it_within_a_second_of_captures_next_look(
    permit: PermitFile, clock: HandClock
) -> None:
    permit.beat(GIVEN)
    clock.pass_(0.7)
    assert permit() == GIVEN
    clock.pass_(0.01)
    assert permit() is None


def test_two_missed_beats_do_not(permit: PermitFile, clock: HandClock) -> None:
    permit.beat(GIVEN)
    clock.pass_(3 * BEAT_SECONDS)
    assert permit() == GIVEN


def test_it_can_be_withdrawn(permit: PermitFile) -> None:
    permit.beat(GIVEN)
    permit.withdraw()
    assert permit() is None
    permit.withdraw()


def test_one_from_the_future_is_none(permit: PermitFile, clock: HandClock) -> None:
    permit.beat(GIVEN)
    clock.monotonic -= 1
    assert permit() is None


def change(field: str, value: object) -> Callable[[Path], None]:
    def do(path: Path) -> None:
        document = json.loads(path.read_text())
        document[field] = value
        path.write_text(json.dumps(document))

    return do


@pytest.mark.parametrize(
    "spoil",
    [
        change("boot", "another start of the machine"),
        change("unknown", 1),
        change("permission", {"capturing": True}),
        change("permission", {"capturing": "yes", "since_ns": 0}),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff{"),
        lambda path: path.chmod(0o620),
        lambda path: path.chmod(0o606),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_an_odd_file_is_none(
    tmp_path: Path, permit: PermitFile, spoil: Callable[[Path], object]
) -> None:
    permit.beat(GIVEN)
    assert permit() == GIVEN
    spoil(tmp_path / "permit")
    assert permit() is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to somebody else")
def test_another_users_file_is_none(tmp_path: Path, permit: PermitFile) -> None:
    permit.beat(GIVEN)
    os.chown(tmp_path / "permit", 65_534, 65_534)
    assert permit() is None
