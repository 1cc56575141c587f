"""A masked campaign over devices in this process: the real halves of the protocol, real messages.

A device is what the agent has between judging a task and the egress guard, with residues of the
test's own choice in the place of a trainer.
"""

import os
import random
import signal
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from campaign_home import CampaignHome, make_home, subject
from flwr.app import Message
from inprocess_grid import Delivery, FakeClock, InProcessGrid
from numpy.typing import NDArray

from ledgers import open_ledger
from plans import masked_plan
from tacitly_client.node.masked import MaskedAttempts
from tacitly_common.campaign import CampaignPlan, read_plan
from tacitly_common.mechanisms.rounded_gaussian import centred
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import (
    Reply,
    Step,
    parse_step_content,
    parse_step_reply,
    reply_content,
)
from tacitly_common.wire.phases import Phase
from tacitly_server.campaigns.grants import Grants
from tacitly_server.home import ServerHome
from tacitly_server.ledger.population import Attempt, PopulationLedger
from tacitly_server.rounds.campaign import Campaign, Patience, run_campaign
from tacitly_server.rounds.permit import Ending
from tacitly_server.rounds.receipts import Receipt
from tacitly_simulations.bench.masked_group import NOW, authority, device

Attempts = tuple[int, int]


class MaskedDevice:
    """A node of the grid. `answers` may be changed by a test: what becomes of an honest answer.

    `sent` has the residues of each attempt whose masked vector left, and what left.
    """

    def __init__(self, plan: CampaignPlan, node_id: int) -> None:
        self.plan = plan
        self.node_id = node_id
        self.attempts = self.begin()
        self.residues: Callable[[int], NDArray[np.uint32]] = self._small
        self.sent: dict[Attempts, NDArray[np.uint32]] = {}
        self.left: set[Attempts] = set()
        self.payloads: dict[tuple[Attempts, Phase], bytes] = {}
        self.refused: list[ReplyCode] = []
        self.answers: Callable[[Message, Phase], Iterable[Delivery]] = self.honestly

    def begin(self) -> MaskedAttempts:
        """As after a start: the secrets of a process before are gone."""
        return MaskedAttempts(self.plan, lambda: device(self.node_id), lambda: NOW)

    def restart(self) -> None:
        self.attempts = self.begin()

    def __call__(self, message: Message) -> Iterable[Delivery]:
        return self.answers(message, self.phase(message))

    @staticmethod
    def phase(message: Message) -> Phase:
        return Phase(int(message.content.config_records["task"]["phase"]))  # type: ignore[arg-type]

    def honestly(self, message: Message, _phase: Phase) -> Iterable[Delivery]:
        return [Delivery(self.answer(message))]

    def answer(self, message: Message) -> Message:
        task, step, model = parse_step_content(
            message.content,
            parameters=self.plan.model.parameters,
            most_bytes=self.attempts.largest_payload_bytes,
        )
        at = (task.round, task.attempt)

        def train(_model: bytes) -> Reply:
            self.sent[at] = self.residues(task.round)
            return Reply(*at, ReplyCode.OK, self.sent[at].view(np.int32))

        reply = self.attempts.answer(
            task,
            step,
            b"" if model is None else model.tobytes(),
            train,
            update_left=at in self.left,
        )
        if reply.step is None:
            self.refused.append(reply.code)
        else:
            self.attempts.check_step(reply.step)
            self.payloads[at, reply.step.phase] = reply.step.payload
            if reply.holds_update:
                self.left.add(at)
        return Message(reply_content(reply), reply_to=message)

    def _small(self, _round: int) -> NDArray[np.uint32]:
        """An update of small integers of either sign, wrapped into the field."""
        d = self.plan.model.trainable_parameters
        rng = np.random.default_rng(self.node_id)
        signed = rng.integers(-1_000, 1_000, size=d)
        return (signed & ((1 << self.plan.field_bits) - 1)).astype(np.uint32)


class MaskedLab:
    """Devices, each of its own subject, and one server on a clock that costs no time."""

    def __init__(self, root: Path, *, nodes: int = 8, **changes: Any) -> None:
        base = masked_plan()
        fields: dict[str, Any] = {
            "rounds": 1,
            "participations": 6,
            "subject": base.subject,
            "masking": msgspec.structs.replace(base.masking, group_size=4),
        }
        self._open(make_home(root, **(fields | changes)), nodes)

    @classmethod
    def reopen(cls, root: Path, plan_path: Path) -> "MaskedLab":
        """A lab over a home that there is."""
        lab = cls.__new__(cls)
        lab._open(CampaignHome(ServerHome(root), read_plan(plan_path)), 8)
        return lab

    def _open(self, made: CampaignHome, nodes: int) -> None:
        self.made = made
        self.plan, self.directory = self.made.plan, self.made.directory
        self.clock = FakeClock()
        self.devices = {n: MaskedDevice(self.plan, n) for n in range(1, nodes + 1)}
        self.grid = InProcessGrid(dict(self.devices), self.clock)
        self.enrolled = {n: subject(n) for n in self.devices}
        self.receipts: list[Receipt] = []

    def run(self, on_round: Callable[[Receipt], None] = lambda _receipt: None) -> Ending:
        def see(receipt: Receipt) -> None:
            self.receipts.append(receipt)
            on_round(receipt)

        with open_ledger(self.made.home.population_database) as ledger:
            return run_campaign(self.campaign(ledger, see))

    def campaign(self, ledger: PopulationLedger, on_round: Callable[[Receipt], None]) -> Campaign:
        return Campaign(
            grid=self.grid,
            plan=self.plan,
            directory=self.directory,
            ledger=ledger,
            enrolled=lambda: self.enrolled,
            permits=Grants.open(self.made.home, self.plan),
            on_round=on_round,
            clock=self.clock,
            rng=random.Random(1),
            patience=Patience(),
            authority=authority().certificate,
            now=lambda: NOW,
        )

    def ledger_attempts(self) -> list[Attempt]:
        with open_ledger(self.made.home.population_database) as ledger:
            return ledger.attempts(self.plan.hash)

    def plain_sum(self, at: Attempts, nodes: Iterable[int]) -> NDArray[np.int64]:
        """What the devices' residues come to, added in the open."""
        total = np.zeros(self.plan.model.trainable_parameters, dtype=np.int64)
        for node in nodes:
            total += centred(self.devices[node].sent[at], self.plan)
        return total


def vanishing_at(
    device: MaskedDevice, phase: Phase
) -> Callable[[Message, Phase], Iterable[Delivery]]:
    """A device that answers honestly until a phase, and then no more."""
    return lambda message, at: [] if at >= phase else [Delivery(device.answer(message))]


def run_until_killed(root: Path, plan_path: Path, phase: Phase) -> None:
    """Run the campaign in a home in a process that dies at the third message of a phase."""
    lab = MaskedLab.reopen(root, plan_path)
    seen = 0

    def deadly(device: MaskedDevice, message: Message, at: Phase) -> Iterable[Delivery]:
        nonlocal seen
        seen += at is phase
        if seen == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return [Delivery(device.answer(message))]

    for each in lab.devices.values():
        each.answers = partial(deadly, each)
    lab.run()


def corrupted(reply: Message, change: Callable[[bytes], bytes]) -> Message:
    """A reply whose payload is `change` of the honest one's."""
    head = reply.content.config_records["reply"]
    phase = Phase(int(head["phase"]))  # type: ignore[arg-type]
    said = parse_step_reply(reply.content, phase=phase, most_bytes=1 << 30)
    assert said.step is not None
    said = replace(said, step=Step(phase, change(said.step.payload)))
    reply.content = reply_content(said)
    return reply
