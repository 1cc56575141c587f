"""A server that forges the contract, against a real agent: refused, each by its own code.

The agent is the installed one in a process of its own, with the real trainer, store and ledger.
The server is Flower's own, driven by the test; the desk is a real one that serves what the test
gives it. Each forgery differs from the honest message, which the same agent answers, in one thing.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import pytest

import scripted_desk
from device import agent_process, vault
from homes import agree, make_home, model_bytes, training_plan
from officers import STRANGER, Log, grant_for, lax_policy
from scripted_desk import Desk
from stock_flower import Drive, StockSuperLink, bundle, eventually
from tacitly_client.home import AgentHome, read_settings
from tacitly_client.ledger import DeviceLedger
from tacitly_client.node.identity import create_node_key
from tacitly_common.campaign import CampaignPlan, revise
from tacitly_common.contract.acts import (
    Approve,
    Limit,
    ProposeChange,
    ProposePlan,
    Revoke,
    Start,
)
from tacitly_common.contract.log import plan_hash_of
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import Reply, Task, parse_reply_content, train_content


@dataclass(frozen=True)
class Server:
    """Flower's SuperLink with a run of the application that the honest plan names."""

    superlink: StockSuperLink
    run_fab: bytes
    plan: CampaignPlan

    @contextmanager
    def run(self) -> Iterator[Drive]:
        with self.superlink.drive(self.superlink.start_run(self.run_fab)) as drive:
            yield drive


@dataclass
class Device:
    """An enrolled device that has joined the honest plan, its agent running."""

    home: AgentHome
    node_id: int
    desk: Desk
    log: Log
    plan: CampaignPlan

    def asked(
        self,
        drive: Drive,
        *,
        plan_hash: str = "",
        round_: int = 1,
        attempt: int = 0,
        grant: bytes | None = None,
    ) -> Reply:
        """The answer to a train message, as it reached the server. Honest unless told else."""
        grant = grant_for(self.plan) if grant is None else grant
        task = Task(plan_hash or self.plan.hash, round_, attempt, grant)
        model = np.frombuffer(model_bytes(self.plan), np.float32)
        message = drive.answer(drive.ask(self.node_id, train_content(task, model)))
        assert not message.has_error()
        coordinates = self.plan.model.trainable_parameters
        return parse_reply_content(message.content, coordinates=coordinates)

    def serve(self, log: Log) -> None:
        """Have the desk serve this log, and wait until the device has seen it."""
        self.desk.lines = log.lines
        seen = len(self.desk.refreshes)
        # One may be on its way with the former log; a third begins after the second is taken over.
        eventually(lambda: len(self.desk.refreshes) >= seen + 3)

    def journalled(self) -> list[str]:
        """The codes of the replies that left, by the person's own journal."""
        lines = map(json.loads, self.home.egress_journal.read_text().splitlines())
        return [line["code"] for line in lines if "code" in line]

    def assert_untouched(self, attempts: int = 0) -> None:
        """Nothing was paid, and no trainer was started that could have had a job."""
        with DeviceLedger.open(self.home.ledger) as ledger:
            assert ledger.attempts() == attempts
            assert ledger.spent_nano_rho() == attempts * self.plan.cost_nano_rho
        if not attempts:
            assert not self.home.trainer_log.exists()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("hostile")
    fab = bundle(directory / "app", client="")
    plan = training_plan(app_hash=sha256(fab).hexdigest())
    cohort = msgspec.structs.replace(plan.cohort, deadline_seconds=60)
    with StockSuperLink(directory) as superlink:
        yield Server(superlink, fab, revise(plan, cohort=cohort))


@contextmanager
def running(server: Server, root: Path, log: Log) -> Iterator[Device]:
    with scripted_desk.running(server.superlink.tls, log.lines) as desk:
        home = make_home(root, server.plan)
        agree(home, log, joined=server.plan, desk=desk.address)
        settings = msgspec.structs.replace(
            read_settings(home),
            server=server.superlink.address,
            poll_seconds=0.2,
            idle_poll_seconds=0.2,
            refresh_seconds=0.3,
        )
        home.settings.write_bytes(msgspec.json.encode(settings))
        home.ca_certificate.write_bytes(server.superlink.ca_certificate.read_bytes())
        node_id = server.superlink.register(create_node_key(home))
        device = Device(home, node_id, desk, log, server.plan)
        with vault(home), agent_process(home):
            eventually(lambda: server.superlink.status(node_id) == "online")
            yield device


@pytest.fixture(scope="module")
def steady(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A device whose officers' log stays what it is."""
    root = tmp_path_factory.mktemp("steady") / "agent"
    with running(server, root, Log().start(server.plan)) as device:
        yield device


@pytest.fixture
def device(server: Server, tmp_path: Path) -> Iterator[Device]:
    """A device of its own for a test that changes what the desk serves."""
    with running(server, tmp_path / "agent", Log().start(server.plan)) as made:
        yield made


def test_the_honest_message_is_answered_with_a_paid_update(server: Server, device: Device) -> None:
    with server.run() as drive:
        reply = device.asked(drive)
    assert reply.code is ReplyCode.OK
    assert reply.update is not None
    device.assert_untouched(attempts=1)


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def of(plan: CampaignPlan, **changes: object) -> bytes:
    return grant_for(plan, **changes)


GRANTS: dict[str, tuple[Callable[[CampaignPlan], bytes], ReplyCode]] = {
    "lower noise": (
        lambda plan: of(plan, noise_multiplier=plan.subject.noise_multiplier - Decimal("0.01")),
        ReplyCode.NOISE_TOO_LOW,
    ),
    "larger clip": (
        lambda plan: of(plan, clip_norm=plan.subject.clip_norm * 2),
        ReplyCode.CLIP_TOO_LARGE,
    ),
    "smaller cohort": (
        lambda plan: of(plan, cohort_minimum=plan.cohort.minimum - 1),
        ReplyCode.COHORT_TOO_SMALL,
    ),
    "other purpose": (lambda plan: of(plan, purpose="bench"), ReplyCode.OTHER_PURPOSE),
    "unknown output": (
        lambda plan: of(plan, outputs=("model_update", "typed_text")),
        ReplyCode.UNKNOWN_OUTPUT,
    ),
    "expired grant": (
        lambda plan: of(
            plan, issued_at=now() - timedelta(hours=3), expires_at=now() - timedelta(hours=1)
        ),
        ReplyCode.GRANT_EXPIRED,
    ),
    "a grant for ever": (
        lambda plan: of(plan, expires_at=now() + timedelta(days=365)),
        ReplyCode.GRANT_EXPIRED,
    ),
    "another plan's grant": (lambda plan: of(plan, plan_hash="f" * 64), ReplyCode.GRANT_INVALID),
    "a grant by nobody": (lambda plan: of(plan, key=STRANGER), ReplyCode.GRANT_INVALID),
    "no grant": (lambda _: b"", ReplyCode.GRANT_INVALID),
}


@pytest.mark.parametrize("forgery", GRANTS)
def test_a_forged_grant_is_refused(server: Server, steady: Device, forgery: str) -> None:
    forge, code = GRANTS[forgery]
    with server.run() as drive:
        assert steady.asked(drive, grant=forge(server.plan)) == Reply(1, 0, code, None)
    assert steady.journalled()[-1] == code.name
    steady.assert_untouched()


def test_a_wrong_plan_hash_is_refused(server: Server, steady: Device) -> None:
    with server.run() as drive:
        reply = steady.asked(drive, plan_hash="f" * 64, grant=of(server.plan, plan_hash="f" * 64))
    assert reply == Reply(1, 0, ReplyCode.UNKNOWN_PLAN, None)
    steady.assert_untouched()


def test_a_replayed_round_is_refused(server: Server, device: Device) -> None:
    with server.run() as drive:
        assert device.asked(drive, round_=3).code is ReplyCode.OK
        reply = device.asked(drive, round_=2)
    assert reply == Reply(2, 0, ReplyCode.ROUND_REPLAYED, None)
    device.assert_untouched(attempts=1)


def unsigned(log: Log, plan: CampaignPlan) -> None:
    log.propose(plan)


def signed_once(log: Log, plan: CampaignPlan) -> None:
    log.add("bea", Approve(proposal=log.propose(plan)))


@pytest.mark.parametrize("add", [unsigned, signed_once])
def test_an_unsigned_plan_is_refused(
    server: Server, device: Device, add: Callable[[Log, CampaignPlan], None]
) -> None:
    other = revise(server.plan, rounds=19)
    add(device.log, other)
    device.serve(device.log)
    with server.run() as drive:
        reply = device.asked(drive, plan_hash=other.hash, grant=of(other))
    assert reply == Reply(1, 0, ReplyCode.PLAN_NOT_APPROVED, None)
    device.assert_untouched()


def test_a_plan_that_its_person_has_not_joined_is_refused(server: Server, device: Device) -> None:
    other = revise(server.plan, rounds=19)
    device.log.start(other)
    device.serve(device.log)
    with server.run() as drive:
        reply = device.asked(drive, plan_hash=other.hash, grant=of(other))
        assert reply.code is ReplyCode.NOT_JOINED
        # Leaving holds at once, for an agent that runs.
        device.home.plan.unlink()
        assert device.asked(drive).code is ReplyCode.NOT_JOINED
    device.assert_untouched()


def one_officer_twice(log: Log, plan: CampaignPlan) -> None:
    proposal = log.propose(plan)
    log.add("bea", Approve(proposal=proposal))
    log.add("bea", Approve(proposal=proposal))
    log.add("dan", Start(plan_hash=plan.hash))


def its_own_proposer(log: Log, plan: CampaignPlan) -> None:
    log.add("ada", Approve(proposal=log.propose(plan)))


def a_revoked_officer(log: Log, plan: CampaignPlan) -> None:
    proposal = log.propose(plan)
    log.add("dan", Revoke(officer="bea", reason="left"))
    log.add("bea", Approve(proposal=proposal))


def a_stranger_in_an_officers_name(log: Log, plan: CampaignPlan) -> None:
    log.add("bea", Approve(proposal=log.propose(plan)), key=STRANGER)


def a_start_without_approvals(log: Log, plan: CampaignPlan) -> None:
    log.propose(plan)
    log.add("dan", Start(plan_hash=plan.hash))


def an_approval_of_another_plan(log: Log, plan: CampaignPlan) -> None:
    """A sound approval moved under another proposal."""
    approval = log.add("bea", Approve(proposal=log.propose(plan)))
    moved = msgspec.structs.replace(
        approval.statement, act=Approve(proposal=log.propose(revise(plan, rounds=18)))
    )
    log.entries[-1] = msgspec.structs.replace(approval, statement=moved)


LOGS: dict[Callable[[Log, CampaignPlan], None], ReplyCode] = {
    one_officer_twice: ReplyCode.SAME_OFFICER_TWICE,
    its_own_proposer: ReplyCode.SAME_OFFICER_TWICE,
    a_revoked_officer: ReplyCode.OFFICER_NOT_ACTIVE,
    a_stranger_in_an_officers_name: ReplyCode.LOG_FORGED,
    a_start_without_approvals: ReplyCode.PLAN_NOT_APPROVED,
    an_approval_of_another_plan: ReplyCode.LOG_FORGED,
}


@pytest.mark.parametrize("forge", LOGS)
def test_a_forged_log_is_refused_whole_and_every_task_says_so(
    server: Server, device: Device, forge: Callable[[Log, CampaignPlan], None]
) -> None:
    before = device.home.contract.read_bytes()
    forged = Log(list(device.log.entries))
    forge(forged, revise(server.plan, rounds=19))
    device.serve(forged)
    with server.run() as drive:
        assert device.asked(drive) == Reply(1, 0, LOGS[forge], None)
    assert device.home.contract.read_bytes() == before
    assert device.home.contract_problem.read_text() == LOGS[forge].name
    device.assert_untouched()


def test_a_sound_refresh_ends_the_refusals_of_a_forged_one(server: Server, device: Device) -> None:
    forged = Log(list(device.log.entries))
    one_officer_twice(forged, revise(server.plan, rounds=19))
    device.serve(forged)
    with server.run() as drive:
        assert device.asked(drive).code is ReplyCode.SAME_OFFICER_TWICE
        device.serve(device.log)
        assert device.asked(drive).code is ReplyCode.OK
    device.assert_untouched(attempts=1)


def test_one_officer_alone_stops_a_campaign(server: Server, device: Device) -> None:
    device.log.add("cyn", Limit(plan_hash=server.plan.hash, last_round=2, reason="enough"))
    device.serve(device.log)
    with server.run() as drive:
        assert device.asked(drive, round_=3) == Reply(3, 0, ReplyCode.CAMPAIGN_STOPPED, None)
        device.log.add("bea", Limit(plan_hash=server.plan.hash, last_round=0, reason="no"))
        device.serve(device.log)
        assert device.asked(drive) == Reply(1, 0, ReplyCode.CAMPAIGN_STOPPED, None)
    device.assert_untouched()


def weaker(plan: CampaignPlan) -> dict[str, tuple[str, ReplyCode]]:
    """Plans (as JSON) that two officers were talked into, and the policy does not allow."""
    noise = msgspec.structs.replace(plan.subject, noise_multiplier=Decimal("0.5"))
    clip = msgspec.structs.replace(plan.subject, clip_norm=Decimal(50))
    cohort = msgspec.structs.replace(plan.cohort, minimum=2)
    document = msgspec.json.decode(plan.to_json())

    def of_fields(**changes: object) -> str:
        return msgspec.json.encode(document | changes, order="sorted").decode()

    cheaper = document["worst_case"] | {"nano_rho_per_person": 1}
    return {
        "lower noise": (revise(plan, subject=noise).to_json().decode(), ReplyCode.NOISE_TOO_LOW),
        "larger clip": (revise(plan, subject=clip).to_json().decode(), ReplyCode.CLIP_TOO_LARGE),
        "smaller cohort": (
            revise(plan, cohort=cohort).to_json().decode(),
            ReplyCode.COHORT_TOO_SMALL,
        ),
        "other purpose": (of_fields(purpose="appraisal"), ReplyCode.OTHER_PURPOSE),
        "unknown output": (
            of_fields(outputs=["model_update", "typed_text"]),
            ReplyCode.UNKNOWN_OUTPUT,
        ),
        "a cost understated": (of_fields(worst_case=cheaper), ReplyCode.PLAN_MALFORMED),
    }


@pytest.fixture(scope="module")
def talked_into(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Device, dict[str, tuple[str, ReplyCode]]]]:
    """A device whose officers have approved and started every one of `weaker`."""
    plans = weaker(server.plan)
    log = Log().start(server.plan)
    for document, _ in plans.values():
        proposal = log.add("ada", ProposePlan(plan=document)).hash
        for officer in ("bea", "cyn"):
            log.add(officer, Approve(proposal=proposal))
        log.add("dan", Start(plan_hash=plan_hash_of(document)))
    strict = lax_policy(
        purposes=("next-interaction",),
        minimum_noise_multiplier=server.plan.subject.noise_multiplier,
        maximum_clip_norm=server.plan.subject.clip_norm,
        minimum_cohort=server.plan.cohort.minimum,
    )
    proposal = log.add("ada", ProposeChange(policy=strict)).hash
    for officer in ("bea", "cyn"):
        log.add(officer, Approve(proposal=proposal))
    with running(server, tmp_path_factory.mktemp("talked") / "agent", log) as device:
        yield device, plans


@pytest.mark.parametrize("forgery", weaker(training_plan()))
def test_what_two_officers_approve_against_the_policy_is_refused(
    server: Server,
    talked_into: tuple[Device, dict[str, tuple[str, ReplyCode]]],
    forgery: str,
) -> None:
    device, plans = talked_into
    document, code = plans[forgery]
    plan_hash = plan_hash_of(document)
    with server.run() as drive:
        reply = device.asked(drive, plan_hash=plan_hash, grant=of(server.plan, plan_hash=plan_hash))
    assert reply == Reply(1, 0, code, None)
    device.assert_untouched()


def test_a_log_that_was_altered_on_the_disk_is_refused(server: Server, device: Device) -> None:
    lines = device.home.contract.read_bytes().splitlines()
    device.home.contract.write_bytes(b"\n".join(lines).replace(b"Example", b"Exempel") + b"\n")
    with server.run() as drive:
        assert device.asked(drive) == Reply(1, 0, ReplyCode.LOG_FORGED, None)
    device.assert_untouched()
