"""Not joining, leaving, withdrawing and pausing: one and the same, seen from outside.

At an unmodified SuperLink, which sees all that a server can see.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message, RecordDict

from device import Device, agent, enrolled
from homes import agree
from officers import Log, grant_for
from plans import small_plan
from stock_flower import Drive, StockSuperLink, bundle, eventually
from tacitly_client.campaigns import join, leave
from tacitly_client.capture.clock import SystemClock
from tacitly_client.consent import withdraw
from tacitly_client.device_identity import masking_identity
from tacitly_client.home import AgentHome, AgentSettings
from tacitly_client.node.agent import Agent
from tacitly_client.node.agreement import AgreementWatch
from tacitly_client.node.backoff import Pause, Trouble
from tacitly_client.node.connection import Instruction
from tacitly_client.node.egress import Address, SealedReply
from tacitly_client.node.egress_journal import EgressJournal
from tacitly_client.node.masked import MaskedAttempts
from tacitly_client.node.policy import Offer
from tacitly_client.node.transport import FleetError, ServerClock
from tacitly_client.pause import pause, resume
from tacitly_client.training.pipe import Job
from tacitly_common.campaign import CampaignPlan
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import Reply, Task, parse_reply_content, train_content

CLOCK = SystemClock()


def refuse(home: AgentHome) -> None:
    """Never having joined."""
    home.consent.unlink()
    home.plan.unlink()


def left(home: AgentHome) -> None:
    assert leave(home, now=datetime.now(UTC))


def withdrawn(home: AgentHome) -> None:
    assert withdraw(home, now=datetime.now(UTC))


def paused(home: AgentHome) -> None:
    pause(home, CLOCK)


def paused_for_an_hour(home: AgentHome) -> None:
    pause(home, CLOCK, 3_600)


WAYS = (refuse, left, withdrawn, paused, paused_for_an_hour)


@dataclass(frozen=True)
class Site:
    superlink: StockSuperLink
    fab: bytes
    plan: CampaignPlan

    def device(self, name: str) -> Device:
        return enrolled(self.superlink, self.superlink.directory / name, self.plan)

    def task(self, round_: int) -> RecordDict:
        model = np.linspace(-1, 1, self.plan.model.parameters, dtype=np.float32)
        return train_content(Task(self.plan.hash, round_, 0, grant_for(self.plan)), model)

    def code(self, message: Message) -> ReplyCode:
        coordinates = self.plan.model.trainable_parameters
        return parse_reply_content(message.content, coordinates=coordinates).code


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    with StockSuperLink(directory) as superlink:
        fab = bundle(directory / "app", client="")
        yield Site(superlink, fab, small_plan(app_hash=sha256(fab).hexdigest()))


@pytest.fixture
def drive(site: Site) -> Iterator[Drive]:
    with site.superlink.drive(site.superlink.start_run(site.fab)) as made:
        yield made


def seen(message: Message) -> tuple[object, ...]:
    """All that a server gets of a reply but what it chose itself, and the time it came."""
    records = {name: repr(record) for name, record in message.content.items()}
    told = message.metadata
    return records, told.message_type, told.group_id, message.has_error()


def test_refusing_leaving_withdrawing_and_pausing_look_the_same(site: Site, drive: Drive) -> None:
    answers = []
    for way in WAYS:
        device = site.device(way.__name__)
        with agent(device, site.superlink):
            taken = drive.answer(drive.ask(device.node_id, site.task(1)))
            assert site.code(taken) is ReplyCode.OK
            way(device.home)  # while the agent runs
            refused = drive.answer(drive.ask(device.node_id, site.task(2)))
            assert site.superlink.status(device.node_id) == "online"
        assert device.jobs() == [(1, 0)]
        answers.append((way.__name__, seen(refused)))
    assert len({repr(answer) for _, answer in answers}) == 1, answers
    assert site.code(refused) is ReplyCode.NOT_JOINED


@pytest.mark.parametrize("way", [left, withdrawn, paused])
def test_a_training_that_has_begun_ends_and_looks_no_different(
    site: Site, drive: Drive, way: Callable[[AgentHome], None]
) -> None:
    device = site.device(f"training-{way.__name__}")
    with agent(device, site.superlink, trainer="hang"):
        message = drive.ask(device.node_id, site.task(2))
        eventually(lambda: device.jobs() == [(2, 0)])
        way(device.home)
        interrupted = drive.answer(message)
        asked_after = drive.answer(drive.ask(device.node_id, site.task(2)))
    assert site.code(interrupted) is ReplyCode.NOT_JOINED
    assert seen(interrupted) == seen(asked_after)


def test_resuming_and_joining_again_take_part_again(site: Site, drive: Drive) -> None:
    device = site.device("again")
    with agent(device, site.superlink):
        paused(device.home)
        assert site.code(drive.answer(drive.ask(device.node_id, site.task(1)))) is (
            ReplyCode.NOT_JOINED
        )
        resume(device.home, CLOCK)
        assert site.code(drive.answer(drive.ask(device.node_id, site.task(1)))) is ReplyCode.OK
        withdrawn(device.home)
        join(device.home, site.plan, "asked", now=datetime.now(UTC))
        assert site.code(drive.answer(drive.ask(device.node_id, site.task(2)))) is ReplyCode.OK


def test_what_a_device_holds_to_is_the_same_in_every_one_of_these(tmp_path: Path) -> None:
    """How often it asks, and how large a message it takes, follow from this alone."""
    plan, log = small_plan(), Log().start(small_plan())
    held = []
    for way in WAYS:
        home = AgentHome(tmp_path / way.__name__)
        home.root.mkdir(mode=0o700)
        agree(home, log, joined=plan)
        watch = AgreementWatch(home, CLOCK)
        before = watch.current()
        assert before.joined == plan
        assert watch.current() is before
        way(home)
        held.append(watch.current())
        assert watch.current() is held[-1]
    assert all(each == held[0] for each in held)
    assert held[0].joined is None


@dataclass
class LostNetwork:
    """A server that gets its task to the device; then the network goes, and something happens."""

    plan: CampaignPlan
    happens: Callable[[], None]
    pushed: list[SealedReply] = field(default_factory=list)
    tries: int = 0
    connected: bool = True
    clock: ServerClock = field(default_factory=lambda: ServerClock(lambda: 1_000.0))
    tasks: list[Instruction] = field(
        default_factory=lambda: [Instruction(Address(7, "a" * 64, 42, 990.0, 1e6), "train", ())]
    )

    def pull(self) -> Instruction | None:
        return self.tasks.pop() if self.tasks else None

    def claims(self, _: Instruction) -> Offer:
        return Offer(self.plan.app_hash, "flwr-serverapp", "train")

    def fetch(self, _: Instruction, __: dict[str, bytes]) -> RecordDict:
        model = np.zeros(self.plan.model.parameters, dtype=np.float32)
        return train_content(Task(self.plan.hash, 1, 0, grant_for(self.plan)), model)

    def push(self, reply: SealedReply) -> None:
        self.tries += 1
        if self.tries == 1:
            self.happens()
            raise FleetError(Trouble.TRANSPORT)
        self.pushed.append(reply)

    def nothing(self, *_: object, **__: object) -> None:
        pass

    expect = connect = heartbeat = confirm = nothing


class Obedient:
    """A trainer that answers at once."""

    def __init__(self, plan: CampaignPlan) -> None:
        self._coordinates = plan.model.trainable_parameters

    def train(self, job: Job, _: bytes, *, deadline_seconds: float) -> Reply:
        update = np.ones(self._coordinates, dtype=np.int32)
        return Reply(job.round, job.attempt, ReplyCode.OK, update)

    def collect(self) -> None:
        pass

    close = collect


@pytest.mark.parametrize("way", [left, withdrawn, paused])
def test_an_update_that_waits_for_the_network_is_not_sent_after_it(
    tmp_path: Path, way: Callable[[AgentHome], None]
) -> None:
    plan = small_plan()
    home = AgentHome(tmp_path / "home")
    home.root.mkdir(mode=0o700)
    agree(home, Log().start(plan), joined=plan)
    server = LostNetwork(plan, lambda: way(home))
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) >= 40

    Agent(
        AgreementWatch(home, CLOCK).current,
        AgentSettings(server="unused:1", lifetime_cap_nano_rho=1),
        server,  # type: ignore[arg-type]
        Obedient,  # type: ignore[arg-type]
        EgressJournal(home.egress_journal),
        Pause(wait, lambda: sum(waits)),
        lambda: datetime.now(UTC),
        masked_of=lambda plan: MaskedAttempts(
            plan, partial(masking_identity, home), lambda: datetime.now(UTC)
        ),
    ).run()
    (sent,) = server.pushed
    refusals = [line for line in home.egress_journal.read_text().splitlines() if "NOT_J" in line]
    assert len(refusals) == 1
    assert len(sent.objects) == 3  # a reply without an update: see test_node_agent.py
