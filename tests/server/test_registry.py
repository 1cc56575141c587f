"""Tokens and devices, on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from ledgers import PLAN, SUBJECTS, Books, charge
from tacitly_common.wire.desk_errors import DeskConflictError, DeskNotAuthorisedError
from tacitly_server.enrolment.registry import Admitted, Ending, Keys, Registry, token_hash
from tacitly_server.ledger.database import open_database, reading
from tacitly_server.ledger.subjects import Subjects

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ADA, BOB = SUBJECTS[:2]
KEYS = Keys("1" * 64, "2" * 64)
NODE = 2**64 - 1


@pytest.fixture
def registry(books: Books) -> Iterator[Registry]:
    with Registry(books.where) as opened:
        opened.invite("TOKEN", ADA, expires=NOW + timedelta(days=7))
        yield opened


def admit(registry: Registry, token: str, keys: Keys, node_id: int) -> Admitted:
    registry.claim(token, keys, now=NOW)
    return registry.admit(token, keys, node_id, b"certificate", now=NOW)


def test_a_claimed_token_is_admitted_once_with_its_subject(
    registry: Registry, books: Books
) -> None:
    claim = registry.claim("TOKEN", KEYS, now=NOW)
    assert (claim.subject, claim.admitted) == (ADA, None)
    first = registry.admit("TOKEN", KEYS, NODE, b"certificate", now=NOW)
    assert first == Admitted(NODE, b"certificate")
    assert registry.admit("TOKEN", KEYS, NODE, b"another", now=NOW) == first
    assert registry.claim("TOKEN", KEYS, now=NOW).admitted == first
    device = registry.device(NODE)
    assert device is not None
    assert (device.subject, device.device_key, device.ended) == (ADA, KEYS.device_key, None)
    with Subjects(books.where) as subjects:
        assert subjects.enrolled() == {NODE: ADA}


def test_no_token_is_stored(registry: Registry, books: Books) -> None:
    engine = open_database(books.where)
    with reading(engine) as connection:
        (row,) = connection.execute(text("SELECT * FROM invitations")).all()
    engine.dispose()
    assert token_hash("TOKEN") in row
    assert not any("TOKEN" in str(value) for value in row)


@pytest.mark.parametrize("other", [Keys("3" * 64, "2" * 64), Keys("1" * 64, "3" * 64)])
def test_other_keys_are_refused_as_soon_as_a_token_is_claimed(
    registry: Registry, other: Keys
) -> None:
    registry.claim("TOKEN", KEYS, now=NOW)
    for attempt in (
        lambda: registry.claim("TOKEN", other, now=NOW),
        lambda: registry.admit("TOKEN", other, NODE, b"", now=NOW),
    ):
        with pytest.raises(DeskNotAuthorisedError, match="was used with other keys"):
            attempt()
    assert registry.device(NODE) is None


def test_a_token_is_good_until_the_second_it_expires(registry: Registry) -> None:
    end = NOW + timedelta(days=7)
    registry.claim("TOKEN", KEYS, now=end - timedelta(seconds=1))
    with pytest.raises(DeskNotAuthorisedError, match="expired on 2026-11-08 00:00 UTC"):
        registry.claim("TOKEN", KEYS, now=end)
    with pytest.raises(DeskNotAuthorisedError, match="not one of this server's"):
        registry.claim("OTHER", KEYS, now=NOW)


@pytest.mark.parametrize("again", [Keys("1" * 64, "9" * 64), Keys("9" * 64, "2" * 64)])
def test_a_key_is_enrolled_once_and_the_token_stays_free(registry: Registry, again: Keys) -> None:
    admit(registry, "TOKEN", KEYS, NODE)
    registry.invite("NEXT", BOB, expires=NOW + timedelta(days=1))
    with pytest.raises(DeskConflictError, match="was enrolled before"):
        registry.claim("NEXT", again, now=NOW)
    assert admit(registry, "NEXT", Keys("5" * 64, "6" * 64), 7).node_id == 7


def test_how_a_device_ended_first_is_kept(registry: Registry) -> None:
    admit(registry, "TOKEN", KEYS, NODE)
    registry.end(NODE, Ending.REVOKED)
    registry.end(NODE, Ending.WITHDRAWN)
    device = registry.device(NODE)
    assert device is not None
    assert device.ended is Ending.REVOKED
    with pytest.raises(DeskNotAuthorisedError, match="was revoked"):
        registry.claim("TOKEN", KEYS, now=NOW)
    registry.end(123, Ending.REVOKED)  # nobody's


def test_what_a_device_says_is_kept(registry: Registry) -> None:
    admit(registry, "TOKEN", KEYS, NODE)
    registry.report(NODE, attempts=2**40, ledger_head="a" * 64)
    device = registry.device(NODE)
    assert device is not None
    assert device.attempts == 2**40


def test_an_attempt_counts_once_however_many_months_it_touches(books: Books) -> None:
    with books.open() as ledger:
        for _ in range(3):
            charge(ledger, ledger.plan(PLAN, 1), SUBJECTS, epochs=("2026-01", "2026-02"))
        charge(ledger, ledger.plan(PLAN, 2), [BOB], cap=100)
    with Registry(books.where) as registry:
        assert [registry.attempts_charged(s) for s in (ADA, BOB, "f" * 64)] == [3, 4, 0]


def test_of_many_devices_at_once_one_gets_the_token(registry: Registry) -> None:
    def race(number: int) -> bool:
        keys = Keys(f"{number:064x}", f"{number + 100:064x}")
        try:
            admit(registry, "TOKEN", keys, number)
        except DeskNotAuthorisedError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(race, range(1, 9))) == 1


def test_the_same_device_at_once_gets_one_answer(registry: Registry) -> None:
    def retry(number: int) -> bytes:
        registry.claim("TOKEN", KEYS, now=NOW)
        return registry.admit("TOKEN", KEYS, NODE, b"%d" % number, now=NOW).certificate

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(retry, range(8)))) == 1
