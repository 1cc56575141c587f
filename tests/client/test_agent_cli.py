"""`tacitly-agent` as a person types it."""

import re
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from device_ledgers import RECORD, charge
from plans import small_plan
from tacitly_client.cli import cli
from tacitly_client.home import AgentHome, read_settings
from tacitly_client.ledger import AttemptKey, DeviceLedger
from tacitly_client.store import EventStore, StoreError
from tacitly_common.accounting.record import compose, epsilon_of_rdp
from tacitly_common.accounting.subject import cap_nano_rho
from tacitly_common.campaign import read_plan
from tacitly_common.errors import LedgerError, ValidationError
from tacitly_common.events import Event, EventKind, to_json_line

SECOND_NS = 10**9


def recording(text: str) -> bytes:
    return b"\n".join(
        to_json_line(Event(EventKind.KEY_DOWN, i * SECOND_NS, i * SECOND_NS, key=character))
        for i, character in enumerate(text)
    )


def agent(home: Path, *arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, [arguments[0], "--home", str(home), *arguments[1:]], input=stdin)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An initialised agent."""
    (tmp_path / "ca.crt").write_text("the authority")
    (tmp_path / "plan.json").write_bytes(small_plan().to_json())
    place = tmp_path / "agent"
    result = agent(
        place, "init", "--server", "host:8000", "--ca", str(tmp_path / "ca.crt"),
        "--plan", str(tmp_path / "plan.json"), "--lifetime-epsilon", "4",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.output.startswith("-----BEGIN PUBLIC KEY-----")
    return place


def test_init_keeps_the_agreed_plan_and_the_persons_own_ceiling(home: Path) -> None:
    place = AgentHome(home)
    assert read_plan(place.plan) == small_plan()
    settings = read_settings(place)
    assert settings.lifetime_cap_nano_rho == cap_nano_rho(4.0, 1e-6)
    assert home.stat().st_mode & 0o777 == 0o700
    assert place.node_key.stat().st_mode & 0o777 == 0o600


def test_a_second_init_is_refused_and_changes_nothing(home: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    result = agent(
        home, "init", "--server", "other:1", "--ca", str(tmp_path / "ca.crt"),
        "--plan", str(tmp_path / "plan.json"),
    )  # fmt: skip
    assert isinstance(result.exception, StoreError)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_a_bad_plan_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").touch()
    (tmp_path / "plan.json").write_text("{}")
    result = agent(
        tmp_path / "agent", "init", "--server", "host:1", "--ca", str(tmp_path / "ca.crt"),
        "--plan", str(tmp_path / "plan.json"),
    )  # fmt: skip
    assert isinstance(result.exception, ValidationError | ValueError)
    assert not (tmp_path / "agent").exists()


def test_replay_fills_the_store_and_erase_empties_it(home: Path) -> None:
    assert agent(home, "replay", "-", stdin=recording("hello")).output == "stored 5 events\n"
    with EventStore.open(AgentHome(home).store) as store:
        assert "".join(event.key for event in store.events()) == "hello"
    assert agent(home, "erase", "--yes").output == "erased 5 events\n"
    with EventStore.open(AgentHome(home).store) as store:
        assert store.count() == 0


def test_erase_asks_first(home: Path) -> None:
    agent(home, "replay", "-", stdin=recording("hello"))
    assert agent(home, "erase", stdin=b"n\n").exit_code == 1
    assert EventStore.open(AgentHome(home).store).count() == 5


@pytest.mark.parametrize("bad", [b"s3cret", recording("ba")[::-1]])
def test_a_bad_recording_is_named_by_line_and_not_quoted(home: Path, bad: bytes) -> None:
    result = agent(home, "replay", "-", stdin=recording("ab") + b"\n" + bad)
    assert isinstance(result.exception, ValidationError)
    assert str(result.exception).startswith("line 3:")
    assert "s3cret" not in str(result.exception)


def test_a_recording_that_goes_back_in_time_is_refused(home: Path) -> None:
    backwards = b"\n".join(reversed(recording("ab").split(b"\n")))
    result = agent(home, "replay", "-", stdin=backwards)
    assert isinstance(result.exception, ValidationError)
    assert "line 2: goes back in time" in str(result.exception)


def test_status_shows_stored_spent_and_sent(home: Path) -> None:
    agent(home, "replay", "-", stdin=recording("hello"))
    output = agent(home, "status").output
    assert "events stored     5 (encrypted, on this machine only)" in output
    assert "messages sent     0" in output
    assert "lifetime budget   ε 0.000 of 4.000" in output
    assert "record level      ε 0.000" in output
    assert "hello" not in output


def test_status_shows_the_record_level_beside_the_person_level(home: Path) -> None:
    plan = small_plan()
    with DeviceLedger.open(AgentHome(home).ledger) as ledger:
        charge(ledger, AttemptKey(plan.hash, 1, 1), record=RECORD)
        charge(ledger, AttemptKey("f" * 64, 1, 1), record=RECORD)
    once = epsilon_of_rdp(RECORD.rdp(), plan.delta)
    twice = epsilon_of_rdp(compose(RECORD.rdp(), RECORD.rdp()), plan.delta)
    shown = re.search(
        r"record level      ε ([0-9.]+) of 1000 at .*, over all campaigns ([0-9.]+),",
        agent(home, "status").output,
    )
    assert [once, twice] <= [float(group) for group in shown.groups()]
    assert [float(group) for group in shown.groups()] == pytest.approx([once, twice], abs=1e-3)


def test_a_missing_ledger_is_refused_instead_of_begun_anew(home: Path) -> None:
    AgentHome(home).ledger.unlink()
    result = agent(home, "status")
    assert isinstance(result.exception, LedgerError)
    assert "is missing" in str(result.exception)
    assert not AgentHome(home).ledger.exists()


def test_ledger_verify_says_ok_or_the_place(home: Path) -> None:
    place = AgentHome(home).ledger
    with DeviceLedger.open(place) as ledger:
        charge(ledger, AttemptKey("a" * 64, 1, 1))
        head = ledger.head()
    verify = ["ledger", "verify", "--home", str(home)]
    assert CliRunner().invoke(cli, verify).output == f"ok (entries: 1, head: {head.hash})\n"
    with sqlite3.connect(place) as db:
        db.execute("UPDATE total SET spent_nano_rho = 1 WHERE scope = 'lifetime'")
    db.close()
    result = CliRunner().invoke(cli, verify)
    assert isinstance(result.exception, LedgerError)
    assert result.exception.exit_code == 5
    assert "table total, row lifetime/: it holds 1, 1, should hold 34993422, 1" in str(
        result.exception
    )
