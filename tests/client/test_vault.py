"""The vault and the node's link to it: a job in, a result out, and nothing it does wrong harms
the node. Trainers are processes of the vault's; only the connection is the node's.
"""

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import fake_trainer
import numpy as np
import pytest

from stock_flower import eventually
from tacitly_client.daemon.conditions import Hindrance
from tacitly_client.daemon.state import Training, VaultState
from tacitly_client.daemon.vault import vault_of
from tacitly_client.home import AgentHome
from tacitly_client.ledger import DeviceLedger
from tacitly_client.live_file import read_live
from tacitly_client.local_socket import connect
from tacitly_client.node.vault_link import TrainerError, TrainerLink, ask_vault
from tacitly_client.training.pipe import Job
from tacitly_common.errors import LedgerError, ValidationError
from tacitly_common.wire.codes import ReplyCode

COORDINATES = 50
# Larger than a socket's buffer: a trainer that does not read must not block the node for ever.
MODEL = b"\0" * 1_000_000


class Trainers:
    """A vault in a thread whose trainers do what `mode` says, and links to it."""

    def __init__(self, home: AgentHome) -> None:
        self.home = home
        self.stop = threading.Event()
        self.hindrances: list[Hindrance] = []
        self._links: list[TrainerLink] = []
        self._mode = home.root / "mode"
        trainer = [
            *(sys.executable, fake_trainer.__file__, f"@{self._mode}", str(COORDINATES)),
            str(home.root),
        ]
        self._vault = vault_of(home, trainer=trainer, hindrances=lambda _runs: self.hindrances)
        self._serving = self._vault.__enter__()
        self._thread = threading.Thread(target=self._serving.serve)
        self._thread.start()

    def __call__(self, mode: str) -> TrainerLink:
        self._mode.write_text(mode)
        link = TrainerLink(
            self.home.vault_socket, coordinates=COORDINATES, stopped=self.stop.is_set
        )
        self._links.append(link)
        return link

    def jobs(self) -> list[list[str]]:
        """(process, round, attempt) of every job a trainer has read."""
        path = self.home.root / "jobs"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def state(self) -> VaultState | None:
        """What the vault shows."""
        return read_live(self.home.vault_state, VaultState)

    def close(self) -> None:
        for link in self._links:
            link.close()
        self._serving.stop()
        self._thread.join()
        self._vault.__exit__(None, None, None)


@pytest.fixture
def trainers(tmp_path: Path) -> Iterator[Trainers]:
    home = AgentHome(tmp_path)
    DeviceLedger.create(home.ledger).close()
    made = Trainers(home)
    yield made
    made.close()


def job(round_: int = 2) -> Job:
    return Job(plan_hash="0" * 64, round=round_, attempt=1)


def alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_job_gets_its_update(trainers: Trainers) -> None:
    reply = trainers("ok").train(job(), MODEL, deadline_seconds=60)
    assert (reply.round, reply.attempt, reply.code) == (2, 1, ReplyCode.OK)
    assert reply.update is not None
    np.testing.assert_array_equal(reply.update, fake_trainer.update_of(2, COORDINATES))


def test_the_process_is_kept_for_the_next_round_and_closed_with_the_node(
    trainers: Trainers,
) -> None:
    trainer = trainers("ok")
    for round_ in (1, 2):
        trainer.train(job(round_), MODEL, deadline_seconds=60)
    (first, _, _), (second, _, _) = trainers.jobs()
    assert first == second
    assert trainers.state() == VaultState(Training.RUNNING)
    trainer.close()
    eventually(lambda: not alive(int(first)))
    eventually(lambda: trainers.state() == VaultState(Training.NONE))


def test_a_process_that_ended_by_itself_is_collected_and_replaced(trainers: Trainers) -> None:
    trainer = trainers("once")
    trainer.train(job(1), MODEL, deadline_seconds=60)
    eventually(lambda: not trainer.connected)
    trainer.train(job(2), MODEL, deadline_seconds=60)
    assert len({process for process, _, _ in trainers.jobs()}) == 2


def test_a_refusal_has_no_update(trainers: Trainers) -> None:
    reply = trainers("refuse").train(job(), MODEL, deadline_seconds=60)
    assert (reply.code, reply.update) == (ReplyCode.BUDGET_EXHAUSTED, None)


@pytest.mark.parametrize("mode", ["crash", "garbage", "short", "other-job", "leak-in-refusal"])
def test_a_wrong_answer_is_an_error_and_the_process_is_gone(trainers: Trainers, mode: str) -> None:
    trainer = trainers(mode)
    with pytest.raises(TrainerError):
        trainer.train(job(), MODEL, deadline_seconds=60)
    assert not trainer.connected
    ((process, _, _),) = trainers.jobs()
    eventually(lambda: not alive(int(process)))


def test_a_crashs_own_words_stay_in_the_log_of_this_machine(trainers: Trainers) -> None:
    with pytest.raises(TrainerError) as caught:
        trainers("crash").train(job(), MODEL, deadline_seconds=60)
    assert "typed" not in str(caught.value)
    log = trainers.home.trainer_log
    assert "what was typed" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_the_next_round_gets_a_new_process_after_a_crash(trainers: Trainers) -> None:
    trainer = trainers("crash")
    for round_ in (1, 2):
        with pytest.raises(TrainerError):
            trainer.train(job(round_), MODEL, deadline_seconds=60)
    assert len({process for process, _, _ in trainers.jobs()}) == 2


def test_a_trainer_that_misses_its_deadline_is_killed(trainers: Trainers) -> None:
    trainer = trainers("hang")
    trainer.train(job(1), MODEL, deadline_seconds=60)
    with pytest.raises(TrainerError, match="deadline"):
        trainer.train(job(2), MODEL, deadline_seconds=1)
    assert not trainer.connected
    eventually(lambda: not any(alive(int(process)) for process, _, _ in trainers.jobs()))


def test_a_trainer_that_is_still_loading_at_the_deadline_is_there_for_the_next_job(
    trainers: Trainers,
) -> None:
    trainer = trainers("slow-start")
    with pytest.raises(TrainerError, match="not ready"):
        trainer.train(job(1), MODEL, deadline_seconds=0.5)
    (trainers.home.root / "go").touch()
    assert trainer.train(job(2), MODEL, deadline_seconds=60).round == 2
    # The job that came too late was never given to it.
    assert [rest for _, *rest in trainers.jobs()] == [["2", "1"]]


def test_a_trainer_that_never_gets_ready_is_given_up(trainers: Trainers) -> None:
    trainer = trainers("slow-start")
    for kept in (True, False):
        with pytest.raises(TrainerError, match="not ready"):
            trainer.train(job(), MODEL, deadline_seconds=0.5)
        assert trainer.connected is kept


def test_a_trainer_that_ends_while_loading_is_an_error(trainers: Trainers) -> None:
    with pytest.raises(TrainerError, match="before it was ready"):
        trainers("dead-start").train(job(), MODEL, deadline_seconds=60)


def test_a_stop_ends_a_training(trainers: Trainers) -> None:
    trainer = trainers("hang")
    threading.Timer(1, trainers.stop.set).start()
    with pytest.raises(TrainerError):
        trainer.train(job(), MODEL, deadline_seconds=3_600)


def test_the_trainer_sees_little_of_the_environment(
    trainers: Trainers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "FLWR_HOME", "SECRET_TOKEN", "PYTHONPATH"):
        monkeypatch.setenv(name, "x")
    trainers("ok").train(job(), MODEL, deadline_seconds=60)
    seen = set(json.loads((trainers.home.root / "environment.json").read_text()))
    assert "PATH" in seen
    assert not seen & {"HTTPS_PROXY", "https_proxy", "FLWR_HOME", "SECRET_TOKEN", "PYTHONPATH"}


def test_an_old_log_does_not_grow_for_ever(trainers: Trainers) -> None:
    log = trainers.home.trainer_log
    log.write_bytes(b"x" * 1_000_001)
    trainers("ok").train(job(), MODEL, deadline_seconds=60)
    assert log.stat().st_size == 0


def test_a_trainer_begins_when_nothing_hinders_it(trainers: Trainers) -> None:
    trainers.hindrances = [Hindrance.PRESENT]
    trainer = trainers("ok")
    with pytest.raises(TrainerError, match="not ready"):
        trainer.train(job(1), MODEL, deadline_seconds=1)
    assert trainers.state() == VaultState(Training.WAITING, (Hindrance.PRESENT,))
    assert not (trainers.home.root / "environment.json").exists(), "a trainer was started"
    trainers.hindrances = []
    assert trainer.train(job(2), MODEL, deadline_seconds=60).round == 2


def test_a_trainer_stands_still_while_the_person_is_there_and_goes_on_after(
    trainers: Trainers,
) -> None:
    trainer = trainers("ok")
    trainer.train(job(1), MODEL, deadline_seconds=60)
    process = int(trainers.jobs()[0][0])
    trainers.hindrances = [Hindrance.PRESENT, Hindrance.BATTERY]
    eventually(lambda: condition(process) == "T")
    assert trainers.state() == VaultState(Training.WAITING, (Hindrance.PRESENT, Hindrance.BATTERY))
    trainers.hindrances = []
    eventually(lambda: condition(process) == "S")
    assert trainer.train(job(2), MODEL, deadline_seconds=60).round == 2
    assert [int(pid) for pid, _, _ in trainers.jobs()] == [process, process]


def test_one_that_stands_still_at_the_deadline_is_killed(trainers: Trainers) -> None:
    trainer = trainers("ok")
    trainer.train(job(1), MODEL, deadline_seconds=60)
    process = int(trainers.jobs()[0][0])
    trainers.hindrances = [Hindrance.PRESENT]
    eventually(lambda: condition(process) == "T")
    with pytest.raises(TrainerError, match="deadline"):
        trainer.train(job(2), MODEL, deadline_seconds=1)
    eventually(lambda: not alive(process))


def test_who_asks_anew_gets_the_only_trainer(trainers: Trainers) -> None:
    former, later = trainers("ok"), trainers("ok")
    former.train(job(1), MODEL, deadline_seconds=60)
    later.train(job(2), MODEL, deadline_seconds=60)
    eventually(lambda: not former.connected)
    (first, _, _), (second, _, _) = trainers.jobs()
    assert not alive(int(first))
    assert alive(int(second))


@pytest.mark.parametrize("said", [b"", b"X", b"\0"])
def test_who_asks_for_something_else_gets_nothing_and_holds_nobody_up(
    trainers: Trainers, said: bytes
) -> None:
    with connect(trainers.home.vault_socket) as connection:
        connection.sendall(said)
        assert trainers("ok").train(job(), MODEL, deadline_seconds=60).round == 2
        connection.settimeout(30)
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_the_ledgers_report_comes_by_the_same_way(trainers: Trainers) -> None:
    with DeviceLedger.open(trainers.home.ledger) as ledger:
        head = ledger.head().hash
    told = ask_vault(trainers.home.vault_socket)
    assert (told.attempts, told.head) == (0, head)


def test_without_a_ledger_there_is_no_report(trainers: Trainers) -> None:
    trainers.home.ledger.unlink()
    with pytest.raises(LedgerError, match=r"trainer\.log"):
        ask_vault(trainers.home.vault_socket)


def test_without_a_vault_the_node_waits_for_it_and_then_says_so(tmp_path: Path) -> None:
    link = TrainerLink(tmp_path / "vault.sock", coordinates=1, stopped=lambda: False)
    with pytest.raises(TrainerError, match="is the agent running"):
        link.train(job(), b"", deadline_seconds=0.5)
    with pytest.raises(LedgerError, match="no report"):
        ask_vault(tmp_path / "vault.sock", stopped=lambda: True)


def test_there_is_one_vault_for_a_home(trainers: Trainers) -> None:
    with (
        pytest.raises(ValidationError, match="another vault runs"),
        vault_of(trainers.home, trainer=[]),
    ):
        pytest.fail("there were two")


def test_a_path_longer_than_a_socket_address_is_no_hindrance(tmp_path: Path) -> None:
    home = AgentHome(tmp_path / ("a" * 100) / ("b" * 100))
    home.create()
    made = Trainers(home)
    try:
        assert made("ok").train(job(), MODEL, deadline_seconds=60).round == 2
    finally:
        made.close()


def condition(process: int) -> str:
    """A process's state as the kernel has it: S sleeps, T is stopped."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
