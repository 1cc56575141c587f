"""The resident node: this device on the wire. Opens neither store nor ledger, holds no torch.

    1. Take the home's lock, read the officers' log, the joined plan and the key, wait a random
       moment. Beside the loop `refresher.py` asks the desk for what the officers sign.
    2. Connect. The heartbeat starts.
    3. Ask for a message; in between wait (long when idle, short for a while after a task). Look
       whether log or plan have changed; then the trainer is begun anew.
    4. Judge what the message and its run claim to be; a refusal is its answer.
    5. Fetch the content, read the task, judge it by the log, the joined plan and its grant, check
       that the model is finite and the plan's size; a refusal is its answer.
    6. Let a trainer, which the vault starts, answer within the round's deadline. If the plan masks,
       the message is one step of several (`masked.py`), and a trainer is needed in one of them.
    7. Pass the answer through the egress guard, write the journal, send, go to 3. If the person
       has left, withdrawn or paused meanwhile the answer is a refusal, as if that had come first.

What goes wrong on this device in 4 to 6 becomes the answer DEVICE_FAULT. What goes wrong on the
way to the server is waited out (`backoff.py`) and tried again until the message expires; nothing
ends the node but a stop: then the trainer is given up and the server told.
"""

import logging
import random
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from tacitly_client.capture.clock import SystemClock
from tacitly_client.device_identity import masking_identity
from tacitly_client.home import AgentHome, AgentSettings
from tacitly_client.node.agreement import AgreementWatch
from tacitly_client.node.backoff import Backoff, Pause, Trouble, Wake
from tacitly_client.node.connection import Connection, Instruction
from tacitly_client.node.egress import SealedReply, seal, seal_fault
from tacitly_client.node.egress_journal import EgressJournal
from tacitly_client.node.heartbeat import Heartbeat
from tacitly_client.node.identity import load_node_key
from tacitly_client.node.masked import MaskedAttempts
from tacitly_client.node.policy import Agreement, judge_offer, judge_task, nameable
from tacitly_client.node.refresher import Refresher
from tacitly_client.node.transport import FleetError, ServerClock, WithdrawnError
from tacitly_client.node.vault_link import TrainerLink, ask_vault
from tacitly_client.processes import only_process
from tacitly_client.training.pipe import Job
from tacitly_common.campaign import CampaignPlan
from tacitly_common.errors import TacitlyError
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import (
    Reply,
    WireError,
    parse_step_content,
    parse_task,
    parse_train_content,
)
from tacitly_common.wire.phases import ENDS_AT, Phase

# How long after a task another one is likely: the next round of the same cohort.
_ACTIVE_SECONDS: Final = 300.0
_JITTER: Final = (0.75, 1.25)
_SHARE_OF_ROUND: Final = 0.25
_STEP_SECONDS: Final = 1.0
_SHARE_OF_STEP: Final = 0.01

log = logging.getLogger(__name__)
_T = TypeVar("_T")


def _utc_now() -> datetime:
    return datetime.now(UTC)


def run_agent(
    home: AgentHome,
    settings: AgentSettings,
    *,
    stop: threading.Event,
    clock: ServerClock | None = None,
    now: Callable[[], datetime] = _utc_now,
) -> None:
    """Take part in rounds until stopped.

    Args:
        home: an enrolled agent's directory.
        settings: where the server is, how often to ask.
        stop: set it to end cleanly.
        clock: the server's clock as this device learns it.
        now: this device's own clock, which alone says when plans and grants end.

    Raises:
        ValidationError, PlanError: the home cannot be used. Nothing the network does is raised.
    """
    with ExitStack() as stack:
        stack.enter_context(only_process(home.node_lock, "agent"))
        watch = AgreementWatch(home, SystemClock())
        connection = Connection(
            settings.server,
            ca_certificate=home.ca_certificate,
            key=load_node_key(home),
            node_id_file=home.node_id,
            heartbeat_seconds=settings.heartbeat_seconds,
            clock=clock,
        )
        stack.callback(connection.disconnect)

        def trainer_of(plan: CampaignPlan) -> TrainerLink:
            return TrainerLink(
                home.vault_socket,
                coordinates=plan.model.trainable_parameters,
                stopped=lambda: stop.is_set() or watch.current().joined != plan,
            )

        journal = EgressJournal(home.egress_journal)
        agent = Agent(
            watch.current,
            settings,
            connection,
            trainer_of,
            journal,
            Pause.on(stop),
            now,
            masked_of=lambda plan: MaskedAttempts(plan, partial(masking_identity, home), now),
        )
        stack.callback(agent.close)
        stack.enter_context(
            Refresher(
                home,
                report=partial(ask_vault, home.vault_socket, stopped=stop.is_set),
                seconds=settings.refresh_seconds,
                now=now,
            )
        )
        agent.run()


@dataclass(slots=True)
class _Known:
    """What is known of a message's task so far: what its answer and the journal will name."""

    plan_hash: str = ""
    round: int = 0
    attempt: int = 0
    # The joined plan, once the task has passed its judgement.
    plan: CampaignPlan | None = None


class _StoppedError(Exception):
    """The agent is to end."""


class Agent:
    """The loop of the module's text, steps 2 to 7, over its parts."""

    def __init__(
        self,
        agreement: Callable[[], Agreement],
        settings: AgentSettings,
        connection: Connection,
        trainer_of: Callable[[CampaignPlan], TrainerLink],
        journal: EgressJournal,
        pause: Pause,
        now: Callable[[], datetime] = _utc_now,
        *,
        masked_of: Callable[[CampaignPlan], MaskedAttempts],
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._agreement = agreement
        self._settings = settings
        self._connection = connection
        self._trainer_of = trainer_of
        self._journal = journal
        self._pause = pause
        self._now = now
        self._masked_of = masked_of
        self._uniform = uniform
        self._backoff = Backoff(uniform)
        self._active_until = 0.0
        self._held: Agreement | None = None
        self._trainer: TrainerLink | None = None
        self._masked: MaskedAttempts | None = None
        self._answered: dict[int, int] = {}
        self._look()

    def close(self) -> None:
        """End the trainer, and drop a masked attempt's secrets."""
        if self._trainer is not None:
            self._trainer.close()
        if self._masked is not None:
            self._masked.close()

    def _look(self) -> Agreement:
        """What this device holds to now; the trainer has read it at its start, so begin anew."""
        held = self._agreement()
        if held is not self._held:
            self.close()
            self._connection.expect(array_bytes=held.largest_message_bytes)
            self._trainer = self._trainer_of(held.joined) if held.joined else None
            masks = held.joined is not None and held.joined.masking is not None
            self._masked = self._masked_of(held.joined) if held.joined and masks else None
            self._answered = self._journal.answered(held.joined.hash) if held.joined else {}
            self._held = held
            log.info("holding %s", _described(held))
        return held

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
            if self._trainer is not None:
                self._trainer.collect()
            instruction = self._persist(self._pull)
            if instruction is None:
                self._look()
            else:
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
        joined = self._held.joined if self._held else None
        if self._connection.clock.now() < self._active_until:
            if joined is not None and self._masked is not None and self._masked.goes_on:
                # The next step comes when the others have answered this one, and is soon over.
                within = max(_STEP_SECONDS, _SHARE_OF_STEP * joined.cohort.deadline_seconds)
                return min(self._settings.poll_seconds, within)
            return self._settings.poll_seconds
        if joined is None:
            return self._settings.idle_poll_seconds
        # However idle: a task that is seen late in its round, or its first step, is a round missed.
        first = 1.0 if joined.masking is None else ENDS_AT[Phase.ADVERTISE]
        within = _SHARE_OF_ROUND * first * joined.cohort.deadline_seconds
        return min(self._settings.idle_poll_seconds, within)

    def _answer(self, instruction: Instruction) -> None:
        """Steps 4 to 7 for one message."""
        known = _Known()
        try:
            held = self._look()
            reply = self._reply(instruction, held, known)
            coordinates = held.joined.model.trainable_parameters if held.joined else 0
            sealed = seal(
                instruction.address,
                reply,
                coordinates=coordinates,
                check_step=self._masked.check_step if self._masked else None,
            )
        except (FleetError, WithdrawnError, _StoppedError):
            raise
        except Exception as error:
            log.warning("device fault: %s", loggable(error))
            reply = Reply(known.round, known.attempt, ReplyCode.DEVICE_FAULT, None)
            sealed = seal_fault(instruction.address, round_=known.round, attempt=known.attempt)
        if self._left_meanwhile(known):
            self._refuse(instruction, known)
        else:
            self._send(instruction, known, reply, sealed)

    def _reply(self, instruction: Instruction, held: Agreement, known: _Known) -> Reply:
        """Steps 4 to 6."""
        offer = self._persist(lambda: self._connection.claims(instruction), instruction)
        code = judge_offer(held, offer)
        if code is not ReplyCode.OK:
            return Reply(0, 0, code, None)
        received: dict[str, bytes] = {}
        try:
            content = self._persist(
                lambda: self._connection.fetch(instruction, received), instruction
            )
            self._persist(lambda: self._connection.confirm(instruction), instruction)
            task = parse_task(content)
        except WireError:
            return Reply(0, 0, ReplyCode.MALFORMED_TASK, None)
        known.round, known.attempt = nameable(task)
        known.plan_hash = task.plan_hash if task.plan_hash in held.plans else ""
        code = judge_task(held, task, self._answered, now=self._now())
        if code is not ReplyCode.OK or held.joined is None or self._trainer is None:
            return Reply(known.round, known.attempt, code, None)
        known.plan = plan = held.joined
        job = Job(plan_hash=task.plan_hash, round=task.round, attempt=task.attempt)
        trainer, deadline = self._trainer, partial(self._deadline, plan, instruction)
        try:
            if self._masked is None:
                _, model = parse_train_content(content, parameters=plan.model.parameters)
                return trainer.train(job, _bytes_of(model), deadline_seconds=deadline())
            _, step, start = parse_step_content(
                content,
                parameters=plan.model.parameters,
                most_bytes=self._masked.largest_payload_bytes,
            )
        except WireError:
            return Reply(known.round, known.attempt, ReplyCode.MALFORMED_TASK, None)
        return self._masked.answer(
            task,
            step,
            b"" if start is None else _bytes_of(start),
            lambda body: trainer.train(job, body, deadline_seconds=deadline()),
            update_left=self._answered.get(task.round, -1) >= task.attempt,
        )

    def _deadline(self, plan: CampaignPlan, instruction: Instruction) -> float:
        """Seconds the trainer has: the plan's, or what is left of the message's life."""
        left = instruction.expires_at - self._connection.clock.now()
        return max(0.0, min(float(plan.cohort.deadline_seconds), left))

    def _send(
        self, instruction: Instruction, known: _Known, reply: Reply, sealed: SealedReply
    ) -> None:
        """Step 7: the journal first, then the wire."""
        self._journal.record(known.plan_hash, reply, sealed, now=self._connection.clock.now())
        if reply.holds_update:
            highest = max(reply.attempt, self._answered.get(reply.round, 0))
            self._answered[reply.round] = highest

        def push() -> bool:
            # Looked at before each try: a network may take an hour to come back.
            if self._left_meanwhile(known):
                return False
            self._connection.push(sealed)
            return True

        if self._persist(push, instruction):
            phase = f" {reply.step.phase.name.lower()}" if reply.step else ""
            log.info(
                "round %d attempt %d%s: %s", reply.round, reply.attempt, phase, reply.code.name
            )
        else:
            self._refuse(instruction, known)

    def _refuse(self, instruction: Instruction, known: _Known) -> None:
        """Answer as to somebody who had not joined when the task came."""
        known.plan = None
        reply = Reply(known.round, known.attempt, ReplyCode.NOT_JOINED, None)
        self._send(instruction, known, reply, seal(instruction.address, reply, coordinates=0))

    def _left_meanwhile(self, known: _Known) -> bool:
        """Whether the person takes no part any more in the campaign whose task was judged OK."""
        if known.plan is None:
            return False
        try:
            return self._agreement().joined != known.plan
        except TacitlyError:
            return True  # the home cannot be read any more: nothing in it agrees to anything

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


def _bytes_of(model: NDArray[np.float32]) -> bytes:
    return model.astype("<f4").tobytes()


def loggable(error: Exception) -> str:
    """What a log may hold of an error: our own words, or the type alone (a text can be any)."""
    return str(error) if isinstance(error, TacitlyError) else type(error).__name__


def _described(held: Agreement) -> str:
    """For the log: how long the officers' log is, and which campaign was joined."""
    log_length = held.contract.length if held.contract else 0
    joined = held.joined.hash[:16] if held.joined else "none"
    problem = f", refused: {held.problem.name}" if held.problem else ""
    return f"{log_length} entries of the officers' log, campaign {joined}{problem}"
