"""A whole deployment whose plan masks: the server sees sums, and the model is that of the sums."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from deployment_support import stop_agents
from homes import TEXT, model_bytes, training_plan
from leak_search import typed
from plans import masked_plan
from stock_flower import eventually
from tacitly_common.campaign import CampaignPlan, CohortPlan
from tacitly_common.mechanisms.rounded_gaussian import centred, decode_mean
from tacitly_common.secagg.packing import pack
from tacitly_common.wire.phases import Phase
from tacitly_server.bundle import app_hash
from tacitly_server.campaigns.filing import progress_of
from tacitly_server.rounds import optimizer
from tacitly_server.rounds.receipts import Outcome, model_sha256, read_receipts
from tacitly_simulations.demo.deployment import Agent, Deployment

ROUNDS = 1
NAMES = ("ada", "bea")


def plan_of_two() -> CampaignPlan:
    base = masked_plan()
    return training_plan(
        app_hash=app_hash(),
        rounds=ROUNDS,
        participations=20,
        subject=base.subject,
        masking=msgspec.structs.replace(base.masking, group_size=2),
        cohort=CohortPlan(
            population=100,
            target=2,
            # Both of them: the test knows then whose updates are in a sum.
            minimum=2,
            deadline_seconds=120,
            selection_timeout_seconds=60,
        ),
    )


def test_the_released_models_are_those_of_sums_that_nobody_saw_into(tmp_path: Path) -> None:
    plan = plan_of_two()
    model = np.frombuffer(model_bytes(plan), np.float32)
    with Deployment.create(tmp_path / "deployment", plan, model) as deployment:
        for name in NAMES:
            deployment.add_agent(name, typed(TEXT))
        deployment.start_agents()
        campaign = deployment.server.campaign(plan.hash)
        eventually(lambda: progress_of(campaign).released_round == ROUNDS, within_seconds=600)
        stop_agents(deployment)
    released = [r for r in read_receipts(campaign.receipts) if r.outcome is Outcome.RELEASED]
    assert [(r.usable, r.groups, r.groups_unmasked) for r in released] == [(2, 1, 1)] * ROUNDS
    state = optimizer.OptimizerState()
    for receipt in released:
        at = (receipt.round, receipt.attempt)
        residues = [kept(agent, plan, at) for agent in deployment.agents]
        total = np.sum([centred(each, plan) for each in residues], axis=0)
        mean = decode_mean(total, plan, receipt.round)
        delta, state = optimizer.step(plan.optimizer, state, mean)
        model = optimizer.apply(plan.model, model, delta)
        assert receipt.model_sha256 == model_sha256(model)
        # What was masked lies in no file of the server's, in whatever width.
        for each in residues:
            for clear in (each.tobytes(), pack(each, plan.field_bits)):
                assert not any(clear[:64] in data for data in files(deployment.server.root))
        for agent in deployment.agents:
            phases = [line["phase"] for line in journal(agent) if place(line) == at]
            assert phases == [phase.name for phase in Phase]


def kept(agent: Agent, plan: CampaignPlan, at: tuple[int, int]) -> np.ndarray[Any, Any]:
    name = f"{plan.hash}-{at[0]}-{at[1]}.update"
    return np.frombuffer((agent.home.outbox / name).read_bytes(), "<u4")


def journal(agent: Agent) -> list[dict[str, Any]]:
    lines = map(json.loads, agent.home.egress_journal.read_text().splitlines())
    return [line for line in lines if line.get("code") == "OK"]


def place(line: dict[str, Any]) -> tuple[int, int]:
    return line["round"], line["attempt"]


def files(root: Path) -> list[bytes]:
    return [path.read_bytes() for path in root.rglob("*") if path.is_file()]
