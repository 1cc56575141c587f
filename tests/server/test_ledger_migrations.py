"""The schema: made anew, brought up from the first one, refused if newer."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from ledgers import MONTH, OTHER_PLAN, PLAN, SUBJECTS, Books, caps, charge
from tacitly_common.errors import BudgetExceededError, LedgerError
from tacitly_server.ledger import database
from tacitly_server.ledger.backup import reconcile
from tacitly_server.ledger.database import HEAD_REVISION, open_database, reading
from tacitly_server.ledger.population import AttemptKey, AttemptState
from tacitly_server.ledger.subjects import Subjects
from tacitly_server.ledger.tables import METADATA

# As the first Tacitly made it, and a little of what it wrote.
FIRST = """
CREATE TABLE nodes (
    node_id TEXT NOT NULL, public_key_fingerprint TEXT NOT NULL, subject TEXT NOT NULL,
    PRIMARY KEY (node_id)
) STRICT;
CREATE INDEX nodes_by_key ON nodes (public_key_fingerprint);
CREATE TABLE attempts (
    id INTEGER NOT NULL, plan_hash TEXT NOT NULL, round INTEGER NOT NULL,
    attempt INTEGER NOT NULL, state TEXT NOT NULL, cost_nano_rho INTEGER NOT NULL,
    PRIMARY KEY (id), UNIQUE (plan_hash, round, attempt)
) STRICT;
CREATE TABLE charges (
    attempt_id INTEGER NOT NULL, subject TEXT NOT NULL, PRIMARY KEY (attempt_id, subject),
    FOREIGN KEY(attempt_id) REFERENCES attempts (id)
) WITHOUT ROWID, STRICT;
CREATE TABLE totals (
    plan_hash TEXT NOT NULL, subject TEXT NOT NULL, spent_nano_rho INTEGER NOT NULL,
    PRIMARY KEY (plan_hash, subject), CHECK (spent_nano_rho >= 0)
) WITHOUT ROWID, STRICT;
CREATE INDEX totals_by_subject ON totals (subject);
"""
STATES = ("released", "lost", "charged", "planned", "void")


def make_first(path: Path) -> None:
    """Five attempts of one plan, three of them charged to three subjects, and one of another."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(FIRST)
        connection.execute("INSERT INTO nodes VALUES ('7', 'key', ?)", (SUBJECTS[0],))
        for number, state in enumerate(STATES, start=1):
            cost = 10 if number <= 3 else 0
            connection.execute(
                "INSERT INTO attempts VALUES (?, ?, ?, 1, ?, ?)",
                (number, PLAN, number, state, cost),
            )
        connection.execute("INSERT INTO attempts VALUES (6, ?, 1, 1, 'lost', 4)", (OTHER_PLAN,))
        for subject in SUBJECTS[:3]:
            for number in (1, 2, 3):
                connection.execute("INSERT INTO charges VALUES (?, ?)", (number, subject))
            connection.execute("INSERT INTO totals VALUES (?, ?, 30)", (PLAN, subject))
        connection.execute("INSERT INTO charges VALUES (6, ?)", (SUBJECTS[0],))
        connection.execute("INSERT INTO totals VALUES (?, ?, 4)", (OTHER_PLAN, SUBJECTS[0]))


@pytest.fixture
def old(tmp_path: Path) -> Books:
    make_first(tmp_path / "population.db")
    return Books(tmp_path / "population.db", tmp_path)


def test_the_newest_revision_is_what_the_code_expects(books: Books) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).with_name("migrations")))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD_REVISION
    engine = open_database(books.where)
    with reading(engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_an_old_ledger_keeps_what_was_spent_and_who_is_who(old: Books) -> None:
    with old.open() as ledger:
        states = [ledger.state(AttemptKey(PLAN, r, 1)) for r in range(1, 6)]
        assert states == [AttemptState(state) for state in STATES]
        assert ledger.spent_nano_rho(SUBJECTS[0]) == 34
        assert ledger.spent_nano_rho(SUBJECTS[0], OTHER_PLAN) == 4
        assert [a.subjects for a in ledger.attempts(PLAN)] == [3, 3, 3, 0, 0]
    with Subjects(old.where) as subjects:
        assert subjects.enrolled() == {7: SUBJECTS[0]}
    assert old.problems() == []


def test_what_an_old_ledger_spent_counts_in_every_month(old: Books) -> None:
    with old.open() as ledger:
        key = ledger.plan(PLAN, 9)
        for month in ("2026-01", "1999-12"):
            with pytest.raises(BudgetExceededError, match="1 of 4 subjects beyond the epoch cap"):
                charge(
                    ledger, key, [*SUBJECTS[1:4], SUBJECTS[0]], epochs=(month,),
                    limits=caps(epoch=43, campaign=100),
                )  # fmt: skip
        assert ledger.exhausted(
            PLAN, epochs=MONTH, cost_nano_rho=10, caps=caps(epoch=43, campaign=100)
        ) == {SUBJECTS[0]}
        assert charge(ledger, key, limits=caps(epoch=44, campaign=100))
        assert ledger.spent_nano_rho(SUBJECTS[0], epoch="2026-01") == 44
    assert old.problems() == []


def test_an_old_ledger_that_was_put_back_is_reconciled_too(old: Books) -> None:
    assert isinstance(old.where, Path)
    first = old.where.read_bytes()
    with old.open() as ledger:
        charge(ledger, ledger.plan(PLAN, 9), cap=100)
    old.where.write_bytes(first)
    with old.open() as ledger, pytest.raises(LedgerError, match="older copy"):
        ledger.plan(PLAN, 10)
    assert reconcile(old.where, old.witness) == 1
    with old.open() as ledger:
        assert ledger.spent_nano_rho(SUBJECTS[0], PLAN) == 40
    assert old.problems() == []


def test_a_newer_ledger_is_refused_and_left_alone(books: Books) -> None:
    books.open().close()
    books.tamper("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LedgerError, match="newer than"):
        books.open()


def test_who_only_looks_does_not_bring_an_old_ledger_up(old: Books) -> None:
    with pytest.raises(LedgerError, match=f"has schema 0001, not {HEAD_REVISION}"):
        open_database(old.where, create=False)
    with closing(sqlite3.connect(old.where)) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    assert "journal" not in tables


def test_an_old_ledger_with_an_unknown_state_is_left_alone(old: Books) -> None:
    with closing(sqlite3.connect(old.where)) as connection, connection:
        connection.execute("UPDATE attempts SET state = 'refunded' WHERE id = 2")
    with pytest.raises(LedgerError, match="refunded"):
        old.open()
    with closing(sqlite3.connect(old.where)) as connection:
        assert connection.execute("SELECT count(*) FROM totals").fetchone() == (4,)
