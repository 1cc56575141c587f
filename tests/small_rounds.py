"""A few rounds of nine made-up clients over a tiny model, for tests of the batched engine."""

from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from plans import small_plan
from tacitly_client.training.baseline import PlainSettings
from tacitly_client.training.windows import training_windows
from tacitly_common.campaign import CampaignPlan, ServerOptimizerName, ServerOptimizerPlan, revise
from tacitly_common.model import initial_vector
from tacitly_server.rounds.receipts import model_sha256
from tacitly_simulations.engines.client_file import SimulatedClients, write_clients

RECORD = small_plan().record
LOCAL = PlainSettings(epochs=1, batch_windows=4, learning_rate=0.5)
STREAMS = [np.random.default_rng(seed).integers(2, 11, 60 + 31 * seed) for seed in range(9)]
SEED = 5


def start_of(plan: CampaignPlan) -> NDArray[np.float32]:
    return initial_vector(plan.model, 0)


def plan_of(rounds: int, clip_norm: str, learning_rate: str = "1") -> CampaignPlan:
    plan = small_plan(participations=rounds)
    return revise(
        plan,
        rounds=rounds,
        initial_model_hash=model_sha256(start_of(plan)),
        cohort=msgspec.structs.replace(plan.cohort, population=9, target=9, minimum=9),
        subject=msgspec.structs.replace(plan.subject, clip_norm=Decimal(clip_norm), grid_bits=24),
        optimizer=ServerOptimizerPlan(
            name=ServerOptimizerName.SGD, learning_rate=Decimal(learning_rate)
        ),
    )


def clients_of(folder: Path, streams: list[NDArray[np.int64]]) -> SimulatedClients:
    write_clients(folder / "clients.npy", [training_windows(s, RECORD) for s in streams])
    return SimulatedClients(folder / "clients.npy", len(streams), SEED)
