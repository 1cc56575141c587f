import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import pytest

from tacitly_common.errors import LedgerError, ValidationError
from tacitly_server.ledger.subjects import Subjects, subject_name

SECRET = b"0123456789abcdef"
ALICE, BOB = subject_name(SECRET, "alice"), subject_name(SECRET, "bob")
LARGEST_NODE_ID = 2**64 - 1


@pytest.fixture
def subjects(tmp_path: Path) -> Iterator[Subjects]:
    with Subjects(tmp_path / "population.db") as opened:
        yield opened


def test_a_subject_is_named_by_the_hmac_of_the_stable_identifier() -> None:
    assert hmac.new(SECRET, b"alice", hashlib.sha256).hexdigest() == ALICE
    assert subject_name(SECRET + b"x", "alice") != ALICE


@pytest.mark.parametrize(("secret", "person"), [(b"short", "alice"), (SECRET, "")])
def test_a_guessable_secret_or_an_empty_identifier_is_refused(secret: bytes, person: str) -> None:
    with pytest.raises(ValidationError):
        subject_name(secret, person)


def test_flowers_unsigned_node_ids_are_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "population.db"
    with Subjects(path) as subjects:
        subjects.enrol(LARGEST_NODE_ID, "key-1", ALICE)
    with Subjects(path) as subjects:
        assert subjects.enrolled() == {LARGEST_NODE_ID: ALICE}


def test_a_person_may_have_several_devices(subjects: Subjects) -> None:
    subjects.enrol(1, "key-1", ALICE)
    subjects.enrol(2, "key-2", ALICE)
    subjects.enrol(3, "key-3", BOB)
    assert subjects.enrolled() == {1: ALICE, 2: ALICE, 3: BOB}


def test_enrolling_again_is_no_error(subjects: Subjects) -> None:
    subjects.enrol(1, "key-1", ALICE)
    subjects.enrol(1, "key-1", ALICE)
    assert subjects.enrolled() == {1: ALICE}


def test_a_device_registered_anew_keeps_its_subject(subjects: Subjects) -> None:
    subjects.enrol(1, "key-1", ALICE)
    subjects.enrol(9, "key-1", ALICE)
    assert subjects.enrolled()[9] == ALICE


@pytest.mark.parametrize(("node_id", "key"), [(1, "key-1"), (1, "key-2"), (2, "key-1")])
def test_neither_node_nor_key_moves_to_a_fresh_budget(
    subjects: Subjects, node_id: int, key: str
) -> None:
    subjects.enrol(1, "key-1", ALICE)
    with pytest.raises(LedgerError, match="another subject"):
        subjects.enrol(node_id, key, BOB)
    assert subjects.enrolled() == {1: ALICE}


def test_a_node_does_not_change_its_key(subjects: Subjects) -> None:
    subjects.enrol(1, "key-1", ALICE)
    with pytest.raises(LedgerError, match="another key"):
        subjects.enrol(1, "key-2", ALICE)


def test_a_subject_that_is_no_hmac_is_refused(subjects: Subjects) -> None:
    with pytest.raises(ValidationError):
        subjects.enrol(1, "key-1", "alice@example.org")
