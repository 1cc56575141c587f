"""The faithful engine: Flower's simulation (Ray), with the deployment's rounds and training.

The server side is `tacitly_server`'s own campaign loop: selection, charging, streaming sum,
checks, optimiser, checkpoints, receipts. The client side is the device's own training and
mechanism. What is left out is the transport, the device's process boundaries, and the officers: no
grant is given and none is looked at. What the lab adds is that noise can be left off (`Privacy`),
which no device offers.
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from numpy.typing import NDArray

from tacitly_client.training.local import PlainSettings, train, train_without_privacy
from tacitly_client.training.windows import training_windows
from tacitly_common.campaign import CampaignPlan, read_plan
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

_PARTITION: Final = "partition-id"


class Privacy(StrEnum):
    """Which of the two levels of noise a simulated client adds. Every level clips to C."""

    NONE = "none"
    SUBJECT = "subject"
    RECORD = "record"
    SUBJECT_AND_RECORD = "subject and record"

    @property
    def protects_records(self) -> bool:
        """DP-SGD runs inside the device."""
        return self in (Privacy.RECORD, Privacy.SUBJECT_AND_RECORD)

    @property
    def protects_subjects(self) -> bool:
        """The update is noised before it leaves the device."""
        return self in (Privacy.SUBJECT, Privacy.SUBJECT_AND_RECORD)


@dataclass(frozen=True, slots=True)
class Simulated:
    """The last released model, float32[parameters], and every receipt."""

    model: NDArray[np.float32]
    receipts: list[Receipt]


def simulate(
    directory: Path,
    plan: CampaignPlan,
    model: NDArray[np.float32],
    streams: Sequence[NDArray[np.int64]],
    *,
    privacy: Privacy,
    local: PlainSettings,
    seed: int,
    processes: int,
    on_round: Callable[[Receipt], None] = lambda _receipt: None,
) -> Simulated:
    """Run a campaign with one simulated client for each stream of training tokens.

    `directory` is a new one; it holds plan, windows, ledger and checkpoints. `local` is how a
    client trains where the record level is off; with it, the plan's DP-SGD runs.
    `seed` orders the minibatches; noise is drawn from a secure source and cannot be seeded.
    """
    campaign = CampaignDirectory(directory)
    directory.mkdir(parents=True)
    campaign.plan.write_bytes(plan.to_json())
    np.save(campaign.initial_model, model)
    for index, stream in enumerate(streams):
        np.save(_windows_file(directory, index), training_windows(stream, plan.record))
    _run_flower(
        _server_app(directory, on_round),
        _client_app(directory, privacy, local, seed),
        clients=len(streams),
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


def _client_app(directory: Path, privacy: Privacy, local: PlainSettings, seed: int) -> ClientApp:
    app = ClientApp()

    @app.train()
    def on_train(message: Message, context: Context) -> Message:
        import torch

        torch.set_num_threads(1)
        plan = read_plan(CampaignDirectory(directory).plan)
        task, start = parse_train_content(message.content, parameters=plan.model.parameters)
        partition = int(context.node_config[_PARTITION])
        windows = np.load(_windows_file(directory, partition))
        if privacy.protects_records:
            update = train(plan, start, windows, rng=secure_generator())
        else:
            rng = np.random.default_rng((seed, task.round, task.attempt, partition))
            update = train_without_privacy(plan.model, start, windows, local, rng)
        encode = release if privacy.protects_subjects else release_without_noise
        encoded = encode(update, plan, task.round, secure_generator())
        reply = Reply(task.round, task.attempt, ReplyCode.OK, encoded)
        return Message(reply_content(reply), reply_to=message)

    return app


def _windows_file(directory: Path, partition: int) -> Path:
    return directory / f"windows-{partition}.npy"


def _run_flower(server: ServerApp, client: ClientApp, *, clients: int, processes: int) -> None:
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    from flwr.simulation import run_simulation

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
                    "num_cpus": processes,
                    "include_dashboard": False,
                    "log_to_driver": False,
                    "logging_level": logging.ERROR,
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
