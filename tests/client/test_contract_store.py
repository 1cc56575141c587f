"""The device's copy of the officers' log: verified always, extended whole or not at all."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from homes import agree
from officers import Log
from plans import small_plan
from tacitly_client.contract_store import ContractStore
from tacitly_client.home import AgentHome
from tacitly_common.campaign import revise
from tacitly_common.contract.acts import Approve, ContractError, Limit
from tacitly_common.errors import ValidationError
from tacitly_common.wire.codes import ReplyCode

PLAN = small_plan()


@pytest.fixture
def log() -> Log:
    return Log().start(PLAN)


@pytest.fixture
def home(tmp_path: Path, log: Log) -> AgentHome:
    home = AgentHome(tmp_path)
    home.create()
    agree(home, log)
    return home


def longer(log: Log) -> Log:
    log = Log(list(log.entries))
    log.add("bea", Limit(plan_hash=PLAN.hash, last_round=7, reason="enough"))
    log.propose(revise(PLAN, rounds=19))
    return log


def test_what_was_begun_is_loaded(home: AgentHome, log: Log) -> None:
    assert ContractStore(home).load() == log.contract
    assert home.contract.stat().st_mode & 0o777 == 0o600


def test_a_log_of_another_beginning_is_not_taken(home: AgentHome, log: Log) -> None:
    other = Log(log.entries[:1])
    before = home.contract.read_bytes()
    with pytest.raises(ContractError, match="not with"):
        ContractStore(home).begin(other.lines, genesis="f" * 64)
    assert home.contract.read_bytes() == before


def test_new_entries_are_appended(home: AgentHome, log: Log) -> None:
    after = longer(log)
    contract = ContractStore(home).extend(after.lines[len(log.lines) :], after=len(log.lines))
    assert contract == after.contract == ContractStore(home).load()
    assert contract.campaigns[PLAN.hash].last_round == 7


def test_entries_that_another_process_was_faster_with_are_the_same_or_refused(
    home: AgentHome, log: Log
) -> None:
    store, after = ContractStore(home), longer(log)
    new, at = after.lines[len(log.lines) :], len(log.lines)
    store.extend(new[:1], after=at)
    assert store.extend(new, after=at) == after.contract
    # The slower one of two, whose desk had less to say.
    assert store.extend(new[:1], after=at) == after.contract
    fork = Log(list(log.entries))
    fork.add("cyn", Limit(plan_hash=PLAN.hash, last_round=9, reason="other"))
    with pytest.raises(ContractError, match="another entry"):
        store.extend(fork.lines[at:], after=at)
    assert store.load() == after.contract


def test_one_unsound_entry_refuses_all_of_them_and_is_kept_as_a_problem(
    home: AgentHome, log: Log
) -> None:
    store, forged = ContractStore(home), longer(log)
    proposal = forged.entries[-1].hash
    forged.add("bea", Approve(proposal=proposal))
    forged.add("bea", Approve(proposal=proposal))
    at = len(log.lines)
    with pytest.raises(ContractError) as caught:
        store.extend(forged.lines[at:], after=at)
    assert caught.value.code is store.problem() is ReplyCode.SAME_OFFICER_TWICE
    assert store.load() == log.contract
    # A sound answer, be it that nothing is new, ends it.
    store.extend([], after=at)
    assert store.problem() is None


def test_a_gap_is_refused(home: AgentHome, log: Log) -> None:
    after, at = longer(log), len(log.lines)
    with pytest.raises(ContractError, match="does not follow"):
        ContractStore(home).extend(after.lines[at + 1 :], after=at)
    assert ContractStore(home).problem() is ReplyCode.LOG_FORGED


@pytest.mark.parametrize("garbage", [b"", b"{}", b"\xff", b"[" * 10_000, b"null"])
def test_garbage_for_an_entry_is_a_forged_log(home: AgentHome, log: Log, garbage: bytes) -> None:
    with pytest.raises(ContractError):
        ContractStore(home).extend([garbage], after=len(log.lines))
    assert ContractStore(home).problem() is ReplyCode.LOG_FORGED


def test_every_flipped_byte_of_the_file_is_found(home: AgentHome) -> None:
    whole = home.contract.read_bytes()
    for place in range(0, len(whole), 97):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        home.contract.write_bytes(flipped)
        with pytest.raises(ContractError):
            ContractStore(home).load()
    home.contract.write_bytes(whole)
    ContractStore(home).load()


def test_a_log_cut_off_or_gone_is_refused(home: AgentHome) -> None:
    whole = home.contract.read_bytes()
    home.contract.write_bytes(whole[:-40])
    with pytest.raises(ContractError):
        ContractStore(home).load()
    home.contract.unlink()
    with pytest.raises(ContractError, match="empty"):
        ContractStore(home).load()


def test_an_unsound_file_is_not_extended(home: AgentHome, log: Log) -> None:
    home.contract.write_bytes(home.contract.read_bytes().replace(b"Example", b"Exampel"))
    spoiled = home.contract.read_bytes()
    with pytest.raises(ContractError):
        ContractStore(home).extend(longer(log).lines[len(log.lines) :], after=len(log.lines))
    assert home.contract.read_bytes() == spoiled


def test_an_unreadable_problem_is_one(home: AgentHome) -> None:
    home.contract_problem.write_text("NEVER_HEARD")
    assert ContractStore(home).problem() is ReplyCode.LOG_FORGED


def test_without_an_enrolment_there_is_no_contract(home: AgentHome) -> None:
    home.enrolment.unlink()
    with pytest.raises(ValidationError, match="tacitly-agent enrol"):
        ContractStore(home).load()


EXTENDER = """
import sys
from pathlib import Path
from tacitly_client.contract_store import ContractStore
from tacitly_client.home import AgentHome

home, entries = AgentHome(Path(sys.argv[1])), Path(sys.argv[2]).read_bytes().splitlines()
store = ContractStore(home)
print("ready", flush=True)
for number, entry in enumerate(entries):
    length = store.load().length
    if number >= length:
        store.extend([entry], after=number)
"""


def test_killed_at_any_moment_the_log_is_whole(tmp_path: Path, home: AgentHome, log: Log) -> None:
    """Entry by entry in a process that is killed, and begun again until all are there."""
    after = Log(list(log.entries))
    for number in range(15):
        last_round = 1_000 - number
        after.add("bea", Limit(plan_hash=PLAN.hash, last_round=last_round, reason="less"))
    (tmp_path / "entries").write_bytes(b"\n".join(after.lines))
    kills, pause = 0, 0.0
    while (contract := ContractStore(home).load()) != after.contract:
        assert home.contract.read_bytes().splitlines() == after.lines[: contract.length]
        process = subprocess.Popen(
            [sys.executable, "-c", EXTENDER, str(home.root), str(tmp_path / "entries")],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(pause)
        kills += process.poll() is None
        process.kill()
        process.wait()
        process.stdout.close()
        pause += 0.005
    assert kills >= 3
