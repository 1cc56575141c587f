"""Correlated noise against the library its strategies come from, and against plain algebra."""

from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from small_rounds import LOCAL, SEED, STREAMS, clients_of, plan_of, start_of
from tacitly_common.campaign import CampaignPlan
from tacitly_common.errors import ValidationError
from tacitly_server.rounds.receipts import Receipt
from tacitly_simulations.engines.batched import simulate
from tacitly_simulations.engines.correlated_noise import CorrelatedNoise, normalised, spread
from tacitly_simulations.engines.privacy import Privacy
from tacitly_simulations.engines.trainers import Work

ROUNDS = 12
# jax-privacy 2.0.0: toeplitz.optimize_banded_toeplitz(12, 3), and
# streaming_matrix.multiply_array(toeplitz.inverse_as_streaming_matrix(coefficients), [1, 3, ...]).
COEFFICIENTS = (0.8294834729526767, 0.4534360062497259, 0.32611800982874956)
THEIRS = [
    *(1.205569529240098, 2.957685653063006, 3.937053600986393, 5.123964151777812),
    *(6.50123390007069, 7.692847032057782, 8.911107870371172, 10.187794148454154),
    *(11.422065482570982, 12.656552462522983, 13.907597331781792, 15.149506070621),
]
# toeplitz.per_query_error(strategy_coef=coefficients, n=12)[-1]; 12 where noise is independent.
THEIR_ERROR = 5.5681524289090545


def strategy(coefficients: tuple[float, ...]) -> NDArray[np.float64]:
    """C itself, [ROUNDS, ROUNDS]."""
    return sum(c * np.eye(ROUNDS, k=-band) for band, c in enumerate(coefficients)) + np.zeros(
        (ROUNDS, ROUNDS)
    )


def test_noise_is_what_the_library_makes_of_the_same_draws() -> None:
    noise = CorrelatedNoise(COEFFICIENTS, lambda number: np.array([2.0 * number - 1]))
    ours = [noise.of_round(number)[0] for number in range(1, ROUNDS + 1)]
    np.testing.assert_allclose(ours, THEIRS, rtol=1e-12)


@pytest.mark.parametrize("coefficients", [(1.0,), (3.0, 1.0), (0.9, 0.5, 0.3, 0.2)])
def test_noise_solves_the_strategy(coefficients: tuple[float, ...]) -> None:
    unit = normalised(coefficients)
    draws = np.random.default_rng(0).normal(size=(ROUNDS, 5))
    noise = CorrelatedNoise(unit, lambda number: draws[number - 1])
    ours = np.stack([noise.of_round(number) for number in range(1, ROUNDS + 1)])
    np.testing.assert_allclose(ours, np.linalg.solve(strategy(unit), draws), atol=1e-12)
    late = CorrelatedNoise(unit, lambda number: draws[number - 1])
    np.testing.assert_array_equal(late.of_round(7), ours[6])  # as after a kill
    rows = np.linalg.norm(np.linalg.inv(strategy(unit)), axis=1)
    assert spread(unit, ROUNDS) == pytest.approx(np.sqrt(np.mean(rows**2)))


def test_the_sum_of_the_rounds_carries_less_noise() -> None:
    prefix_sums = np.tril(np.ones((ROUNDS, ROUNDS))) @ np.linalg.inv(strategy(COEFFICIENTS))
    assert np.sum(prefix_sums[-1] ** 2) == pytest.approx(THEIR_ERROR)
    assert THEIR_ERROR < 12 / 2


@pytest.mark.parametrize("participations", [1, 2, 4])
def test_a_person_whose_rounds_lie_apart_moves_it_no_more_than_independent_noise_assumes(
    participations: int,
) -> None:
    unit = normalised((0.9, 0.5, 0.3))
    matrix = strategy(unit)
    worst = 0.0
    for rounds in combinations(range(ROUNDS), participations):
        if all(b - a >= 3 for a, b in pairwise(rounds)):
            worst = max(worst, float(np.linalg.norm(matrix[:, list(rounds)].sum(axis=1)) ** 2))
    assert worst == pytest.approx(participations)
    too_near = float(np.linalg.norm(matrix[:, [0, 2]].sum(axis=1)) ** 2)
    assert too_near > 2.2  # why a gap is asked for


@pytest.mark.parametrize("wrong", [(0.0, 1.0), (-1.0,), (1.0, float("nan")), ()])
def test_coefficients_that_make_no_strategy_are_refused(wrong: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="the first above 0"):
        normalised(wrong)


def work_of(plan: CampaignPlan) -> Work:
    return Work(plan, Privacy.SUBJECT, LOCAL, SEED, noise_coefficients=COEFFICIENTS)


def test_a_model_moves_by_the_correlated_noise(tmp_path: Path) -> None:
    """Nobody has data, so the model moves by noise alone: it must be that of the strategy."""
    plan = plan_of(ROUNDS, "0.5")
    start = start_of(plan)
    models = [start]

    def on_round(_receipt: Receipt) -> None:
        with np.load(tmp_path / "run" / "checkpoint.npz") as archive:
            models.append(archive["model"])

    clients = clients_of(tmp_path, [np.empty(0, np.int64)] * 9)
    simulate(tmp_path / "run", work_of(plan), start, clients, processes=1, on_round=on_round)
    moves = np.diff(np.stack(models).astype(np.float64), axis=0) * 9 / 0.5
    fresh = strategy(COEFFICIENTS) @ moves
    assert fresh.std() == pytest.approx(3.78, rel=0.03)
    # Independent again: no row of it tells of another.
    correlations = np.corrcoef(fresh)[np.triu_indices(ROUNDS, 1)]
    assert abs(correlations).max() < 0.35
    assert abs(np.corrcoef(moves)[np.triu_indices(ROUNDS, 1)]).max() > 0.45
    total = (models[-1].astype(np.float64) - start) * 9 / 0.5
    assert total.std() == pytest.approx(3.78 * THEIR_ERROR**0.5, rel=0.1)


def test_a_run_with_correlated_noise_goes_on_to_the_same_model(tmp_path: Path) -> None:
    plan, clients = plan_of(4, "1"), clients_of(tmp_path, STREAMS)
    work, start = work_of(plan), start_of(plan)
    whole = simulate(tmp_path / "whole", work, start, clients, processes=1)

    def stop_after_third(receipt: Receipt) -> None:
        if receipt.round == 3:
            raise KeyboardInterrupt

    parts = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        simulate(parts, work, start, clients, processes=1, on_round=stop_after_third)
    rest = simulate(parts, work, start, clients, processes=1)
    np.testing.assert_array_equal(rest.model, whole.model)
