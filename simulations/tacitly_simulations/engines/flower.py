"""The faithful engine: Flower's simulation (Ray), with the deployment's rounds and training.

The server side is `tacitly_server`'s own campaign loop: selection, charging, streaming sum,
checks, optimiser, checkpoints, receipts. The client side is the device's own training and
mechanism. What is left out is the transport, the device's process boundaries, and the officers: no
grant is given and none is looked at. What the lab adds is that noise can be left off
(`privacy.py`), which no device offers.
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from numpy.typing import NDArray

from tacitly_client.training.local import train, train_without_privacy
from tacitly_common.campaign import read_plan
from tacitly_common.errors import ValidationError
from tacitly_common.mechanisms.encodings import release, release_without_noise
from tacitly_common.mechanisms.gaussian import secure_generator
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import Reply, parse_train_content, reply_content
from tacitly_server.home import CampaignDirectory
from tacitly_server.ledger.population import PopulationLedger
from tacitly_server.ledger.witness import Witness, create_key
from tacitly_server.rounds.campaign import Campaign, run_campaign
from tacitly_server.rounds.checkpoint import read_checkpoint
from tacitly_server.rounds.permit import without_officers
from tacitly_server.rounds.receipts import Receipt, read_receipts
from tacitly_simulations.engines.batched import Simulated
from tacitly_simulations.engines.client_file import OpenClients, SimulatedClients
from tacitly_simulations.engines.trainers import Work

_PARTITION: Final = "partition-id"


def simulate(
    directory: Path,
    work: Work,
    model: NDArray[np.float32],
    clients: SimulatedClients,
    *,
    processes: int,
    ray_address: str | None = None,
    on_round: Callable[[Receipt], None] = lambda _receipt: None,
) -> Simulated:
    """Run a campaign with one Flower client for each of `clients`.

    They train in `processes` processes here, or on all CPUs of the Ray cluster at `ray_address`.

    `directory` is a new one; it holds plan, ledger and checkpoints. The seed of `work` orders the
    minibatches; noise is drawn from a secure source and cannot be seeded.

    Raises:
        ValidationError: the plan sums under masks in several groups. Residues are added up here as
            those of one group, in the open.
    """
    plan = work.plan
    if plan.masked_sums is not None and plan.masked_sums.groups != 1:
        raise ValidationError(
            f"the plan has {plan.masked_sums.groups} groups; give masking.group_size "
            f"{plan.cohort.asked} to simulate it"
        )
    campaign = CampaignDirectory(directory)
    directory.mkdir(parents=True, exist_ok=True)
    campaign.plan.write_bytes(plan.to_json())
    np.save(campaign.initial_model, model)
    # Only now: Ray is large.
    from tacitly_simulations.engines.ray_pool import connect, share

    open_clients: Callable[[], OpenClients] = clients.open
    if ray_address is not None:
        connect(ray_address)  # Flower's backend takes the connection it finds, and ends it
        open_clients = share(clients.open())
    _run_flower(
        _server_app(directory, on_round),
        _client_app(work, open_clients),
        clients=clients.count,
        processes=processes,
    )
    return Simulated(
        read_checkpoint(campaign.checkpoint, plan).model, read_receipts(campaign.receipts)
    )


def _server_app(directory: Path, on_round: Callable[[Receipt], None]) -> ServerApp:
    app = ServerApp()

    @app.main()
    def main(grid: Grid, _context: Context) -> None:
        campaign = CampaignDirectory(directory)
        create_key(directory / "ledger.key")
        witness = Witness.open(directory / "ledger-witness.jsonl", directory / "ledger.key")
        with PopulationLedger(directory / "population.db", witness) as ledger:
            plan = read_plan(campaign.plan)
            run_campaign(
                Campaign(
                    grid=grid,
                    plan=plan,
                    directory=campaign,
                    ledger=ledger,
                    # Asked anew each time: the engine's nodes may come after the application.
                    enrolled=lambda: {node: f"client {node}" for node in grid.get_node_ids()},
                    permits=without_officers(plan),
                    on_round=on_round,
                )
            )

    return app


def _client_app(work: Work, open_clients: Callable[[], OpenClients]) -> ClientApp:
    app = ClientApp()

    @app.train()
    def on_train(message: Message, context: Context) -> Message:

        plan = work.plan
        task, start = parse_train_content(message.content, parameters=plan.model.parameters)
        partition = int(context.node_config[_PARTITION])
        windows = open_clients().windows(partition)
        if work.privacy.protects_records:
            update = train(plan, start, windows, rng=secure_generator())
        else:
            rng = np.random.default_rng((work.seed, task.round, task.attempt, partition))
            update = train_without_privacy(plan.model, start, windows, work.local, rng)
        encode = release if work.privacy.protects_subjects else release_without_noise
        encoded = encode(update, plan, task.round, secure_generator())
        reply = Reply(task.round, task.attempt, ReplyCode.OK, encoded)
        return Message(reply_content(reply), reply_to=message)

    return app


def _run_flower(server: ServerApp, client: ClientApp, *, clients: int, processes: int) -> None:
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    from flwr.simulation import run_simulation

    from tacitly_simulations.engines.ray_pool import QUIET

    with warnings.catch_warnings(), _quiet("flwr"):
        # Its replacement, `flwr run`, starts a SuperLink and installs a bundle for each run.
        warnings.simplefilter("ignore", DeprecationWarning)
        run_simulation(
            server_app=server,
            client_app=client,
            num_supernodes=clients,
            backend_config={
                "client_resources": {"num_cpus": 1},
                "init_args": {
                    "address": "local",
                    "num_cpus": processes,
                    "include_dashboard": False,
                    **QUIET,
                },
            },
        )


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Let through only what this logger calls an error."""
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
