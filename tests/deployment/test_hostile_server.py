"""What a hostile server can make a device do: first to Flower's own SuperNode, then to ours.

Each test shows the attack succeed against the stock SuperNode of the same Flower version, so
that what our agent refuses is a real attack and not one that would have failed anyway.
"""

import datetime as dt
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx
import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supernode import node_auth_http_interceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from device import Device, agent, enrolled
from officers import grant_for
from plans import small_plan
from stock_flower import StockSuperLink, StockSuperNode, bundle, eventually
from tacitly_client.node.backoff import Trouble
from tacitly_client.node.connection import Connection
from tacitly_client.node.identity import load_node_key, public_pem
from tacitly_client.node.transport import FleetError, ServerClock
from tacitly_common.campaign import CampaignPlan
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import Reply, Task, parse_reply_content, train_content

SECRET = "Dear diary, the merger closes on Friday"

# What the server offers for the device to run.
PROGRAM = """
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(message, context):
    mode = context.run_config["mode"]
    text = Path({store!r}).read_text()
    if mode == "crash":
        raise KeyError(text)
    stolen = text if mode == "steal" else ""
    return Message(RecordDict({{"found": ConfigRecord({{"text": stolen}})}}), reply_to=message)
"""

AGENT_PROGRAM = """
from pathlib import Path
from flwr.agentapp import AgentApp

app = AgentApp()

@app.main()
def main(agent, context):
    text = Path({store!r}).read_text()
    Path({loot!r}).write_text(text)
"""


@dataclass(frozen=True)
class Site:
    """A server that means harm, a stock node under it, and a store beside the node."""

    superlink: StockSuperLink
    stock: StockSuperNode
    store: Path

    @property
    def directory(self) -> Path:
        return self.superlink.directory

    def program(self, name: str, *, mode: str) -> bytes:
        """A bundle whose client code reads the store and does what its configuration says."""
        code = PROGRAM.format(store=str(self.store))
        return bundle(self.directory / name, client=code, mode=mode)

    def device(self, name: str, fab: bytes) -> Device:
        """Our device with a plan that names this very bundle: the worst case."""
        plan = small_plan(app_hash=sha256(fab).hexdigest())
        return enrolled(self.superlink, self.directory / name, plan)

    def bundles_fetched(self) -> int:
        return (self.directory / "superlink.log").read_text().count("/v1/fleet/get-fab")

    def server_knows(self, text: str) -> bool:
        """Whether any byte the server has stored, or logged, holds the text."""
        files = [*self.directory.glob("superlink.db*"), self.directory / "superlink.log"]
        return any(text.encode() in file.read_bytes() for file in files)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("hostile")
    store = directory / "store"
    store.write_text(SECRET)
    with StockSuperLink(directory) as superlink:
        stock = StockSuperNode(superlink, directory / "stock")
        with stock.running():
            eventually(lambda: superlink.status(stock.node_id) == "online")
            yield Site(superlink, stock, store)


def task(plan: CampaignPlan, round_: int = 1) -> RecordDict:
    model = np.zeros(plan.model.parameters, dtype=np.float32)
    return train_content(Task(plan.hash, round_, 0, grant_for(plan)), model)


def reply_of(content: RecordDict, plan: CampaignPlan) -> Reply:
    return parse_reply_content(content, coordinates=plan.model.trainable_parameters)


def test_a_bundle_that_reads_the_store_is_run_by_stock_and_not_even_fetched_by_us(
    site: Site,
) -> None:
    fab = site.program("thief", mode="steal")
    with site.superlink.drive(site.superlink.start_run(fab)) as drive:
        stock = drive.answer(drive.ask(site.stock.node_id, RecordDict()))
        assert stock.content["found"]["text"] == SECRET  # type: ignore[index]

        fetched = site.bundles_fetched()
        assert fetched == 1
        device = site.device("victim", b"another bundle")
        with agent(device, site.superlink):
            ours = drive.answer(drive.ask(device.node_id, task(device.plan)))
    assert reply_of(ours.content, device.plan) == Reply(0, 0, ReplyCode.UNKNOWN_APPLICATION, None)
    assert site.bundles_fetched() == fetched
    assert device.jobs() == []


def test_a_configuration_sent_by_the_server_switches_stock_and_is_not_read_by_us(
    site: Site,
) -> None:
    fab = site.program("switch", mode="honest")
    device = site.device("switched", fab)
    runs = {mode: site.superlink.start_run(fab, mode=mode) for mode in ("honest", "steal")}
    said: dict[str, object] = {}
    ours: dict[str, Reply] = {}
    with agent(device, site.superlink):
        for number, (mode, run_id) in enumerate(runs.items(), start=1):
            with site.superlink.drive(run_id) as drive:
                stock_message = drive.ask(site.stock.node_id, RecordDict())
                answer = drive.answer(drive.ask(device.node_id, task(device.plan, number)))
                ours[mode] = reply_of(answer.content, device.plan)
                said[mode] = drive.answer(stock_message).content["found"]["text"]  # type: ignore[index]
    assert said == {"honest": "", "steal": SECRET}
    # The same program by hash, with and without the server's wish: our own trainer answered.
    assert [reply.code for reply in ours.values()] == [ReplyCode.OK] * 2
    assert device.jobs() == [(1, 0), (2, 0)]


def test_an_agents_task_is_executed_by_stock_and_refused_by_us(site: Site) -> None:
    loot = site.directory / "loot"
    fab = bundle(
        site.directory / "agentapp",
        client=AGENT_PROGRAM.format(store=str(site.store), loot=str(loot)),
        components='agentapp = "offered.client:app"\n',
    )
    device = site.device("assistant", fab)
    run_id = site.superlink.start_run(fab, prompt="hello")
    order = RecordDict({"agent": ConfigRecord({"text": "hello"})})
    # A stock node of its own: it waits for ever for a reply that an AgentApp need not give.
    stock = StockSuperNode(site.superlink, site.directory / "stock-assistant")
    with site.superlink.drive(run_id, task_type="flwr-agentapp") as drive:
        with stock.running():
            eventually(lambda: site.superlink.status(stock.node_id) == "online")
            drive.ask(stock.node_id, order)
            eventually(lambda: loot.exists() and loot.read_text() == SECRET)

        loot.unlink()
        with agent(device, site.superlink):
            answers = [
                drive.answer(drive.ask(device.node_id, content))
                for content in (order, task(device.plan))
            ]
    for answer in answers:
        assert reply_of(answer.content, device.plan) == Reply(0, 0, ReplyCode.UNKNOWN_TASK, None)
    assert not loot.exists()
    assert device.jobs() == []


def test_the_text_of_an_exception_leaves_stock_and_not_us(site: Site) -> None:
    words = "a sentence that only a failing program mentions"
    site.store.write_text(words)
    try:
        fab = site.program("crash", mode="crash")
        with site.superlink.drive(site.superlink.start_run(fab)) as drive:
            assert not site.server_knows(words)
            device = site.device("crashing", fab)
            with agent(device, site.superlink, trainer="crash"):
                ours = drive.answer(drive.ask(device.node_id, task(device.plan)))
            assert reply_of(ours.content, device.plan) == Reply(1, 0, ReplyCode.DEVICE_FAULT, None)
            assert "what was typed" in device.home.trainer_log.read_text()
            assert not site.server_knows("what was typed")

            stock = drive.answer(drive.ask(site.stock.node_id, RecordDict()))
            assert words in stock.error.reason
            assert site.server_knows(words)
    finally:
        site.store.write_text(SECRET)


def test_a_clock_six_seconds_ahead_locks_stock_out_and_not_us(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = dt.timedelta(seconds=6)
    monkeypatch.setattr(node_auth_http_interceptor, "now", lambda: dt.datetime.now(dt.UTC) + ahead)
    device = site.device("hasty", b"any")
    key = load_node_key(device.home)
    request = ActivateNodeRequest(public_key=public_pem(key), heartbeat_interval=30)
    with (
        FleetHttpClient.from_server_address(
            site.superlink.address,
            False,
            site.superlink.ca_certificate.read_bytes(),
            interceptors=[NodeAuthHttpInterceptor(key, key.public_key())],
        ) as stock,
        pytest.raises(httpx.HTTPStatusError, match="401"),
    ):
        stock.ActivateNode(request)

    clock = ServerClock(lambda: time.time() + 6)
    ours = connection(device, clock)
    ours.connect()
    assert site.superlink.status(device.node_id) == "online"
    ours.disconnect()


def connection(device: Device, clock: ServerClock | None = None) -> Connection:
    return Connection(
        device.settings.server,
        ca_certificate=device.home.ca_certificate,
        key=load_node_key(device.home),
        node_id_file=device.home.node_id,
        heartbeat_seconds=30,
        clock=clock,
    )


def test_a_node_that_was_killed_makes_stock_exit_and_not_us(site: Site) -> None:
    stock = StockSuperNode(site.superlink, site.directory / "killed")
    with stock.running():
        eventually(lambda: site.superlink.status(stock.node_id) == "online")
    # Killed: the server still believes it online, and the next start gives up.
    with stock.running() as again:
        assert eventually(lambda: again.poll() is not None)
        assert again.returncode != 0
    assert "could not be activated" in (site.directory / "superlink.log").read_text()

    device = site.device("killed-ours", b"any")
    first = connection(device)
    first.connect()
    # As a kill leaves it: no goodbye.
    second = connection(device)
    second.connect()
    assert second.connected
    device.home.node_id.unlink()
    third = connection(device)
    with pytest.raises(FleetError) as caught:
        third.connect()
    assert caught.value.trouble is Trouble.STILL_ONLINE
    for each in (third, second, first):
        each.disconnect()
