"""What is broken, wrong, expired or full: its own clear error, and nothing else is lost.

End to end: the commands a person types, and a real deployment with bad devices in it. What each
part does with each fault in detail is tested beside that part.
"""

import json
import os
import resource
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from homes import TEXT, make_home, model_bytes, training_plan
from leak_search import typed
from stock_flower import BIN, eventually
from tacitly_client.home import AgentHome, read_settings
from tacitly_client.node import egress
from tacitly_client.node.connection import Connection, Instruction
from tacitly_client.node.egress import SealedReply
from tacitly_client.node.flower_port import get_all_nested_objects, get_object_tree
from tacitly_client.node.identity import load_node_key
from tacitly_client.node.transport import FleetError, WithdrawnError
from tacitly_client.store import EventStore
from tacitly_common.campaign import CampaignPlan, CohortPlan, revise
from tacitly_common.errors import ValidationError
from tacitly_common.events import to_json_line
from tacitly_common.invitation import Invitation
from tacitly_common.mechanisms.gaussian import encoded_norm_bound
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import parse_train_content
from tacitly_server import certificates
from tacitly_server.bundle import app_hash
from tacitly_server.campaigns.filing import create_campaign
from tacitly_server.health import read_status
from tacitly_server.home import CampaignDirectory, ServerHome
from tacitly_server.rounds.receipts import Outcome, Receipt, read_receipts
from tacitly_simulations.demo.deployment import Deployment

SMALL_BYTES = 8_192
# Each question costs the server, which others wait for.
POLL_SECONDS = 1.0
HEARTBEAT_SECONDS = 30.0


def run(
    *command: str, stdin: bytes = b"", largest_file_bytes: int | None = None
) -> subprocess.CompletedProcess[bytes]:
    """A command as a person types it; on a disk that is full beyond the given file size."""
    full = None
    if largest_file_bytes is not None:
        limits = (largest_file_bytes, largest_file_bytes)
        full = partial(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
    return subprocess.run(
        [BIN / command[0], *command[1:]],
        input=stdin,
        capture_output=True,
        check=False,
        preexec_fn=full,
    )


def refused(done: subprocess.CompletedProcess[bytes], exit_code: int) -> str:
    """The one line a command said when it refused."""
    assert done.returncode == exit_code, done.stderr.decode()
    (line,) = done.stderr.decode().splitlines()
    return line


def recording(text: str) -> bytes:
    """Typed a day after what `make_home` typed."""
    return b"\n".join(map(to_json_line, typed(text, start_ns=1_700_086_400 * 10**9)))


# --------------------------------------------------------------------------- on one's machine


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    """An agent with two segments of events."""
    made = make_home(tmp_path / "agent", training_plan(), text="first part ")
    assert replay(made, "second part").returncode == 0
    return made


def status(home: AgentHome) -> subprocess.CompletedProcess[bytes]:
    return run("tacitly-agent", "status", "--home", str(home.root))


def replay(
    home: AgentHome, text: str, *, largest_file_bytes: int | None = None
) -> subprocess.CompletedProcess[bytes]:
    command = ("tacitly-agent", "replay", "--home", str(home.root), "-")
    return run(*command, stdin=recording(text), largest_file_bytes=largest_file_bytes)


def damage_first_segment(home: AgentHome) -> Path:
    """Change one byte of its events."""
    path = next(home.store.rglob("*.seg"))
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    return path


def test_a_corrupt_store_is_named_and_the_rest_of_it_is_used(home: AgentHome) -> None:
    damaged = damage_first_segment(home)
    done = status(home)
    assert str(damaged) in refused(done, 5)
    left = done.stdout.decode().split("events stored")[1].split()[0]
    assert int(left) in {len("first part "), len("second part")}
    assert replay(home, "third part").returncode == 0


def test_a_wrong_key_is_named_and_the_right_one_brings_everything_back(home: AgentHome) -> None:
    [key] = home.store.glob("*.key")
    right = key.read_bytes()
    key.write_bytes(os.urandom(32))
    assert "put the right key back" in refused(status(home), 5)
    key.write_bytes(right)
    assert f"events stored     {len('first part second part')} " in status(home).stdout.decode()


def test_a_disk_that_fills_up_costs_the_events_of_that_moment_alone(home: AgentHome) -> None:
    error = refused(replay(home, TEXT * 10, largest_file_bytes=SMALL_BYTES), 5)
    assert "Free some space" in error
    assert "first part" not in error
    with EventStore.open(home.store) as store:
        assert "".join(event.key for event in store.events()).startswith("first part ")
    assert replay(home, "more").returncode == 0
    assert status(home).returncode == 0


def test_a_disk_without_room_for_a_new_agent_is_said_in_one_line(tmp_path: Path) -> None:
    certificates.create(tmp_path / "tls", ["localhost"], now=datetime.now(UTC))
    invitation = Invitation(
        server="localhost:1",
        desk="localhost:2",
        ca=(tmp_path / "tls" / "ca.crt").read_text(),
        genesis="0" * 64,
        token="A" * 32,
        expires=datetime(2100, 1, 1, tzinfo=UTC),
    )
    (tmp_path / "ada.invitation").write_bytes(msgspec.json.encode(invitation))
    done = run(
        *("tacitly-agent", "enrol", "--home", str(tmp_path / "agent")),
        str(tmp_path / "ada.invitation"),
        largest_file_bytes=16,
    )
    assert "File too large" in refused(done, 1)


def test_a_damaged_ledger_is_named_and_not_replaced(home: AgentHome) -> None:
    home.ledger.write_bytes(b"not a ledger " * 500)
    assert str(home.ledger) in refused(status(home), 5)
    assert home.ledger.read_bytes() == b"not a ledger " * 500


def test_a_plan_over_an_unknown_vocabulary_is_refused_by_both_sides(tmp_path: Path) -> None:
    plan = training_plan(app_hash=app_hash())
    tokens = msgspec.structs.replace(plan.tokens, vocabulary_version=2)
    plan = revise(plan, tokens=tokens)
    home = make_home(tmp_path / "agent", plan)
    home.plan.unlink()
    certificates.create(tmp_path / "tls", ["localhost"], now=datetime.now(UTC))
    home.ca_certificate.write_bytes((tmp_path / "tls" / "ca.crt").read_bytes())
    joined = run("tacitly-agent", "join", "--home", str(home.root), "--yes", plan.hash)
    assert joined.returncode == 5
    # The line before it says that the desk was not reached.
    assert "vocabulary_version is 2" in joined.stderr.decode().splitlines()[-1]
    assert not home.plan.exists()
    server = ServerHome(tmp_path / "server")
    assert run("tacitly-server", "init", "--home", str(server.root)).returncode == 0
    with pytest.raises(ValidationError, match="vocabulary_version is 2"):
        create_campaign(server, plan, np.frombuffer(model_bytes(plan), np.float32))
    assert list(server.campaigns.iterdir()) == []


# ----------------------------------------------------------------------------- in a deployment


def content(update: NDArray[np.generic], round_: int, attempt: int) -> RecordDict:
    """A reply that says OK, with whatever array."""
    said = ConfigRecord({"round": round_, "attempt": attempt, "code": int(ReplyCode.OK)})
    return RecordDict({"reply": said, "update": ArrayRecord({"vector": Array(update)})})


def tenfold(plan: CampaignPlan) -> NDArray[np.int32]:
    """Ten times the longest update that an honest device sends."""
    coordinates = plan.model.trainable_parameters
    norm = 10 * encoded_norm_bound(plan) / plan.grid_step
    return np.full(coordinates, norm / np.sqrt(coordinates), np.int32)


# What a device with other software than ours sends, and what its contribution is refused as.
LIES: dict[str, Callable[[CampaignPlan], NDArray[np.generic]]] = {
    "wrong_type": lambda plan: np.full(plan.model.trainable_parameters, np.nan, np.float32),
    "norm_too_large": tenfold,
    "wrong_shape": lambda plan: np.zeros(plan.model.trainable_parameters + 1, np.int32),
}


@contextmanager
def lying(home: AgentHome, plan: CampaignPlan, update: NDArray[np.generic]) -> Iterator[None]:
    """A device that answers every task with `update`, past our egress guard."""
    stop = threading.Event()
    connection = Connection(
        read_settings(home).server,
        ca_certificate=home.ca_certificate,
        key=load_node_key(home),
        node_id_file=home.node_id,
        heartbeat_seconds=HEARTBEAT_SECONDS,
    )

    def lie() -> None:
        beat_at = 0.0
        while not stop.wait(POLL_SECONDS):
            try:
                if not connection.connected:
                    connection.connect()
                if time.monotonic() >= beat_at:
                    connection.heartbeat()
                    beat_at = time.monotonic() + HEARTBEAT_SECONDS / 3
                instruction = connection.pull()
                if instruction is not None:
                    connection.push(sealed(connection, instruction, plan, update))
            except (FleetError, WithdrawnError):
                continue
        connection.disconnect()

    thread = threading.Thread(target=lie)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def sealed(
    connection: Connection, asked: Instruction, plan: CampaignPlan, update: NDArray[np.generic]
) -> SealedReply:
    received = connection.fetch(asked, {})
    connection.confirm(asked)
    task, _ = parse_train_content(received, parameters=plan.model.parameters)
    message_id, message = egress._message(asked.address, content(update, task.round, task.attempt))
    return SealedReply(
        run_id=asked.address.run_id,
        header=egress._header(asked.address, message_id),
        tree=get_object_tree(message).SerializeToString(),
        objects={name: part.deflate() for name, part in get_all_nested_objects(message).items()},
        payload_sha256="",
    )


@dataclass(frozen=True)
class Site:
    """A campaign in a deployment."""

    deployment: Deployment

    @property
    def released(self) -> list[Receipt]:
        """Its receipts of released rounds."""
        receipts = read_receipts(self.campaign.receipts)
        return [receipt for receipt in receipts if receipt.outcome is Outcome.RELEASED]

    @property
    def campaign(self) -> CampaignDirectory:
        return self.deployment.server.campaign(self.deployment.plan.hash)

    def goes_on(self, rounds: int = 1) -> None:
        """Wait until so many more rounds are released."""
        wanted = len(self.released) + rounds
        eventually(lambda: len(self.released) >= wanted, within_seconds=300)

    def logged(self, text: str) -> bool:
        """Whether the operator can read this."""
        logs = [
            self.deployment.root / "logs" / "server.log",
            *self.deployment.server.logs.iterdir(),
        ]
        return any(text in log.read_text() for log in logs)

    def spent(self) -> dict[str, int]:
        """What each subject has spent, as the server's ledger says."""
        with closing(sqlite3.connect(self.deployment.server.population_database)) as database:
            return dict(
                database.execute(
                    "SELECT subject, spent_nano_rho FROM budgets WHERE kind = 'lifetime'"
                ).fetchall()
            )

    def all_spent_more_than(self, before: dict[str, int]) -> bool:
        """Whether each has paid since. A device that was slow may be asked a round later."""
        after = self.spent()
        return all(after[subject] > spent for subject, spent in before.items())

    def stop_server(self) -> None:
        """As an operator would."""
        assert self.deployment.supervisor is not None
        self.deployment.supervisor.terminate()
        self.deployment.supervisor.wait()

    def up(self) -> subprocess.CompletedProcess[bytes]:
        """Start the server where it is expected to refuse."""
        home, port = self.deployment.server.root, self.deployment.port
        return run("tacitly-server", "up", "--home", str(home), "--port", str(port))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two good devices; one with a damaged store, one with a wrong key; and the liars."""
    plan = training_plan(
        app_hash=app_hash(),
        rounds=1_000,
        participations=1_000,
        cohort=CohortPlan(
            population=100,
            target=4 + len(LIES),
            minimum=3,
            deadline_seconds=30,
            selection_timeout_seconds=60,
        ),
    )
    model = np.frombuffer(model_bytes(plan), np.float32)
    root = tmp_path_factory.mktemp("deployment")
    with Deployment.create(root, plan, model) as deployment, ExitStack() as stack:
        for name in ("ada", "bea", "cyn", "dan"):
            deployment.add_agent(name, typed(TEXT), poll_seconds=POLL_SECONDS)
        damaged, wrong_key = (agent.home for agent in deployment.agents[2:])
        damage_first_segment(damaged)
        assert replay(damaged, TEXT).returncode == 0
        next(wrong_key.store.glob("*.key")).write_bytes(os.urandom(32))
        for name, update in LIES.items():
            liar = deployment.enrol(name)
            deployment.agents.remove(liar)
            stack.enter_context(lying(liar.home, plan, update(plan)))
        deployment.start_agents()
        yield Site(deployment)


def test_bad_devices_cost_their_own_contribution_and_are_named(site: Site) -> None:
    expected = dict.fromkeys(LIES, 1) | {"device_device_fault": 1}
    eventually(
        lambda: any(one.refusals == expected and one.usable == 3 for one in site.released),
        within_seconds=400,
    )
    damaged, wrong_key = (agent.home for agent in site.deployment.agents[2:])
    assert "left out" in damaged.trainer_log.read_text()
    assert "put the right key back" in wrong_key.trainer_log.read_text()
    # A device that could not read its store has paid nothing.
    shown = run("tacitly-agent", "status", "--home", str(wrong_key.root), "--format", "json")
    assert json.loads(shown.stdout)["lifetime"]["spent_nano_rho"] == 0


def test_a_full_disk_costs_the_server_an_attempt_and_is_said(site: Site) -> None:
    before = site.spent()
    pid = eventually(lambda: read_status(site.deployment.server).serverapp_pid)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
    eventually(lambda: site.logged("free disk space"), within_seconds=300)
    site.goes_on()
    eventually(lambda: site.all_spent_more_than(before), within_seconds=300)


def test_a_cut_off_checkpoint_is_said_and_the_one_before_is_used(site: Site) -> None:
    site.goes_on(2)
    site.stop_server()
    before, released = site.spent(), [one.round for one in site.released]
    newest = released[-1]
    checkpoint = site.campaign.checkpoint
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1_000])
    site.deployment.start_server()
    eventually(lambda: site.logged(f"going on from round {newest - 1}"))
    assert site.logged(f"{checkpoint}: damaged")
    site.goes_on(2)
    again = [one.round for one in site.released][len(released) :]
    assert again[:2] == [newest, newest + 1]
    eventually(lambda: site.all_spent_more_than(before), within_seconds=300)


def test_an_expired_certificate_stops_the_start_and_renewing_mends_it(site: Site) -> None:
    site.stop_server()
    before = site.spent()
    tls = site.deployment.server.tls
    two_years_ago = datetime.now(UTC) - timedelta(days=730)
    certificates.renew(tls, now=two_years_ago)
    error = refused(site.up(), 2)
    assert "expired on" in error
    assert "tacitly-server renew" in error
    home = str(site.deployment.server.root)
    assert run("tacitly-server", "renew", "--home", home).returncode == 0
    site.deployment.start_server()
    site.goes_on()
    assert all(site.spent()[subject] >= spent for subject, spent in before.items())
