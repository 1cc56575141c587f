"""The officers' log on disk: begun once, appended to by several processes, altered by nobody."""

import json
import os
import signal
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forks import forks
from officers import AT, KEYS, Log, genesis
from plans import small_plan
from tacitly_common.contract.acts import (
    ConflictError,
    ContractError,
    Limit,
    NotAuthorisedError,
    Revoke,
    begin,
)
from tacitly_common.contract.log import next_entry
from tacitly_common.errors import ValidationError
from tacitly_server.campaigns.officers_log import OfficersLog

WRITERS, ENTRIES = 3, 8


@pytest.fixture
def log(tmp_path: Path) -> OfficersLog:
    """A log on disk with a plan that was approved and started."""
    written = Log().start(small_plan())
    log = OfficersLog(tmp_path / "officers.log")
    log.begin(written.entries[0])
    for entry in written.entries[1:]:
        log.append(entry)
    return log


def test_what_was_appended_is_read_again(log: OfficersLog) -> None:
    expected = Log().start(small_plan())
    assert log.lines() == expected.lines
    assert log.lines(3) == expected.lines[3:]
    assert log.lines(99) == []
    assert log.contract() == expected.contract
    assert OfficersLog(log.path).contract() == expected.contract
    assert log.path.stat().st_mode & 0o777 == 0o600


def test_what_was_appended_since_continues_a_contract(log: OfficersLog) -> None:
    before = log.contract()
    assert log.later(before) == before
    entry = next_entry(
        before, Revoke(officer="dan", reason="left"), signer="ada", key=KEYS["ada"], at=AT
    )
    after = log.append(entry)
    assert log.later(before) == log.later(None) == after


def test_it_begins_once_and_with_a_genesis(log: OfficersLog, tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="has begun already"):
        log.begin(begin(genesis(organisation="Another"), at=AT))
    fresh = OfficersLog(tmp_path / "other.log")
    with pytest.raises(ContractError, match="does not begin with a genesis"):
        fresh.begin(Log().start(small_plan()).entries[1])
    assert fresh.lines() == []
    with pytest.raises(ValidationError, match="contract begin"):
        fresh.contract()
    with pytest.raises(ValidationError, match="contract begin"):
        fresh.append(Log().start(small_plan()).entries[1])


def test_a_refused_entry_is_not_written(log: OfficersLog) -> None:
    before, contract = log.path.read_bytes(), log.contract()
    act = Revoke(officer="bea", reason="test")
    late = next_entry(Log().contract, act, signer="ada", key=KEYS["ada"], at=AT)
    forged = next_entry(contract, act, signer="ada", key=KEYS["cyn"], at=AT)
    unknown = next_entry(
        contract,
        Limit(plan_hash="f" * 64, last_round=0, reason="test"),
        signer="ada",
        key=KEYS["ada"],
        at=AT,
    )
    for entry, kind in (
        (late, ConflictError),
        (forged, NotAuthorisedError),
        (unknown, ContractError),
        (begin(genesis(), at=AT), ConflictError),
    ):
        with pytest.raises(kind):
            log.append(entry)
    assert log.path.read_bytes() == before


@given(st.integers(min_value=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_a_torn_last_line_is_not_there_and_is_cut_off(log: OfficersLog, cut: int) -> None:
    whole, contract = log.path.read_bytes(), log.contract()
    entry = next_entry(
        contract, Revoke(officer="dan", reason="left"), signer="ada", key=KEYS["ada"], at=AT
    )
    line = entry.to_json() + b"\n"
    torn = line[: cut % len(line)]
    log.path.write_bytes(whole + torn)
    assert log.contract() == contract
    log.append(entry)
    assert log.path.read_bytes() == whole + line
    log.path.write_bytes(whole)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_flipped_bit_is_found_and_the_entry_named(log: OfficersLog, data: st.DataObject) -> None:
    whole = log.path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 2))  # the very last line's end is a torn line
    bit = data.draw(st.integers(0, 7))
    spoiled = bytearray(whole)
    spoiled[at] ^= 1 << bit
    log.path.write_bytes(bytes(spoiled))
    # What changes the first entry changes its hash, which the second one names.
    first = whole.count(b"\n", 0, at)
    with pytest.raises(ContractError, match=rf"entry ({first}|{first + 1}):"):
        log.contract()
    log.path.write_bytes(whole)


def test_a_removed_or_doubled_line_is_found(log: OfficersLog) -> None:
    lines = log.lines()
    for changed in (lines[1:], lines[:1] + lines[2:], [*lines, lines[-1]], lines[::-1]):
        log.path.write_bytes(b"".join(line + b"\n" for line in changed))
        with pytest.raises(ContractError, match=r"entry \d+:"):
            log.contract()


def _write(path: Path, name: str, sender: Connection) -> None:
    """Append `ENTRIES` entries of an officer, whatever others append meanwhile."""
    log = OfficersLog(path)
    refused = written = 0
    while written < ENTRIES:
        act = Limit(plan_hash=small_plan().hash, last_round=9, reason=f"{name} {written}")
        entry = next_entry(log.contract(), act, signer=name, key=KEYS[name], at=datetime.now(UTC))
        try:
            log.append(entry)
        except ConflictError:
            refused += 1
        else:
            written += 1
            sender.send(written)
    sender.send("done")


def test_processes_that_append_at_once_lose_and_double_nothing(log: OfficersLog) -> None:
    processes, before = forks(__name__), len(log.lines())
    writers = []
    for name in list(KEYS)[:WRITERS]:
        receiver, sender = processes.Pipe(duplex=False)
        process = processes.Process(target=_write, args=(log.path, name, sender))
        process.start()
        writers.append((process, receiver))
    for process, _ in writers:
        process.join(timeout=120)
        assert process.exitcode == 0
    lines = log.lines()
    assert log.contract().length == len(lines) == before + WRITERS * ENTRIES
    reasons = [json.loads(line)["statement"]["act"]["reason"] for line in lines[before:]]
    assert len(set(reasons)) == WRITERS * ENTRIES


def test_a_writer_that_is_killed_leaves_a_log_that_goes_on(log: OfficersLog) -> None:
    processes = forks(__name__)
    for _ in range(3):
        receiver, sender = processes.Pipe(duplex=False)
        process = processes.Process(target=_write, args=(log.path, "ada", sender))
        process.start()
        written = receiver.recv()
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        reasons = [json.loads(line)["statement"]["act"].get("reason") for line in log.lines()]
        assert f"ada {written - 1}" in reasons
        assert log.contract().length == len(log.lines())
