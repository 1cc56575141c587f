"""Clip, noise, grid: what leaves a device, and the sum's inverse."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from plans import small_plan
from tacitly_common.campaign import SubjectMechanism
from tacitly_common.mechanisms.gaussian import (
    EncodingError,
    clip_l2,
    decode_mean,
    encoded_norm_bound,
    release,
    release_without_noise,
    secure_generator,
)
from tacitly_common.model_config import ModelConfig

PLAN = small_plan()
D = PLAN.model.trainable_parameters

finite = st.floats(-1e6, 1e6, width=32)


@given(hnp.arrays(np.float32, st.integers(1, 50), elements=finite), st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_clipping_keeps_the_direction_and_never_exceeds_the_bound(
    update: np.ndarray, bound: float
) -> None:
    clipped = clip_l2(update, bound)
    norm = np.linalg.norm(update.astype(np.float64))
    assert np.linalg.norm(clipped) <= bound * (1 + 1e-12)
    if norm <= bound:
        assert np.array_equal(clipped, update)
    else:
        assert np.allclose(clipped * norm, update.astype(np.float64) * bound)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_coordinate_that_is_not_finite_is_refused(bad: float) -> None:
    update = np.zeros(D, np.float32)
    update[3] = bad
    with pytest.raises(EncodingError, match="NaN or infinity"):
        release(update, PLAN, secure_generator())


def test_a_wrong_length_is_refused_with_both_numbers() -> None:
    with pytest.raises(EncodingError, match=rf"\(3,\); the plan trains {D}"):
        release(np.zeros(3, np.float32), PLAN, secure_generator())


def test_noise_beyond_the_grid_is_refused_with_the_fix() -> None:
    loud = small_plan(
        subject=SubjectMechanism(
            clip_norm=Decimal(1), noise_multiplier=Decimal("1e6"), grid_bits=24
        )
    )
    with pytest.raises(EncodingError, match="fewer than 24 grid_bits"):
        release(np.zeros(D, np.float32), loud, secure_generator())


def test_without_noise_the_sum_decodes_to_the_mean_within_half_a_grid_step() -> None:
    rng = np.random.default_rng(0)
    updates = rng.normal(0, 0.01, (PLAN.cohort.target, D)).astype(np.float32)
    total = sum(release_without_noise(update, PLAN).astype(np.int64) for update in updates)
    assert isinstance(total, np.ndarray)
    difference = decode_mean(total, PLAN) - updates.mean(axis=0, dtype=np.float64)
    assert np.abs(difference).max() <= PLAN.grid_step / 2


def test_the_sum_over_the_minimum_cohort_carries_the_planned_noise() -> None:
    model = ModelConfig(vocabulary_size=400, embedding=8, hidden=16)
    plan = small_plan(model=model)
    zero = np.zeros(model.trainable_parameters, np.float32)
    total = np.zeros(zero.shape, np.int64)
    for _ in range(plan.cohort.minimum):
        total += release(zero, plan, secure_generator())
    measured = float(np.std(total * plan.grid_step))
    # 12,000 coordinates: the sample's standard deviation is within 4% but for odds of 1e-9.
    assert measured == pytest.approx(3.78 * 0.5, rel=0.04)


def test_every_generator_is_fresh() -> None:
    zero = np.zeros(D, np.float32)
    one, other = (release(zero, PLAN, secure_generator()) for _ in range(2))
    assert not np.array_equal(one, other)


def test_honest_updates_stay_within_the_norm_bound_and_a_tenfold_one_does_not() -> None:
    update = np.full(D, 1.0, np.float32)
    bound = encoded_norm_bound(PLAN)
    for _ in range(50):
        encoded = release(update, PLAN, secure_generator())
        assert np.linalg.norm(encoded * PLAN.grid_step) <= bound
    assert np.linalg.norm(10.0 * encoded * PLAN.grid_step) > bound
