"""Clipping by tensor, and at a norm that adapts: what it converges to, and what it costs."""

import math
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from dp_accounting.dp_event import GaussianDpEvent
from dp_accounting.pld.pld_privacy_accountant import PLDAccountant

from plans import small_plan
from small_rounds import LOCAL, SEED, STREAMS, clients_of, plan_of, start_of
from tacitly_common.accounting.subject import epsilon_of
from tacitly_common.campaign import CampaignPlan, revise
from tacitly_common.errors import ValidationError
from tacitly_server.rounds.receipts import Receipt
from tacitly_simulations.engines.batched import Simulated, simulate
from tacitly_simulations.engines.client_file import SimulatedClients
from tacitly_simulations.engines.clipping import AdaptiveClip, clip_by_tensor
from tacitly_simulations.engines.privacy import Privacy
from tacitly_simulations.engines.trainers import Trainers, Work


def run(
    directory: Path,
    plan: CampaignPlan,
    clients: SimulatedClients,
    adaptive: AdaptiveClip,
    /,
    *,
    privacy: Privacy = Privacy.NONE,
) -> Simulated:
    work = Work(plan, privacy, LOCAL, SEED, adaptive_clip=adaptive)
    return simulate(directory, work, start_of(plan), clients, processes=1)


def norms_of(simulated: Simulated) -> list[float]:
    return [receipt.clip.norm for receipt in simulated.receipts if receipt.clip is not None]


@pytest.mark.parametrize(("start", "quantile"), [("0.02", 0.85), ("90", 0.5)])
def test_the_norm_settles_at_the_quantile_of_the_updates_norms(
    tmp_path: Path, start: str, quantile: float
) -> None:
    # A server that hardly moves: the norms, each its client's own, stay as they are.
    plan, clients = plan_of(35, start, "1e-9"), clients_of(tmp_path, STREAMS)
    with Trainers(Work(plan, Privacy.NONE, LOCAL, SEED), clients) as trainers:
        norms = [
            np.linalg.norm(update)
            for number in range(26, 36)
            for _, updates in trainers.updates(start_of(plan), number, range(9))
            for update in updates
        ]
    planted = float(np.quantile(norms, quantile))
    assert np.quantile(norms, 0.85) > 1.2 * np.quantile(norms, 0.5)
    simulated = run(tmp_path / "run", plan, clients, AdaptiveClip(quantile, 0.5, 1))
    assert float(np.mean(norms_of(simulated)[-10:])) == pytest.approx(planted, rel=0.08)
    assert norms_of(simulated)[0] == float(start)


def test_each_round_follows_from_the_receipt_before_it(tmp_path: Path) -> None:
    plan, adaptive = plan_of(4, "1"), AdaptiveClip(0.3, 0.2, 2.5)
    simulated = run(
        tmp_path / "run",
        plan,
        clients_of(tmp_path, STREAMS),
        adaptive,
        privacy=Privacy.SUBJECT,
    )
    clips = [receipt.clip for receipt in simulated.receipts]
    for before, after in pairwise(clips):
        assert before is not None
        assert after is not None
        # Algorithm 1, line 9: C <- C exp(-η_C (b - γ)).
        assert after.norm == pytest.approx(before.norm * math.exp(-0.2 * (before.within - 0.3)))


@pytest.mark.parametrize(("noise", "count_noise"), [("3.78", 10.0), ("1.5", 0.8)])
def test_updates_and_count_together_cost_what_the_plan_claims(
    noise: str, count_noise: float
) -> None:
    z, participations, delta = Decimal(noise), 7, 1e-6
    of_updates = AdaptiveClip(0.5, 0.2, count_noise).noise_of_updates(z)
    formula = (float(z) ** -2 - (2 * count_noise) ** -2) ** -0.5
    assert formula <= float(of_updates) <= formula + 1e-9
    plan = small_plan()
    plan = revise(plan, subject=msgspec.structs.replace(plan.subject, noise_multiplier=z))
    claimed = epsilon_of(participations * plan.cost_nano_rho, delta)
    accountant = PLDAccountant()
    accountant.compose(GaussianDpEvent(float(of_updates)), participations)
    accountant.compose(GaussianDpEvent(2 * count_noise), participations)
    assert claimed == pytest.approx(accountant.get_epsilon(delta), rel=2e-3)
    updates_alone = PLDAccountant()
    updates_alone.compose(GaussianDpEvent(float(z)), participations)
    updates_alone.compose(GaussianDpEvent(2 * count_noise), participations)
    assert updates_alone.get_epsilon(delta) > claimed * 1.01  # no share set aside: not covered


def test_a_count_that_alone_would_cost_all_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"give more than 1\.89, half the noise multiplier"):
        AdaptiveClip(0.5, 0.2, 1.8).noise_of_updates(Decimal("3.78"))


def test_the_noise_follows_the_norm_and_leaves_the_count_its_share(tmp_path: Path) -> None:
    """Nobody has data: all updates are zero, so the model moves by the noise alone."""
    plan, adaptive = plan_of(6, "1"), AdaptiveClip(0.1, 1.0, 3.0)
    clients = clients_of(tmp_path, [np.empty(0, np.int64)] * 9)
    models = [start_of(plan)]
    work = Work(plan, Privacy.SUBJECT, LOCAL, SEED, adaptive_clip=adaptive)

    def on_round(receipt: Receipt) -> None:
        with np.load(tmp_path / "run" / "checkpoint.npz") as archive:
            models.append(archive["model"])

    simulated = simulate(tmp_path / "run", work, models[0], clients, processes=1, on_round=on_round)
    norms = norms_of(simulated)
    assert norms[-1] < 0.2  # all are within any norm: it shrinks
    noise = np.concatenate(
        [(b - a) * 9 / norm for (a, b), norm in zip(pairwise(models), norms, strict=True)]
    )
    of_updates = (3.78**-2 - 6.0**-2) ** -0.5
    assert noise.std() == pytest.approx(of_updates, rel=0.05)
    assert abs(of_updates / 3.78 - 1) > 0.2


def test_the_counts_noise_has_the_planned_deviation() -> None:
    plan, adaptive = plan_of(1, "1"), AdaptiveClip(0.5, 0.2, 2.0)
    exact = adaptive.outcome(plan, 7, 9, None).within
    assert exact == pytest.approx(7 / 9)
    shares = [adaptive.outcome(plan, 7, 9, (1, draw)).within for draw in range(2_000)]
    assert np.mean(shares) == pytest.approx(exact, abs=0.02)
    assert np.std(shares) == pytest.approx(2.0 / 9, rel=0.06)


def test_a_run_with_an_adaptive_clip_goes_on_to_the_same_model(tmp_path: Path) -> None:
    plan, clients = plan_of(4, "1"), clients_of(tmp_path, STREAMS)
    work = Work(plan, Privacy.SUBJECT, LOCAL, SEED, adaptive_clip=AdaptiveClip(0.5, 0.5, 3.0))
    whole = simulate(tmp_path / "whole", work, start_of(plan), clients, processes=1)

    def stop_after_second(receipt: Receipt) -> None:
        if receipt.round == 2:
            raise KeyboardInterrupt

    parts = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        simulate(parts, work, start_of(plan), clients, processes=1, on_round=stop_after_second)
    rest = simulate(parts, work, start_of(plan), clients, processes=1)
    np.testing.assert_array_equal(rest.model, whole.model)
    assert [r.clip for r in rest.receipts] == [r.clip for r in whole.receipts]
    assert len(set(norms_of(whole))) == 4


def test_a_clip_by_tensor_bounds_each_tensor_and_the_whole(tmp_path: Path) -> None:
    config = msgspec.structs.replace(
        small_plan().model, trainable=("embedding.weight", "output.weight", "output.bias")
    )
    sizes = [tensor.size for tensor in config.trainable_layout()]
    rng = np.random.default_rng(0)
    parts = [rng.normal(0, scale, size) for scale, size in zip((9, 0.001, 4), sizes, strict=True)]
    update = np.concatenate(parts).astype(np.float32)
    clipped = np.split(clip_by_tensor(config, update, 0.6), np.cumsum(sizes)[:-1])
    share = 0.6 / 3**0.5
    assert [np.linalg.norm(part) for part in clipped] == [
        pytest.approx(share),
        pytest.approx(np.linalg.norm(parts[1])),
        pytest.approx(share),
    ]
    assert np.linalg.norm(np.concatenate(clipped)) <= 0.6

    plan, clients = plan_of(1, "0.2"), clients_of(tmp_path, STREAMS)
    work = Work(plan, Privacy.NONE, LOCAL, SEED, clip_by_tensor=True)
    with Trainers(work, clients) as trainers:
        total = trainers.clipped_sum(start_of(plan), 1, [3, 1, 8])
        each = [u for _, us in trainers.updates(start_of(plan), 1, [3, 1, 8]) for u in us]
    by_hand = sum(
        np.rint(clip_by_tensor(plan.model, update, 0.2) / plan.grid_step) for update in each
    )
    np.testing.assert_array_equal(total, by_hand)
