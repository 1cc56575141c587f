"""The trainer process: a job in, a result out, and nothing it does wrong harms the node."""

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import fake_trainer
import numpy as np
import pytest

from stock_flower import eventually
from tacitly_client.node.trainer_process import TrainerError, TrainerProcess
from tacitly_client.training.pipe import Job
from tacitly_common.wire.codes import ReplyCode

COORDINATES = 50
# Larger than a pipe's buffer: a trainer that does not read must not block the node for ever.
MODEL = b"\0" * 1_000_000


class Trainers:
    """Makes trainers of a mode and kills them at the end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stop = threading.Event()
        self.made: list[TrainerProcess] = []

    def __call__(self, mode: str) -> TrainerProcess:
        command = [sys.executable, fake_trainer.__file__, mode, str(COORDINATES)]
        self.made.append(
            TrainerProcess(
                [*command, str(self.directory)],
                log=self.directory / "trainer.log",
                coordinates=COORDINATES,
                stopped=self.stop.is_set,
            )
        )
        return self.made[-1]

    def jobs(self) -> list[list[str]]:
        """(process, round, attempt) of every job a trainer has read."""
        return [line.split() for line in (self.directory / "jobs").read_text().splitlines()]


@pytest.fixture
def trainers(tmp_path: Path) -> Iterator[Trainers]:
    made = Trainers(tmp_path)
    yield made
    for trainer in made.made:
        trainer.close()


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


def test_the_process_is_kept_for_the_next_round_and_closed_with_the_agent(
    trainers: Trainers,
) -> None:
    trainer = trainers("ok")
    for round_ in (1, 2):
        trainer.train(job(round_), MODEL, deadline_seconds=60)
    (first, _, _), (second, _, _) = trainers.jobs()
    assert first == second
    trainer.close()
    assert not alive(int(first))


def test_a_process_that_ended_by_itself_is_collected_and_replaced(trainers: Trainers) -> None:
    trainer = trainers("once")
    trainer.train(job(1), MODEL, deadline_seconds=60)
    eventually(lambda: trainer.process_id is None)
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
    assert trainer.process_id is None
    ((process, _, _),) = trainers.jobs()
    assert not alive(int(process))


def test_a_crashs_own_words_stay_in_the_log_of_this_machine(trainers: Trainers) -> None:
    with pytest.raises(TrainerError) as caught:
        trainers("crash").train(job(), MODEL, deadline_seconds=60)
    assert "typed" not in str(caught.value)
    log = trainers.directory / "trainer.log"
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
    assert trainer.process_id is None


def test_a_trainer_that_is_still_loading_at_the_deadline_is_there_for_the_next_job(
    trainers: Trainers,
) -> None:
    trainer = trainers("slow-start")
    with pytest.raises(TrainerError, match="loading"):
        trainer.train(job(1), MODEL, deadline_seconds=0.5)
    process_id = trainer.process_id
    (trainers.directory / "go").touch()
    assert trainer.train(job(2), MODEL, deadline_seconds=60).round == 2
    # The job that came too late was never given to it.
    assert trainers.jobs() == [[str(process_id), "2", "1"]]


def test_a_trainer_that_never_gets_ready_is_killed(trainers: Trainers) -> None:
    trainer = trainers("slow-start")
    for _ in range(2):
        assert trainer.process_id is None or alive(trainer.process_id)
        with pytest.raises(TrainerError, match="loading"):
            trainer.train(job(), MODEL, deadline_seconds=0.5)
    assert trainer.process_id is None


def test_a_trainer_that_ends_while_loading_is_an_error(trainers: Trainers) -> None:
    with pytest.raises(TrainerError, match="ready"):
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
    seen = set(json.loads((trainers.directory / "environment.json").read_text()))
    assert "PATH" in seen
    assert not seen & {"HTTPS_PROXY", "https_proxy", "FLWR_HOME", "SECRET_TOKEN", "PYTHONPATH"}


def test_an_old_log_does_not_grow_for_ever(trainers: Trainers) -> None:
    log = trainers.directory / "trainer.log"
    log.write_bytes(b"x" * 1_000_001)
    trainers("ok").train(job(), MODEL, deadline_seconds=60)
    assert log.stat().st_size == 0
