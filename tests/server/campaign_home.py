"""A server home with one campaign in it, and a campaign in a process of its own to be killed."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Message
from inprocess_grid import Delivery, InProcessGrid, honest, refusing
from numpy.typing import NDArray

from agreement import begin_log, start
from ledgers import open_ledger
from plans import small_plan
from tacitly_common.campaign import CampaignPlan, read_plan
from tacitly_common.wire.codes import ReplyCode
from tacitly_server.campaigns.grants import Grants
from tacitly_server.home import CampaignDirectory, ServerHome
from tacitly_server.ledger.population import AttemptKey, AttemptState
from tacitly_server.ledger.witness import create_key
from tacitly_server.rounds.campaign import Campaign, Patience, run_campaign
from tacitly_server.rounds.clock import SystemClock
from tacitly_server.rounds.receipts import model_sha256


@dataclass(frozen=True)
class CampaignHome:
    """The plan and where its state is."""

    home: ServerHome
    plan: CampaignPlan

    @property
    def directory(self) -> CampaignDirectory:
        return self.home.campaign(self.plan.hash)


def make_home(root: Path, **changes: Any) -> CampaignHome:
    """A home at `root` with the campaign of `small_plan(**changes)`, started by officers."""
    parameters = small_plan(**changes).model.parameters
    model = np.random.default_rng(3).normal(size=parameters).astype(np.float32)
    made = CampaignHome(
        ServerHome(root), small_plan(initial_model_hash=model_sha256(model), **changes)
    )
    made.directory.root.mkdir(parents=True)
    made.directory.plan.write_bytes(made.plan.to_json())
    np.save(made.directory.initial_model, model)
    create_key(made.home.ledger_key)
    begin_log(made.home)
    start(made.home, made.plan)
    return made


def subject(node_id: int) -> str:
    """One subject for each node."""
    return f"{node_id:064x}"


def constant_update(plan: CampaignPlan) -> NDArray[np.int32]:
    """What a node in `run_to_be_killed` always answers."""
    return np.full(plan.model.trainable_parameters, 7, dtype=np.int32)


def run_to_be_killed(plan_path: Path, root: Path, nodes: int, said: Connection) -> None:
    """Run the campaign over nodes that refuse some attempts, and witness every message.

    `said` gets the round of each receipt, then the ending. Each message that reaches a node
    leaves a line in `witness.jsonl`: whether the ledger held its attempt as CHARGED at that
    moment, read through a connection of its own.
    """
    plan = read_plan(plan_path)
    home = ServerHome(root)
    witness = os.open(root / "witness.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    eyes = open_ledger(home.population_database)

    def node(message: Message) -> Iterable[Delivery]:
        task = message.content.config_records["task"]
        round_number, attempt = int(task["round"]), int(task["attempt"])  # type: ignore[arg-type]
        state = eyes.state(AttemptKey(plan.hash, round_number, attempt))
        line = [round_number, attempt, message.metadata.dst_node_id, state is AttemptState.CHARGED]
        os.write(witness, json.dumps(line).encode() + b"\n")
        # Some attempts fail for all, so that LOST ones are among those killed.
        if hashlib.sha256(f"{round_number}.{attempt}".encode()).digest()[0] < 40:
            return refusing(ReplyCode.BUDGET_EXHAUSTED)(message)
        return honest(plan, constant_update(plan))(message)

    clock = SystemClock()
    grid = InProcessGrid(dict.fromkeys(range(1, nodes + 1), node), clock)
    enrolled = {node_id: subject(node_id) for node_id in grid.nodes}
    with open_ledger(home.population_database) as ledger:
        campaign = Campaign(
            grid=grid,
            plan=plan,
            directory=home.campaign(plan.hash),
            ledger=ledger,
            enrolled=lambda: enrolled,
            permits=Grants.open(home, plan),
            on_round=lambda receipt: said.send(receipt.round),
            clock=clock,
            patience=Patience(pause_seconds=0.001, max_pause_seconds=0.01),
        )
        said.send(run_campaign(campaign))
