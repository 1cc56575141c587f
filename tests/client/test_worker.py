"""The trainer as the process it is: its frames, its end, and SIGKILL at every moment."""

import contextlib
import io
import os
import random
import re
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import pytest

from forks import forks
from homes import JOB_COST, make_home, model_bytes, training_plan
from tacitly_client.home import AgentHome, TrainWhen, read_settings
from tacitly_client.ledger import AttemptKey, AttemptState, DeviceLedger
from tacitly_client.training import attempt as attempts
from tacitly_client.training import pipe
from tacitly_client.training.outbox import Outbox
from tacitly_client.training.pipe import READY, Job, Result, read_frame, write_frame
from tacitly_client.training.worker import serve
from tacitly_common.accounting.record import SATURATED, rdp_of_steps
from tacitly_common.wire.codes import ReplyCode

KILLS = int(os.environ.get("TACITLY_SIGKILLS", "4"))
PLAN = training_plan(participations=20)
COMMAND = [sys.executable, "-m", "tacitly_client.training.worker", "--home"]
ATTEMPT_RDP = rdp_of_steps(PLAN.record.noise_multiplier, PLAN.record.sample_rate, PLAN.record.steps)
BODY_BYTES = 4 * PLAN.model.trainable_parameters

# Prints as a careless library would, and has a fault whose text quotes what was typed.
CARELESS = """
import os, sys
import tacitly_client.training.attempt as attempt
from tacitly_client.training.worker import main
real = attempt.answer
def careless(home, plan, settings, job, body, **time):
    print("stray print", flush=True)
    os.write(1, b"stray bytes")
    if job.attempt == 13:
        raise RuntimeError("the person typed: hunter2")
    return real(home, plan, settings, job, body, **time)
attempt.answer = careless
main(["--home", sys.argv[1]])
"""


def job(attempt: int, round_: int = 1) -> Job:
    return Job(plan_hash=PLAN.hash, round=round_, attempt=attempt)


def frames(*jobs: Job) -> bytes:
    stream = io.BytesIO()
    for one in jobs:
        write_frame(stream, one, model_bytes(PLAN))
    return stream.getvalue()


def results(output: bytes) -> list[tuple[Result, bytes]]:
    """Every frame of `output`, which must hold nothing else but READY before them."""
    stream = io.BytesIO(output)
    assert stream.read(len(READY)) == READY
    found = []
    while (frame := read_frame(stream, Result, max_body_bytes=BODY_BYTES)) is not None:
        found.append(frame)
    return found


@contextlib.contextmanager
def ready(home: AgentHome, *arguments: str) -> Iterator[int]:
    """A trainer that waits for jobs: its process id."""
    command = [*COMMAND, str(home.root), *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        try:
            assert process.stdout.read(len(READY)) == READY
            yield process.pid
        finally:
            process.kill()


@pytest.mark.parametrize(("when", "nice"), [(TrainWhen.IDLE, 19), (TrainWhen.ALWAYS, 0)])
def test_it_is_nice_where_somebody_may_be_at_work_and_its_memory_is_bounded(
    tmp_path: Path, when: TrainWhen, nice: int
) -> None:
    home = make_home(tmp_path / "agent", PLAN)
    changed = msgspec.structs.replace(read_settings(home), train_when=when)
    home.settings.write_bytes(msgspec.json.encode(changed))
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    with ready(home) as process:
        assert os.getpriority(os.PRIO_PROCESS, process) == max(ours, min(19, ours + nice))
        data_bytes = resource.prlimit(process, resource.RLIMIT_DATA)
        assert data_bytes == (2 * 2**30, 2 * 2**30)
        assert resource.prlimit(process, resource.RLIMIT_CORE) == (0, 0)


def test_it_dies_with_its_vault_even_while_it_stands_still(tmp_path: Path) -> None:
    home = make_home(tmp_path / "agent", PLAN)
    program = (
        "import subprocess, sys, os, signal\n"
        "command = [*sys.argv[1:], '--parent-pid', str(os.getpid())]\n"
        "child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.read(1)\n"
        "child.send_signal(signal.SIGSTOP)\n"
        "print(child.pid, flush=True)\n"
        "signal.pause()\n"
    )
    command = [sys.executable, "-c", program, *COMMAND, str(home.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as vault:
        trainer = os.pidfd_open(int(vault.stdout.readline()))
        vault.kill()
        assert select.select([trainer], [], [], 60)[0], "it has outlived its vault"
        os.close(trainer)


def test_jobs_written_at_once_are_answered_and_no_job_for_a_while_ends_it(tmp_path):
    home = make_home(tmp_path / "agent", PLAN, linger_seconds=0.3)
    with subprocess.Popen(
        [*COMMAND, str(home.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdin.write(frames(job(1), job(2), job(1)))
        process.stdin.flush()
        # stdin stays open: what ends the process is the lack of jobs.
        output = process.stdout.read()
        assert process.wait() == 0
    (first, first_update), (second, second_update), (again, again_update) = results(output)
    assert [first.code, second.code, again.code] == [ReplyCode.OK] * 3
    assert [first.attempt, second.attempt, again.attempt] == [1, 2, 1]
    assert first_update == again_update != second_update


def test_stdout_holds_frames_alone_and_a_fault_shows_its_type_alone(tmp_path):
    home = make_home(tmp_path / "agent", PLAN)
    done = subprocess.run(
        [sys.executable, "-c", CARELESS, str(home.root)],
        input=frames(job(1), job(13), job(2)),
        capture_output=True,
        check=True,
    )
    assert [result.code for result, _ in results(done.stdout)] == [
        ReplyCode.OK,
        ReplyCode.DEVICE_FAULT,
        ReplyCode.OK,
    ]
    assert done.stderr.count(b"stray print") == done.stderr.count(b"stray bytes") == 3
    assert b"RuntimeError" in done.stderr
    assert b"hunter2" not in done.stderr + done.stdout


ASKS_WHETHER_IT_IS_DUMPED = """
import ctypes, sys
import tacitly_client.training.worker as worker
def asked(*_):
    print("dumpable", ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), file=sys.stderr)
    print(open("/proc/self/limits").read(), file=sys.stderr)
worker.serve = asked
worker.main(["--home", sys.argv[1]])
"""


def test_a_crash_would_leave_no_core_with_what_was_typed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ASKS_WHETHER_IT_IS_DUMPED, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "dumpable 0" in done.stderr
    assert re.search(r"Max core file size +0 +0 ", done.stderr)


def test_a_home_without_an_agent_ends_it_with_the_fix_and_no_torch(tmp_path):
    done = subprocess.run([*COMMAND, str(tmp_path)], input=b"", capture_output=True, check=False)
    assert done.returncode == 2
    assert b"tacitly-agent enrol" in done.stderr
    assert done.stdout == b""


# ------------------------------------------------------------------------------ SIGKILL
#
# The processes below are forked from one that has torch and Opacus loaded already: a kill
# costs milliseconds instead of seconds, and what is killed is a process like any other.
# torch loads `torch._dynamo` when the first optimiser is made.
LOADED = ("tacitly_client.training.attempt", "dp_accounting", "torch._dynamo")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_before(owner: object, name: str) -> None:
    def killed(*_args: object, **_keywords: object) -> None:
        die()

    setattr(owner, name, killed)


def kill_after(owner: object, name: str) -> None:
    real = getattr(owner, name)

    def killed(*args: object, **keywords: object) -> None:
        real(*args, **keywords)
        die()

    setattr(owner, name, killed)


KILL_POINTS = {
    "before the charge": lambda: kill_before(DeviceLedger, "charge"),
    "after the charge": lambda: kill_after(DeviceLedger, "charge"),
    "before the training": lambda: kill_before(attempts, "train"),
    "after the training": lambda: kill_after(attempts, "train"),
    "half written": lambda: kill_before(os, "fsync"),
    "after the result": lambda: kill_after(Outbox, "write"),
    "before the mark": lambda: kill_before(DeviceLedger, "mark"),
    "after the mark": lambda: kill_after(DeviceLedger, "mark"),
    "before the reply": lambda: kill_before(pipe, "write_frame"),
}


def trainer(
    home: AgentHome, requests: Connection, replies: Connection, kill_point: str | None
) -> None:
    if kill_point is not None:
        KILL_POINTS[kill_point]()
    with (
        os.fdopen(os.dup(requests.fileno()), "rb", buffering=0) as raw,
        os.fdopen(os.dup(replies.fileno()), "wb") as writer,
    ):
        serve(home, io.BufferedReader(raw, buffer_size=1), writer)


class Trainer:
    """A trainer process that can be killed."""

    def __init__(self, home: AgentHome, kill_point: str | None = None) -> None:
        processes = forks(__name__, *LOADED)
        requests, self.requests = processes.Pipe(duplex=False)
        self.replies, replies = processes.Pipe(duplex=False)
        self.process = processes.Process(target=trainer, args=(home, requests, replies, kill_point))
        self.process.start()
        requests.close()
        replies.close()
        assert os.read(self.replies.fileno(), len(READY)) == READY

    def send(self, one: Job) -> None:
        with os.fdopen(os.dup(self.requests.fileno()), "wb") as stream:
            write_frame(stream, one, model_bytes(PLAN))

    def receive(self) -> tuple[Result, bytes] | None:
        with os.fdopen(os.dup(self.replies.fileno()), "rb") as stream:
            return read_frame(stream, Result, max_body_bytes=BODY_BYTES)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def close(self) -> None:
        self.kill()
        self.requests.close()
        self.replies.close()


@contextlib.contextmanager
def running(home: AgentHome, kill_point: str | None = None) -> Iterator[Trainer]:
    one = Trainer(home, kill_point)
    try:
        yield one
    finally:
        one.close()


def asked(home: AgentHome, one: Job) -> tuple[ReplyCode, bytes]:
    """The answer of a fresh, undisturbed trainer."""
    with running(home) as fresh:
        fresh.send(one)
        result, update = fresh.receive()
    assert (result.round, result.attempt) == (one.round, one.attempt)
    return result.code, update


def books(home: AgentHome) -> DeviceLedger:
    return DeviceLedger.open(home.ledger)


def check_after_a_kill(home: AgentHome, one: Job, spent_before: int) -> int:
    """What must hold whenever the kill came; the nano-rho spent at the end."""
    key = AttemptKey(PLAN.hash, one.round, one.attempt)
    kept = Outbox(home.outbox).read(key) if home.outbox.exists() else None
    with books(home) as ledger:
        state, spent = ledger.state(key), ledger.spent_nano_rho()
        record_rdp = ledger.record_rdp(PLAN.hash)
    charged = state is not None
    assert spent == spent_before + charged * JOB_COST
    assert charged or kept is None, "a result that nobody paid for"
    assert state is not AttemptState.RELEASED or kept is not None, "released, but not kept"
    # The record level has paid for exactly the attempts that the person level has.
    assert record_rdp == tuple(min(value * (spent // JOB_COST), SATURATED) for value in ATTEMPT_RDP)

    code, update = asked(home, one)
    if charged and kept is None:
        assert (code, update) == (ReplyCode.DEVICE_FAULT, b"")
    else:
        assert code is ReplyCode.OK
    if kept is not None:
        assert update == kept
    assert asked(home, one) == (code, update)
    with books(home) as ledger:
        assert ledger.spent_nano_rho() == spent_before + JOB_COST
        expected = AttemptState.RELEASED if code is ReplyCode.OK else AttemptState.LOST
        assert ledger.state(key) is expected
        return ledger.spent_nano_rho()


@pytest.mark.parametrize("kill_point", KILL_POINTS)
def test_killed_at_each_step_it_loses_no_charge_and_noises_nothing_twice(tmp_path, kill_point):
    home = make_home(tmp_path / "agent", PLAN)
    with running(home, kill_point) as victim:
        victim.send(job(1))
        assert victim.receive() is None
        victim.process.join()
        assert victim.process.exitcode == -signal.SIGKILL
    spent = check_after_a_kill(home, job(1), 0)
    assert asked(home, job(2))[0] is ReplyCode.OK
    with books(home) as ledger:
        assert ledger.spent_nano_rho() == spent + JOB_COST


def test_killed_at_random_moments_it_loses_no_charge(tmp_path):
    home = make_home(tmp_path / "agent", PLAN)
    began = time.monotonic()
    assert asked(home, job(0))[0] is ReplyCode.OK
    usual_seconds = time.monotonic() - began
    spent = JOB_COST
    moments = random.Random()
    for attempt in range(1, KILLS + 1):
        with running(home) as victim:
            victim.send(job(attempt))
            time.sleep(moments.uniform(0, usual_seconds))
            victim.kill()
        spent = check_after_a_kill(home, job(attempt), spent)
    assert spent == (KILLS + 1) * JOB_COST


def test_an_orphaned_trainer_and_a_new_one_charge_an_attempt_once(tmp_path):
    home = make_home(tmp_path / "agent", PLAN)
    with running(home) as orphan, running(home) as new:
        orphan.send(job(1))
        new.send(job(1))
        assert orphan.receive() == new.receive()
    with books(home) as ledger:
        assert ledger.spent_nano_rho() == JOB_COST
