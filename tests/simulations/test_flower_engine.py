"""The faithful engine: a real campaign under Flower's simulation, with real Ray actors."""

import gc
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from plans import small_plan
from tacitly_client.training.baseline import PlainSettings
from tacitly_client.training.local import train_without_privacy
from tacitly_client.training.windows import training_windows
from tacitly_common.campaign import CampaignPlan, revise
from tacitly_common.model import initial_vector
from tacitly_server.rounds import optimizer
from tacitly_server.rounds.receipts import Outcome, Receipt, model_sha256
from tacitly_simulations.engines import batched as batched_engine
from tacitly_simulations.engines.client_file import SimulatedClients, write_clients
from tacitly_simulations.engines.flower import simulate
from tacitly_simulations.engines.privacy import Privacy
from tacitly_simulations.engines.trainers import Work

LOCAL = PlainSettings(epochs=1, batch_windows=4, learning_rate=0.5)
STREAMS = [np.random.default_rng(seed).integers(2, 11, 200) for seed in range(3)]


def plan_of_three(start: NDArray[np.float32]) -> CampaignPlan:
    plan = small_plan(rounds=2, participations=2, initial_model_hash=model_sha256(start))
    return revise(
        plan,
        cohort=msgspec.structs.replace(plan.cohort, target=3, minimum=3, deadline_seconds=240),
        subject=msgspec.structs.replace(plan.subject, clip_norm=Decimal(100), grid_bits=24),
    )


# Ray leaves its daemons, which it has killed, and their /dev/null to the garbage collector.
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
@pytest.mark.filterwarnings("ignore:unclosed file <.*/dev/null:ResourceWarning")
def test_rounds_without_noise_are_the_plain_loop(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    start = initial_vector(small_plan().model, 0)
    plan, seen = plan_of_three(start), list[Receipt]()
    write_clients(
        tmp_path / "clients.npy", [training_windows(stream, plan.record) for stream in STREAMS]
    )
    clients = SimulatedClients(tmp_path / "clients.npy", len(STREAMS), seed=5)
    work = Work(plan, Privacy.NONE, LOCAL, seed=5)
    result = simulate(
        tmp_path / "campaign", work, start, clients, processes=2, on_round=seen.append
    )
    assert [(r.round, r.usable, r.outcome) for r in result.receipts] == [
        (1, 3, Outcome.RELEASED),
        (2, 3, Outcome.RELEASED),
    ]
    assert seen == result.receipts
    assert result.receipts[-1].model_sha256 == model_sha256(result.model)

    model = start
    for round_number in (1, 2):
        updates = [
            train_without_privacy(
                plan.model,
                model,
                training_windows(stream, plan.record),
                LOCAL,
                np.random.default_rng((5, round_number, 1, partition)),
            )
            for partition, stream in enumerate(STREAMS)
        ]
        model = optimizer.apply(plan.model, model, np.mean(updates, axis=0, dtype=np.float64))
    np.testing.assert_allclose(result.model, model, atol=1e-4)
    assert capfd.readouterr().out == ""

    batched = batched_engine.simulate(tmp_path / "batched", work, start, clients, processes=1)
    # A float's last bit may round to the next point of the grid.
    np.testing.assert_allclose(batched.model, result.model, atol=2 * plan.grid_step)
    gc.collect()
