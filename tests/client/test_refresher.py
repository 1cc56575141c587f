"""What happens beside the agent: asking the desk, whatever the desk does."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import scripted_desk
from homes import agree
from officers import Log
from plans import small_plan
from scripted_desk import Desk, certificate
from stock_flower import eventually
from tacitly_client.contract_store import ContractStore
from tacitly_client.device_identity import (
    CertificateError,
    device_certificate,
    device_key,
)
from tacitly_client.home import AgentHome
from tacitly_client.ledger import DeviceLedger
from tacitly_client.ledger_report import ask_ledger
from tacitly_client.node.refresher import Refresher
from tacitly_client.refresh import refresh
from tacitly_common.campaign import revise
from tacitly_common.contract.acts import ContractError, Start
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.desk_errors import DeskError
from tacitly_server import certificates

PLAN = small_plan()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("server") / "tls"
    certificates.create(made, ["127.0.0.1"], now=datetime.now(UTC))
    return made


@pytest.fixture
def log() -> Log:
    return Log().start(PLAN)


@pytest.fixture
def desk(tls: Path, log: Log) -> Iterator[Desk]:
    with scripted_desk.running(tls, log.lines) as made:
        yield made


@pytest.fixture
def home(tmp_path: Path, tls: Path, log: Log, desk: Desk) -> AgentHome:
    home = AgentHome(tmp_path)
    agree(home, log, desk=desk.address)
    DeviceLedger.create(home.ledger).close()
    home.ca_certificate.write_bytes((tls / "ca.crt").read_bytes())
    return home


def now() -> datetime:
    return datetime.now(UTC)


def refresher(home: AgentHome, *, seconds: float = 0.1) -> Refresher:
    return Refresher(
        home,
        report=lambda: ask_ledger(home.ledger),
        seconds=seconds,
        now=now,
        uniform=lambda _low, high: high,
    )


def test_it_asks_at_its_start_and_again_and_takes_over_what_is_new(
    home: AgentHome, desk: Desk, log: Log
) -> None:
    with refresher(home):
        eventually(lambda: desk.refreshes)
        log.propose(revise(PLAN, rounds=19))
        desk.lines = log.lines
        eventually(lambda: ContractStore(home).load() == log.contract)
        eventually(lambda: desk.refreshes[-1].log_length == len(log.lines))


def test_it_asks_once_when_that_is_enough(home: AgentHome, desk: Desk) -> None:
    with refresher(home, seconds=3_600):
        eventually(lambda: desk.refreshes)
        time.sleep(0.5)
    assert len(desk.refreshes) == 1


def test_a_long_log_comes_in_parts_and_is_taken_over_whole(
    home: AgentHome, desk: Desk, log: Log
) -> None:
    for rounds in range(30, 35):
        log.propose(revise(PLAN, rounds=rounds))
    desk.lines, desk.most_entries = log.lines, 2
    assert refresh(home, now=now()) == log.contract == ContractStore(home).load()


def test_a_desk_that_stalls_holds_up_no_end(home: AgentHome, desk: Desk) -> None:
    asked = threading.Event()
    desk.before = lambda: (asked.set(), time.sleep(3))  # type: ignore[func-returns-value]
    with refresher(home):
        assert asked.wait(20)
        began = time.monotonic()
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED])
def test_a_desk_that_refuses_changes_nothing_and_is_asked_again(
    home: AgentHome, desk: Desk, log: Log, status: grpc.StatusCode, caplog: pytest.LogCaptureFixture
) -> None:
    desk.refuses = (status, "a secret of the desk's")
    calls = []
    desk.before = lambda: calls.append(1)
    with refresher(home):
        eventually(lambda: len(calls) >= 3)
    assert ContractStore(home).load() == log.contract
    assert ContractStore(home).problem() is None
    assert "secret" not in caplog.text


def test_a_forged_log_is_kept_as_the_problem_until_a_sound_answer(
    home: AgentHome, desk: Desk, log: Log
) -> None:
    forged = Log(list(log.entries))
    forged.add("dan", Start(plan_hash="f" * 64))
    desk.lines = forged.lines
    with refresher(home):
        eventually(lambda: ContractStore(home).problem() is ReplyCode.UNKNOWN_PLAN)
        desk.lines = log.lines
        eventually(lambda: ContractStore(home).problem() is None)
    assert ContractStore(home).load() == log.contract


def test_garbage_from_the_desk_is_a_forged_log(home: AgentHome, desk: Desk, log: Log) -> None:
    desk.lines = [*log.lines, b"\xff not an entry"]
    with pytest.raises(ContractError):
        refresh(home, now=now())
    assert ContractStore(home).problem() is ReplyCode.LOG_FORGED


def test_nothing_is_asked_that_the_journal_cannot_hold(home: AgentHome, desk: Desk) -> None:
    home.egress_journal.mkdir()
    with refresher(home):
        time.sleep(1)
    assert desk.refreshes == []


def test_without_a_ledger_nothing_is_told(
    home: AgentHome, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    home.ledger.unlink()
    with refresher(home):
        eventually(lambda: "is missing" in caplog.text)
    assert desk.refreshes == []
    assert not home.ledger.exists()


def issued(home: AgentHome, node_id: int) -> bytes:
    """A later certificate of the same key."""
    return certificate(Ed25519PublicKey.from_public_bytes(device_key(home)), str(node_id))


def test_a_new_certificate_takes_the_place_of_the_old(home: AgentHome, desk: Desk) -> None:
    desk.renewal = issued(home, 42)
    assert device_certificate(home) != desk.renewal
    refresh(home, now=now())
    assert device_certificate(home) == desk.renewal


@pytest.mark.parametrize("make", [lambda _home: b"garbage", lambda home: issued(home, 43)])
def test_a_new_certificate_for_somebody_else_is_refused(
    home: AgentHome, desk: Desk, make: Callable[[AgentHome], bytes]
) -> None:
    before = device_certificate(home)
    desk.renewal = make(home)
    with pytest.raises(CertificateError):
        refresh(home, now=now())
    assert device_certificate(home) == before


def test_a_desk_with_another_certificate_is_not_believed(home: AgentHome, tmp_path: Path) -> None:
    certificates.create(tmp_path / "other", ["127.0.0.1"], now=now())
    home.ca_certificate.write_bytes((tmp_path / "other" / "ca.crt").read_bytes())
    with pytest.raises(DeskError):
        refresh(home, now=now())
