"""Whatever is changed in a ledger or in an export of it is found, and its place is named."""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from ledgers import OTHER_PLAN, PLAN, SUBJECTS, TWO_MONTHS, Books, charge, finish, witness_in
from tacitly_common import verify_ledger
from tacitly_common.errors import LedgerError, ValidationError
from tacitly_server.ledger.export import export, latest_checkpoint, verify_database
from tacitly_server.ledger.population import AttemptState
from tacitly_server.ledger.tables import METADATA

STATES = (AttemptState.RELEASED, AttemptState.LOST, AttemptState.VOID, None)


def fill(books: Books) -> None:
    """Two plans, each with an attempt in every state, charged or not."""
    with books.open() as ledger:
        for plan in (PLAN, OTHER_PLAN):
            for number, state in enumerate(STATES, start=1):
                key = ledger.plan(plan, number)
                if state is not AttemptState.VOID:
                    charge(ledger, key, SUBJECTS[number - 1 :], epochs=TWO_MONTHS)
                if state is not None:
                    finish(ledger, key, state)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Books:
    directory = tmp_path_factory.mktemp("sound")
    books = Books(directory / "population.db", directory)
    fill(books)
    export(books.where, directory / "export.jsonl")
    return books


def exported(books: Books) -> bytes:
    return (books.directory / "export.jsonl").read_bytes()


def problems(document: bytes, books: Books) -> list[str]:
    lines = document.splitlines(keepends=True)
    return verify_ledger.verify_lines(lines, [books.witness.public_key]).problems


def test_a_sound_ledger_has_no_problem_on_either_database(books: Books) -> None:
    fill(books)
    assert books.problems() == []
    export(books.where, books.directory / "export.jsonl")
    assert problems(exported(books), books) == []


def another(value: str | int) -> str | int:
    """The value with one bit changed, still of its type."""
    return value ^ 1024 if isinstance(value, int) else value[:-1] + chr(ord(value[-1]) ^ 1)


PLACES = {
    "attempts": "attempt",
    "budgets": "total of",
    "charges": "charge",
    "checkpoints": "checkpoint",
    "journal": "entry",
}
FIELDS = [
    (table.name, column.name)
    for table in METADATA.sorted_tables
    if table.name in PLACES
    for column in table.columns
]


@pytest.mark.parametrize(("table", "column"), FIELDS)
def test_one_changed_bit_in_any_column_is_found_and_named(
    sound: Books, tmp_path: Path, table: str, column: str
) -> None:
    path = tmp_path / "population.db"
    shutil.copy(sound.directory / "population.db", path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row  # and foreign keys are not looked at
        rows = [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]
        row = random.Random(f"{table}.{column}").choice(
            [row for row in rows if row[column] not in (None, "")]
        )
        here = " AND ".join(f"{name} IS :{name}" for name in row)
        connection.execute(
            f"UPDATE {table} SET {column} = :forged WHERE {here}",
            row | {"forged": another(row[column])},
        )
    found = verify_database(path, [sound.witness.public_key])
    # An attempt's number in the database is what its charges hang on.
    place = "charges of entry" if (table, column) == ("attempts", "id") else PLACES[table]
    assert any(place in problem for problem in found), found


@pytest.mark.parametrize("table", PLACES)
def test_a_row_that_was_taken_out_is_missed(sound: Books, tmp_path: Path, table: str) -> None:
    path = tmp_path / "population.db"
    shutil.copy(sound.directory / "population.db", path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        keys = ", ".join(c.name for c in METADATA.tables[table].primary_key)
        one = f"SELECT {keys} FROM {table} LIMIT 1 OFFSET 2"
        connection.execute(f"DELETE FROM {table} WHERE ({keys}) = ({one})")
    found = verify_database(path, [sound.witness.public_key], sound.witness.last().checkpoint)
    if table == "checkpoints":  # they may be fewer than charges: the chain still holds
        assert found == []
    else:
        assert found


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_changed_byte_of_an_export_is_found_and_its_line_named(
    sound: Books, data: st.DataObject
) -> None:
    document = bytearray(exported(sound))
    place = data.draw(st.integers(0, len(document) - 1))
    document[place] ^= 1 << data.draw(st.integers(0, 7))
    line = exported(sound)[:place].count(b"\n") + 1
    found = problems(bytes(document), sound)
    places = [f"line {line}: "]
    if (record := json.loads(exported(sound).splitlines()[line - 1]))["type"] == "charge":
        places.append(f"charges of entry {record['entry']}: ")
    assert any(place in problem for problem in found for place in places), found


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_lines_that_were_taken_out_or_moved_are_missed(sound: Books, data: st.DataObject) -> None:
    lines = exported(sound).splitlines(keepends=True)
    one, other = sorted(
        data.draw(st.lists(st.integers(0, len(lines) - 1), min_size=2, max_size=2, unique=True))
    )
    if data.draw(st.booleans()):
        del lines[one]
    else:
        lines.insert(one, lines.pop(other))
        if json.loads(lines[one])["type"] == json.loads(lines[one + 1])["type"]:
            return  # the order of charges, attempts and totals carries nothing
    assert problems(b"".join(lines), sound)


def test_an_export_that_was_cut_off_is_not_taken_for_a_whole_one(sound: Books) -> None:
    lines = exported(sound).splitlines(keepends=True)
    for length in range(len(lines)):
        assert any("cut off" in p for p in problems(b"".join(lines[:length]), sound))


def forge(books: Books, directory: Path) -> Path:
    """A ledger without its last charge, with every hash and total made to fit."""
    with Books(directory / "population.db", directory).open() as ledger:
        charge(ledger, ledger.plan(PLAN, 1), SUBJECTS, epochs=TWO_MONTHS)
    return directory / "population.db"


def test_a_whole_other_history_needs_the_key(sound: Books, tmp_path: Path) -> None:
    forged = forge(sound, tmp_path)
    assert verify_database(forged, [witness_in(tmp_path).public_key]) == []
    found = verify_database(forged, [sound.witness.public_key])
    assert any("is not among the 1 given" in problem for problem in found)


def test_a_ledger_that_lost_its_end_is_told_by_a_checkpoint_from_elsewhere(books: Books) -> None:
    fill(books)
    kept = books.witness.last().checkpoint
    with books.open() as ledger:
        charge(ledger, ledger.plan(PLAN, 9), SUBJECTS[:1])
    latest = latest_checkpoint(books.where)
    assert verify_database(books.where, [books.witness.public_key], kept) == []
    fresh = books.directory / "fresh"
    fresh.mkdir()
    shutil.copy(books.directory / "ledger.key", fresh)
    shorter = forge(books, fresh)
    found = verify_database(shorter, [books.witness.public_key], latest)
    assert found == [
        f"checkpoint at entry {latest.sequence}: the journal ends before it; this is an older copy"
    ]


def test_without_any_trusted_key_no_ledger_is_in_order(sound: Books) -> None:
    assert "not among the 0 given" in verify_database(sound.where, [])[0]


def test_what_only_looks_makes_no_ledger(tmp_path: Path) -> None:
    for look in (
        lambda: verify_database(tmp_path / "population.db", []),
        lambda: latest_checkpoint(tmp_path / "population.db"),
        lambda: export(tmp_path / "population.db", tmp_path / "export.jsonl"),
    ):
        with pytest.raises(LedgerError, match="no such ledger"):
            look()
    assert list(tmp_path.iterdir()) == []


def test_an_export_replaces_no_file(sound: Books) -> None:
    with pytest.raises(ValidationError, match="name a new file"):
        export(sound.where, sound.directory / "export.jsonl")
    assert (sound.directory / "export.jsonl").stat().st_mode & 0o777 == 0o600


def test_the_one_file_checks_an_export_without_tacitly(sound: Books, tmp_path: Path) -> None:
    tool = shutil.copy(verify_ledger.__file__, tmp_path / "verify.py")
    kept = tmp_path / "checkpoint.json"
    kept.write_bytes(msgspec.json.encode(latest_checkpoint(sound.where)))
    forged = tmp_path / "forged.jsonl"
    forged.write_bytes(exported(sound).replace(b'"cost_nano_rho":10', b'"cost_nano_rho":11', 1))

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        # Isolated: neither this checkout nor the working directory is importable.
        alone = "import sys; sys.modules['tacitly_common'] = None; import runpy; "
        code = f"{alone}sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
        command = [sys.executable, "-I", "-c", code, tool, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    key = sound.witness.public_key
    good = run(sound.directory / "export.jsonl", "--public-key", key, "--checkpoint", kept)
    assert (good.returncode, good.stderr) == (0, "")
    assert "in order" in good.stdout
    bad = run(forged, "--public-key", key)
    assert bad.returncode == 5
    assert "line " in bad.stdout
    assert run(sound.directory / "export.jsonl", "--public-key", "0" * 64).returncode == 5
    assert run(tmp_path / "nothing.jsonl", "--public-key", key).returncode == 2
    assert run(sound.directory / "export.jsonl").returncode == 2
