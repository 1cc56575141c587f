"""The agent against an unmodified SuperLink: rounds, refusals, and everything that goes wrong."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import fake_trainer
import msgspec
import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from device import Device, agent, agent_process, enrolled
from officers import grant_for
from plans import masked_plan, small_plan
from stock_flower import Drive, StockSuperLink, bundle, eventually
from tacitly_client.home import AgentSettings
from tacitly_client.node.agent import Agent, run_agent
from tacitly_client.node.backoff import Pause, Trouble
from tacitly_client.node.connection import Connection, Instruction
from tacitly_client.node.egress import Address, SealedReply
from tacitly_client.node.egress_journal import EgressJournal
from tacitly_client.node.identity import create_node_key, load_node_key, public_pem
from tacitly_client.node.masked import MaskedAttempts
from tacitly_client.node.policy import Offer, agreement
from tacitly_client.node.transport import FleetError, ServerClock, WithdrawnError
from tacitly_common.campaign import CampaignPlan, PlanError
from tacitly_common.errors import ValidationError
from tacitly_common.secagg.members import Identity
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import Reply, Task, parse_reply_content, train_content


class Site:
    """A SuperLink with one run of the plan's application, driven by the tests."""

    def __init__(self, superlink: StockSuperLink) -> None:
        self.superlink = superlink
        self.directory = directory = superlink.directory
        self.fab = bundle(directory / "app", client="")
        self.plan = small_plan(app_hash=sha256(self.fab).hexdigest())
        self._devices = 0

    def device(self, *, heartbeat_seconds: float = 30) -> Device:
        self._devices += 1
        directory = self.directory / f"device-{self._devices}"
        return enrolled(self.superlink, directory, self.plan, heartbeat_seconds=heartbeat_seconds)

    @property
    def named(self) -> Task:
        return Task(self.plan.hash, 1, 0, grant_for(self.plan))

    def task(self, round_: int = 1, attempt: int = 0) -> RecordDict:
        model = np.linspace(-1, 1, self.plan.model.parameters, dtype=np.float32)
        return train_content(Task(self.plan.hash, round_, attempt, grant_for(self.plan)), model)

    def reply(self, drive: Drive, device: Device, content: RecordDict, **how: Any) -> Reply:
        """What the device answers, as the server's parser reads it."""
        message = drive.answer(drive.ask(device.node_id, content, **how))
        assert not message.has_error()
        return parse_reply_content(
            message.content, coordinates=self.plan.model.trainable_parameters
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with StockSuperLink(tmp_path_factory.mktemp("site")) as superlink:
        yield Site(superlink)


@pytest.fixture
def drive(site: Site) -> Iterator[Drive]:
    """A run of its own for each test."""
    with site.superlink.drive(site.superlink.start_run(site.fab)) as made:
        yield made


def test_a_round_trip_brings_the_update_and_nothing_else(site: Site, drive: Drive) -> None:
    device = site.device()
    with agent(device, site.superlink):
        message = drive.answer(drive.ask(device.node_id, site.task()))
    reply = parse_reply_content(message.content, coordinates=site.plan.model.trainable_parameters)
    assert (reply.round, reply.attempt, reply.code) == (1, 0, ReplyCode.OK)
    assert reply.update is not None
    np.testing.assert_array_equal(reply.update, fake_trainer.update_of(1, reply.update.size))
    journal = map(json.loads, device.home.egress_journal.read_text().splitlines())
    (line,) = (line for line in journal if line.get("call") != "refresh")
    assert line["sha256"] == sha256(reply.update.tobytes()).hexdigest()


def test_the_identical_attempt_is_answered_again_and_an_older_one_is_not(
    site: Site, drive: Drive
) -> None:
    device = site.device()
    with agent(device, site.superlink):
        first = site.reply(drive, device, site.task(3, 1))
        again = site.reply(drive, device, site.task(3, 1))
        older = site.reply(drive, device, site.task(3, 0))
    assert first.code is again.code is ReplyCode.OK
    assert older == Reply(3, 0, ReplyCode.ROUND_REPLAYED, None)
    assert device.jobs() == [(3, 1), (3, 1)]
    # The same after a restart: the journal remembers.
    with agent(device, site.superlink):
        assert site.reply(drive, device, site.task(2)).code is ReplyCode.ROUND_REPLAYED


def changed(site: Site, **task: Any) -> RecordDict:
    content = site.task()
    content["task"] = ConfigRecord(
        {"plan": site.plan.hash, "round": 1, "attempt": 0, "grant": grant_for(site.plan)} | task
    )
    return content


HOSTILE: dict[str, tuple[Callable[[Site], RecordDict], ReplyCode]] = {
    "nothing": (lambda _: RecordDict(), ReplyCode.MALFORMED_TASK),
    "another plan": (lambda site: changed(site, plan="f" * 64), ReplyCode.UNKNOWN_PLAN),
    "round 0": (lambda site: changed(site, round=0), ReplyCode.ROUND_OUT_OF_RANGE),
    "round 21": (lambda site: changed(site, round=21), ReplyCode.ROUND_OUT_OF_RANGE),
    "round huge": (lambda site: changed(site, round=2**62), ReplyCode.ROUND_OUT_OF_RANGE),
    "attempt -1": (lambda site: changed(site, attempt=-1), ReplyCode.MALFORMED_TASK),
    "a wish": (lambda site: changed(site, clip_norm=1e9), ReplyCode.MALFORMED_TASK),
    "a short model": (
        lambda site: train_content(site.named, np.zeros(3, np.float32)),
        ReplyCode.MALFORMED_TASK,
    ),
    "NaN": (
        lambda site: train_content(
            site.named,
            np.full(site.plan.model.parameters, np.nan, np.float32),
        ),
        ReplyCode.MALFORMED_TASK,
    ),
    "a huge model": (
        lambda site: train_content(site.named, np.zeros(100_000, np.float32)),
        ReplyCode.MALFORMED_TASK,
    ),
}


def test_hostile_tasks_are_refused_by_name_and_never_reach_the_trainer(
    site: Site, drive: Drive
) -> None:
    device = site.device()
    with agent(device, site.superlink):
        answers = {
            name: site.reply(drive, device, make(site)) for name, (make, _) in HOSTILE.items()
        }
        other_kinds = [
            site.reply(drive, device, site.task(), kind=kind).code
            for kind in ("evaluate", "query.history", "train.twice")
        ]
        assert site.reply(drive, device, site.task()).code is ReplyCode.OK
    assert {name: reply.code for name, reply in answers.items()} == {
        name: code for name, (_, code) in HOSTILE.items()
    }
    assert other_kinds == [ReplyCode.UNKNOWN_TASK] * 3
    assert device.jobs() == [(1, 0)]


def test_a_crashing_trainer_is_a_bare_device_fault(site: Site, drive: Drive) -> None:
    device = site.device()
    with agent(device, site.superlink, trainer="crash"):
        reply = site.reply(drive, device, site.task(2, 1))
        # The agent goes on.
        assert site.reply(drive, device, site.task(3)).code is ReplyCode.DEVICE_FAULT
    assert reply == Reply(2, 1, ReplyCode.DEVICE_FAULT, None)


def test_a_stop_during_training_answers_and_the_answer_is_not_lost(
    site: Site, drive: Drive
) -> None:
    device = site.device()
    with agent(device, site.superlink, trainer="hang"):
        message_id = drive.ask(device.node_id, site.task(2))
        eventually(device.jobs)
    message = drive.answer(message_id)
    reply = parse_reply_content(message.content, coordinates=1)
    assert reply == Reply(2, 0, ReplyCode.DEVICE_FAULT, None)


@pytest.mark.parametrize("ahead", [6, -3_600, 3 * 86_400])
def test_a_wrong_clock_does_not_lock_the_device_out(site: Site, drive: Drive, ahead: float) -> None:
    device = site.device()
    clock = ServerClock(lambda: time.time() + ahead)
    with agent(device, site.superlink, clock=clock):
        assert site.reply(drive, device, site.task()).code is ReplyCode.OK


def test_the_process_holds_no_torch_stays_small_and_ends_on_sigterm(site: Site) -> None:
    device = site.device()
    with agent_process(device.home) as process:
        eventually(lambda: site.superlink.status(device.node_id) == "online")
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        resident_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        assert "numpy" in maps
        assert "torch" not in maps
        assert "sqlite" not in maps
        assert resident_kib < 150 * 1024
        with pytest.raises(ValidationError, match="another agent runs"):
            run_agent(device.home, device.settings, stop=threading.Event())
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    # A clean end: the next start is not refused. (`node.id` may be left, if the server's answer
    # to the farewell was too late.)
    assert site.superlink.status(device.node_id) == "offline"
    with agent_process(device.home):
        eventually(lambda: site.superlink.status(device.node_id) == "online")


def test_it_is_off_the_wire_while_its_device_is_not_enrolled(site: Site) -> None:
    """Under a service manager: nobody else ends it, or starts it again."""
    device = site.device()
    enrolment, aside = device.home.enrolment, device.home.root / "aside"
    with agent_process(device.home) as process:
        eventually(lambda: site.superlink.status(device.node_id) == "online")
        enrolment.rename(aside)  # what `withdraw` does, and enrolling again
        eventually(lambda: site.superlink.status(device.node_id) == "offline")
        assert process.poll() is None
        aside.rename(enrolment)
        eventually(lambda: site.superlink.status(device.node_id) == "online")
        enrolment.rename(aside)
        eventually(lambda: site.superlink.status(device.node_id) == "offline")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0


def test_a_killed_agent_comes_back_at_once(site: Site, drive: Drive) -> None:
    """Stock Flower answers 412 for up to two heartbeats and its SuperNode exits."""
    device = site.device(heartbeat_seconds=600)
    with agent_process(device.home) as process:
        eventually(lambda: site.superlink.status(device.node_id) == "online")
        process.kill()
        process.wait()
    assert site.superlink.status(device.node_id) == "online"
    # Two heartbeats, which the server would otherwise wait for, are longer than this waits.
    with agent(device, site.superlink):
        assert site.reply(drive, device, site.task()).code is ReplyCode.OK


def test_a_killed_agent_without_its_number_waits_for_the_server(site: Site) -> None:
    device = site.device()
    with agent(device, site.superlink):
        device.home.node_id.unlink()
        connection = Connection(
            device.settings.server,
            ca_certificate=device.home.ca_certificate,
            key=load_node_key(device.home),
            node_id_file=device.home.node_id,
            heartbeat_seconds=30,
        )
        with pytest.raises(FleetError) as caught:
            connection.connect()
        assert caught.value.trouble is Trouble.STILL_ONLINE
        assert not connection.connected
        connection.disconnect()


def test_a_server_that_was_killed_and_started_again_is_found_again(
    tmp_path: Path,
) -> None:
    with StockSuperLink(tmp_path) as superlink:
        site = Site(superlink)
        device = site.device()
        with (
            superlink.drive(superlink.start_run(site.fab)) as drive,
            agent(device, superlink) as thread,
        ):
            assert site.reply(drive, device, site.task(1)).code is ReplyCode.OK
            superlink.stop()
            superlink.start()
            assert site.reply(drive, device, site.task(2)).code is ReplyCode.OK
            # Its state is gone, and the device is enrolled anew under another number.
            superlink.stop()
            for file in tmp_path.glob("superlink.db*"):
                file.unlink()
            superlink.start()
            number = superlink.register(public_pem(load_node_key(device.home)))
            eventually(lambda: superlink.status(number) == "online", within_seconds=120)
            assert thread.is_alive()


class ScriptedConnection:
    """A server whose every answer the test writes: values are returned, errors raised."""

    def __init__(self, plan: CampaignPlan, **scripts: list[Any]) -> None:
        self.scripts = scripts
        self.clock = ServerClock(lambda: 1_000.0)
        self.connected = True
        self.pushed: list[SealedReply] = []
        self._plan = plan

    def _next(self, name: str, default: Any) -> Any:
        script = self.scripts.get(name)
        result = script.pop(0) if script else default
        if isinstance(result, BaseException):
            raise result
        return result

    def expect(self, *, array_bytes: int) -> None:
        pass

    def connect(self) -> None:
        self._next("connect", None)

    def heartbeat(self) -> None:
        pass

    def pull(self) -> Instruction | None:
        result: Instruction | None = self._next("pull", None)
        return result

    def claims(self, instruction: Instruction) -> Offer:
        offer: Offer = self._next("claims", Offer("9" * 64, "flwr-serverapp", "train"))
        return offer

    def push(self, reply: SealedReply) -> None:
        self._next("push", None)
        self.pushed.append(reply)


def instruction(ttl: float = 60.0) -> Instruction:
    return Instruction(Address(7, "a" * 64, 42, 990.0, ttl), "train", ())


def waits_of(tmp_path: Path, connection: ScriptedConnection, turns: int) -> list[float]:
    """Run the agent over a scripted server for `turns` waits; the seconds of each."""
    waits: list[float] = []
    now = [0.0]

    def wait(seconds: float) -> bool:
        now[0] += seconds
        waits.append(seconds)
        return len(waits) >= turns

    settings = AgentSettings(
        server="unused:1", lifetime_cap_nano_rho=1, poll_seconds=2.0, idle_poll_seconds=9.0
    )
    held = agreement(None, None, connection._plan)
    Agent(
        lambda: held,
        settings,
        connection,  # type: ignore[arg-type]
        lambda _plan: NoTrainer(),  # type: ignore[arg-type, return-value]
        EgressJournal(tmp_path / "egress.jsonl"),
        Pause(wait, lambda: now[0]),
        masked_of=no_masks,
        uniform=lambda _low, high: high,
    ).run()
    return waits


def no_masks(plan: CampaignPlan) -> MaskedAttempts:
    """No test here gets as far as signing."""

    def nobody() -> Identity:
        raise AssertionError

    return MaskedAttempts(plan, nobody, lambda: datetime.now(UTC))


class NoTrainer:
    """No test here gets as far as training."""

    def collect(self) -> None:
        pass

    def close(self) -> None:
        pass


def with_deadline(seconds: int) -> CampaignPlan:
    cohort = msgspec.structs.replace(small_plan().cohort, deadline_seconds=seconds)
    return small_plan(cohort=cohort)


def test_the_start_is_jittered_and_idle_polling_is_slow(tmp_path: Path) -> None:
    connection = ScriptedConnection(with_deadline(seconds=36))
    # 2 s: the start. 9 s x 1.25 is cut into slices of at most ten seconds.
    assert waits_of(tmp_path, connection, 3) == pytest.approx([2.0, 10.0, 1.25])


def test_idle_polling_is_never_so_slow_that_a_round_is_missed(tmp_path: Path) -> None:
    connection = ScriptedConnection(with_deadline(seconds=16))
    assert waits_of(tmp_path, connection, 3) == pytest.approx([2.0, 5.0, 5.0])


def test_idle_polling_is_never_so_slow_that_a_masked_rounds_first_step_is_missed(
    tmp_path: Path,
) -> None:
    cohort = msgspec.structs.replace(small_plan().cohort, deadline_seconds=100)
    connection = ScriptedConnection(masked_plan(cohort=cohort))
    assert waits_of(tmp_path, connection, 3) == pytest.approx([2.0, 6.25, 6.25])


def test_polling_is_fast_after_a_task(tmp_path: Path) -> None:
    connection = ScriptedConnection(small_plan(), pull=[instruction()])
    assert waits_of(tmp_path, connection, 3) == pytest.approx([2.0, 2.5, 2.5])
    assert len(connection.pushed) == 1


@pytest.mark.parametrize("trouble", [each for each in Trouble if each is not Trouble.PENDING])
def test_no_trouble_ends_the_agent(tmp_path: Path, trouble: Trouble) -> None:
    failures = [FleetError(trouble) for _ in range(3)]
    connection = ScriptedConnection(small_plan(), connect=failures, pull=list(failures))
    waits_of(tmp_path, connection, 2_000)
    assert not connection.scripts["connect"]
    assert not connection.scripts["pull"]


def test_retry_after_reaches_the_wait(tmp_path: Path) -> None:
    connection = ScriptedConnection(small_plan(), connect=[FleetError(Trouble.THROTTLED, 100.0)])
    # The start, then Retry-After and the whole jitter (5 s) in slices.
    assert sum(waits_of(tmp_path, connection, 12)[1:]) == pytest.approx(105.0)


def test_an_unforeseen_error_is_named_by_type_alone_and_waited_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    connection = ScriptedConnection(small_plan(), pull=[KeyError("what was typed"), instruction()])
    waits_of(tmp_path, connection, 20)
    assert "KeyError" in caplog.text
    assert "typed" not in caplog.text
    assert len(connection.pushed) == 1


def test_an_unforeseen_error_about_a_task_is_answered_with_a_bare_fault(tmp_path: Path) -> None:
    connection = ScriptedConnection(
        small_plan(), pull=[instruction()], claims=[KeyError("what was typed")]
    )
    waits_of(tmp_path, connection, 3)
    (sealed,) = connection.pushed
    assert len(sealed.objects) == 3
    assert not any(b"typed" in part for part in sealed.objects.values())


def test_the_same_bytes_are_pushed_again_after_a_broken_connection(tmp_path: Path) -> None:
    connection = ScriptedConnection(
        small_plan(), pull=[instruction()], push=[FleetError(Trouble.TRANSPORT)] * 3
    )
    waits_of(tmp_path, connection, 10)
    assert len(connection.pushed) == 1
    assert len((tmp_path / "egress.jsonl").read_text().splitlines()) == 1


def test_what_the_journal_cannot_hold_is_not_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Spoiling(ScriptedConnection):
        def pull(self) -> Instruction | None:
            (tmp_path / "egress.jsonl").mkdir(exist_ok=True)
            return super().pull()

    connection = Spoiling(small_plan(), pull=[instruction()])
    waits_of(tmp_path, connection, 5)
    assert "cannot be written (Is a directory)" in caplog.text
    assert not connection.pushed


@pytest.mark.parametrize("ttl", [-5.0, float("nan")])
def test_a_task_is_not_pursued_beyond_its_life(tmp_path: Path, ttl: float) -> None:
    connection = ScriptedConnection(
        small_plan(), pull=[instruction(ttl)], claims=[FleetError(Trouble.SERVER)]
    )
    waits_of(tmp_path, connection, 5)
    assert not connection.pushed


def test_a_withdrawn_task_is_dropped(tmp_path: Path) -> None:
    connection = ScriptedConnection(
        small_plan(), pull=[instruction()], claims=[WithdrawnError("ended")]
    )
    waits_of(tmp_path, connection, 5)
    assert not connection.pushed


def test_a_home_that_cannot_be_used_is_a_clear_error(site: Site) -> None:
    device = site.device()
    device.home.plan.write_text("{}")
    with pytest.raises(PlanError, match=r"plan\.json"):
        run_agent(device.home, device.settings, stop=threading.Event())
    device.home.plan.write_bytes(site.plan.to_json())
    device.home.node_key.write_text("no key")
    with pytest.raises(ValidationError, match="no EC private key"):
        run_agent(device.home, device.settings, stop=threading.Event())
    device.home.node_key.unlink()
    with pytest.raises(ValidationError, match="tacitly-agent enrol"):
        run_agent(device.home, device.settings, stop=threading.Event())


def test_a_device_has_one_key_readable_by_its_owner_only(site: Site) -> None:
    device = site.device()
    assert device.home.node_key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ValidationError, match="exists already"):
        create_node_key(device.home)


@pytest.mark.parametrize("seconds", [9.9, 1_801])
def test_a_heartbeat_that_the_server_would_refuse_is_refused_here(
    site: Site, seconds: float
) -> None:
    device = site.device()
    with pytest.raises(ValidationError, match="heartbeat_seconds"):
        Connection(
            device.settings.server,
            ca_certificate=device.home.ca_certificate,
            key=load_node_key(device.home),
            node_id_file=device.home.node_id,
            heartbeat_seconds=seconds,
        )
