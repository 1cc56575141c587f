"""The resident agent: this device on the wire. Holds no torch, no store key and no event.

    1. Take the home's lock, read the plan and the key, wait a random moment.
    2. Connect. The heartbeat starts.
    3. Ask for a message; in between wait (long when idle, short for a while after a task).
    4. Judge what the message and its run claim to be; a refusal is its answer.
    5. Fetch the content, check that it is a train task with a finite model of the plan's size,
       judge the task; a refusal is its answer.
    6. Let the trainer process answer within the round's deadline.
    7. Pass the answer through the egress guard, write the journal, send, go to 3.

What goes wrong on this device in 4 to 6 becomes the answer DEVICE_FAULT. What goes wrong on the
way to the server is waited out (`backoff.py`) and tried again until the message expires; nothing
ends the agent but a stop: then the trainer is killed and the server told.
"""

import logging
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from tacitly_client.home import AgentHome, AgentSettings
from tacitly_client.node.backoff import Backoff, Pause, Trouble, Wake
from tacitly_client.node.connection import Connection, Instruction
from tacitly_client.node.egress import EgressJournal, SealedReply, seal, seal_fault
from tacitly_client.node.heartbeat import Heartbeat
from tacitly_client.node.identity import load_node_key
from tacitly_client.node.policy import judge_offer, judge_task, nameable
from tacitly_client.node.trainer_process import TrainerProcess, worker_command
from tacitly_client.node.transport import FleetError, ServerClock, WithdrawnError
from tacitly_client.processes import only_process, stop_on_signals
from tacitly_client.training.pipe import Job
from tacitly_common.campaign import CampaignPlan, read_plan
from tacitly_common.errors import TacitlyError
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import Reply, WireError, parse_train_content

# How long after a task another one is likely: the next round of the same cohort.
_ACTIVE_SECONDS: Final = 300.0
_JITTER: Final = (0.75, 1.25)
_SHARE_OF_ROUND: Final = 0.25

log = logging.getLogger(__name__)
_T = TypeVar("_T")


def run_agent(
    home: AgentHome,
    settings: AgentSettings,
    *,
    trainer_command: Sequence[str] | None = None,
    stop: threading.Event | None = None,
    clock: ServerClock | None = None,
) -> None:
    """Take part in rounds until stopped.

    Args:
        home: an initialised agent's directory.
        settings: where the server is, how often to ask.
        trainer_command: the trainer's command line; the installed worker if None.
        stop: set it to end cleanly; if None, SIGTERM and SIGINT do.
        clock: the server's clock as this device learns it.

    Raises:
        ValidationError, PlanError: the home cannot be used. Nothing the network does is raised.
    """
    if stop is None:
        stop = threading.Event()
        stop_on_signals(stop)
    with ExitStack() as stack:
        stack.enter_context(only_process(home.node_lock, "agent"))
        plan = read_plan(home.plan)
        connection = Connection(
            settings.server,
            ca_certificate=home.ca_certificate,
            key=load_node_key(home),
            node_id_file=home.node_id,
            heartbeat_seconds=settings.heartbeat_seconds,
            model_bytes=4 * plan.model.parameters,
            clock=clock,
        )
        stack.callback(connection.disconnect)
        trainer = TrainerProcess(
            trainer_command or worker_command(home),
            log=home.trainer_log,
            coordinates=plan.model.trainable_parameters,
            stopped=stop.is_set,
        )
        stack.callback(trainer.close)
        journal = EgressJournal(home.egress_journal)
        Agent(plan, settings, connection, trainer, journal, Pause.on(stop)).run()


@dataclass(slots=True)
class _Known:
    """What is known of a message's task so far: what its answer will name."""

    round: int = 0
    attempt: int = 0


class _StoppedError(Exception):
    """The agent is to end."""


class Agent:
    """The loop of the module's text, steps 2 to 7, over its parts."""

    def __init__(
        self,
        plan: CampaignPlan,
        settings: AgentSettings,
        connection: Connection,
        trainer: TrainerProcess,
        journal: EgressJournal,
        pause: Pause,
        *,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._connection = connection
        self._trainer = trainer
        self._journal = journal
        self._pause = pause
        self._uniform = uniform
        self._backoff = Backoff(uniform)
        self._latest = journal.latest(plan.hash)
        self._active_until = 0.0

    def run(self) -> None:
        """Until stopped."""
        try:
            self._wait(self._uniform(0.0, self._settings.poll_seconds))
            self._persist(self._connection.connect)
            log.info("connected")
            with _Beating(self._connection, self._settings.heartbeat_seconds):
                while True:
                    self._turn()
        except _StoppedError:
            log.info("stopped")

    def _turn(self) -> None:
        """Steps 3 to 7, once."""
        try:
            self._trainer.collect()
            instruction = self._persist(self._pull)
            if instruction is not None:
                self._active_until = self._connection.clock.now() + _ACTIVE_SECONDS
                self._answer(instruction)
        except WithdrawnError:
            log.info("the task was withdrawn")
        except FleetError as error:
            log.info("the task expired: %s", error.trouble.name)
        except Exception as error:
            log.warning("unforeseen: %s", loggable(error))
            self._wait(self._backoff.wait_after(Trouble.UNKNOWN))
        # Also after a message: a server cannot keep this machine busy with refusals.
        self._wait(self._poll_seconds() * self._uniform(*_JITTER))

    def _pull(self) -> Instruction | None:
        if not self._connection.connected:
            self._connection.connect()
        return self._connection.pull()

    def _poll_seconds(self) -> float:
        if self._connection.clock.now() < self._active_until:
            return self._settings.poll_seconds
        # However idle: a task that is seen late in its round is a round missed.
        return min(
            self._settings.idle_poll_seconds,
            _SHARE_OF_ROUND * self._plan.cohort.deadline_seconds,
        )

    def _answer(self, instruction: Instruction) -> None:
        """Steps 4 to 7 for one message."""
        known = _Known()
        try:
            reply = self._reply(instruction, known)
            coordinates = self._plan.model.trainable_parameters
            sealed = seal(instruction.address, reply, coordinates=coordinates)
        except (FleetError, WithdrawnError, _StoppedError):
            raise
        except Exception as error:
            log.warning("device fault: %s", loggable(error))
            reply = Reply(known.round, known.attempt, ReplyCode.DEVICE_FAULT, None)
            sealed = seal_fault(instruction.address, round_=known.round, attempt=known.attempt)
        self._send(instruction, reply, sealed)

    def _reply(self, instruction: Instruction, known: _Known) -> Reply:
        """Steps 4 to 6."""
        offer = self._persist(lambda: self._connection.claims(instruction), instruction)
        code = judge_offer(self._plan, offer)
        if code is not ReplyCode.OK:
            return Reply(0, 0, code, None)
        received: dict[str, bytes] = {}
        try:
            content = self._persist(
                lambda: self._connection.fetch(instruction, received), instruction
            )
        except WireError:
            return Reply(0, 0, ReplyCode.MALFORMED_TASK, None)
        self._persist(lambda: self._connection.confirm(instruction), instruction)
        try:
            task, model = parse_train_content(content, parameters=self._plan.model.parameters)
        except WireError:
            return Reply(0, 0, ReplyCode.MALFORMED_TASK, None)
        known.round, known.attempt = nameable(task)
        code = judge_task(self._plan, task, self._latest)
        if code is not ReplyCode.OK:
            return Reply(known.round, known.attempt, code, None)
        job = Job(plan_hash=task.plan_hash, round=task.round, attempt=task.attempt)
        return self._trainer.train(
            job, model.astype("<f4").tobytes(), deadline_seconds=self._deadline(instruction)
        )

    def _deadline(self, instruction: Instruction) -> float:
        """Seconds the trainer has: the plan's, or what is left of the message's life."""
        left = instruction.expires_at - self._connection.clock.now()
        return max(0.0, min(float(self._plan.cohort.deadline_seconds), left))

    def _send(self, instruction: Instruction, reply: Reply, sealed: SealedReply) -> None:
        """Step 7: the journal first, then the wire."""
        self._journal.record(self._plan.hash, reply, sealed, now=self._connection.clock.now())
        if reply.code is ReplyCode.OK:
            self._latest = (reply.round, reply.attempt)
        self._persist(lambda: self._connection.push(sealed), instruction)
        log.info("round %d attempt %d: %s", reply.round, reply.attempt, reply.code.name)

    def _persist(self, action: Callable[[], _T], instruction: Instruction | None = None) -> _T:
        """`action`, again and again through all troubles; with a message, while it is valid."""
        while True:
            try:
                result = action()
            except FleetError as error:
                log.info("waiting: %s", error.trouble.name)
                # `not <`: a server's expiry that is not a number is in the past.
                if instruction and not self._connection.clock.now() < instruction.expires_at:
                    raise
                self._wait(self._backoff.wait_after(error.trouble, error.retry_after_seconds))
            else:
                self._backoff.reset()
                return result

    def _wait(self, seconds: float) -> None:
        match self._pause.for_seconds(seconds):
            case Wake.STOPPED:
                raise _StoppedError
            case Wake.RESUMED:
                # Awake again, perhaps in another network: what failed before says nothing.
                self._backoff.reset()
            case Wake.ELAPSED:
                pass


class _Beating:
    """The heartbeat while the agent is connected."""

    def __init__(self, connection: Connection, seconds: float) -> None:
        self._heartbeat = Heartbeat(connection.heartbeat, seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._heartbeat.close()


def loggable(error: Exception) -> str:
    """What a log may hold of an error: our own words, or the type alone (a text can be any)."""
    return str(error) if isinstance(error, TacitlyError) else type(error).__name__
