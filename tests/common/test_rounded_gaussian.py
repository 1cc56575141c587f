"""Residues with integer noise: bounds that hold exactly, the sum's inverse, and what it costs.

The cost is held against tables of the summed noise itself, computed mass by mass.
"""

import math
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtr

from plans import masked_plan, small_plan
from tacitly_common.accounting.rounded_gaussian import (
    SMALLEST_SHARE_STD,
    log_distance,
    share_std,
    squared_norm_bound,
)
from tacitly_common.accounting.subject import NANO, gaussian_delta, nano_rho_per_participation
from tacitly_common.campaign import (
    CampaignPlan,
    CohortPlan,
    MaskingPlan,
    PlanError,
    SubjectMechanism,
    parse_plan,
)
from tacitly_common.mechanisms import encodings, rounded_gaussian
from tacitly_common.mechanisms.field import field_bits, flattened_over
from tacitly_common.mechanisms.gaussian import EncodingError, clip_l2, secure_generator
from tacitly_common.mechanisms.rotation import rotate, unrotate
from tacitly_common.model_config import ModelConfig

SEED = bytes(range(32))


def masking(**changes: Any) -> MaskingPlan:
    fields: dict[str, Any] = {
        "dropout": Decimal("0.2"),
        "corruption": Decimal("0.1"),
        "failure_bits": 20,
        "group_size": 100,
        "wrap_bits": 40,
    }
    return MaskingPlan(**fields | changes)


def subject(**changes: Any) -> SubjectMechanism:
    return msgspec.structs.replace(masked_plan().subject, **changes)


def cohort(**changes: int) -> CohortPlan:
    return CohortPlan(deadline_seconds=9, selection_timeout_seconds=9, **changes)


models = st.builds(
    ModelConfig,
    vocabulary_size=st.integers(3, 30),
    embedding=st.integers(1, 9),
    hidden=st.integers(1, 9),
)
plans = st.builds(
    lambda model, clip, bits, rotated: masked_plan(
        model=model,
        subject=subject(clip_norm=clip, grid_bits=bits),
        masking=masking(rotate=rotated),
    ),
    models,
    st.decimals("0.001", "100", places=3),
    st.integers(8, 20),
    st.booleans(),
)


@given(plans, st.integers(0, 2**32 - 1), st.floats(-6, 6))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_no_update_is_longer_after_rounding_than_what_is_accounted_for(
    plan: CampaignPlan, seed: int, magnitude: float
) -> None:
    rng = np.random.default_rng(seed)
    d = plan.model.trainable_parameters
    update = (rng.standard_t(2, d) * 10**magnitude).astype(np.float32)
    rounded = rounded_gaussian.bounded_integers(update, plan, 1, rng)
    square = sum(int(value) ** 2 for value in rounded)
    assert square <= plan.squared_norm_bound
    # The same bound pays: the shares of the fewest answers make z of it, in exact fractions.
    noise = plan.cohort.minimum * Fraction(plan.share_steps) ** 2
    rho = Fraction(plan.squared_norm_bound) / (2 * noise)
    assert math.ceil(NANO * rho) <= nano_rho_per_participation(plan.subject.noise_multiplier)
    assert plan.cost_nano_rho == nano_rho_per_participation(plan.subject.noise_multiplier)


def test_a_rounding_that_never_keeps_to_the_bound_gives_way_to_one_that_does() -> None:
    class Up:
        def random(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
            return np.full(shape, 1 - 1e-9)

    plan = masked_plan(subject=subject(grid_bits=8), masking=masking(rotate=False))
    update = np.full(plan.model.trainable_parameters, 1, np.float32)
    up: Any = Up()
    too_long = np.floor(clip_l2(update, 0.5) / plan.grid_step + 1)
    assert too_long @ too_long > plan.squared_norm_bound
    rounded = rounded_gaussian.bounded_integers(update, plan, 1, up)
    assert 0 < rounded @ rounded <= (1 << 8) ** 2


def test_rounding_has_no_bias() -> None:
    plan = masked_plan(subject=subject(grid_bits=8), masking=masking(rotate=False))
    rng = np.random.default_rng(1)
    update = rng.normal(0, 0.01, plan.model.trainable_parameters).astype(np.float32)
    draws = [rounded_gaussian.bounded_integers(update, plan, 1, rng) for _ in range(2_000)]
    error = np.mean(draws, axis=0) - update / plan.grid_step
    assert abs(float(error.mean())) < 5 * 0.5 / math.sqrt(2_000 * len(update))
    assert float(np.abs(error).max()) < 6 * 0.5 / math.sqrt(2_000)


@given(plans, st.integers(0, 2**32 - 1), st.integers(1, 100))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_a_sum_of_residues_decodes_to_what_was_added(
    plan: CampaignPlan, seed: int, round_number: int
) -> None:
    """Bit for bit in integers, and in parameters to within the rounding."""
    rng = np.random.default_rng(seed)
    d, n = plan.model.trainable_parameters, plan.cohort.target
    clip = float(plan.subject.clip_norm)
    updates = [clip_l2(rng.normal(size=d).astype(np.float32), clip) for _ in range(n)]
    shared = [np.float32(update) for update in updates]
    states = (
        [np.random.default_rng((seed, k)) for k in range(n)],
        [np.random.default_rng((seed, k)) for k in range(n)],
    )
    residues = [
        encodings.release_without_noise(update, plan, round_number, r)
        for update, r in zip(shared, states[0], strict=True)
    ]
    integers = [
        rounded_gaussian.bounded_integers(update, plan, round_number, r)
        for update, r in zip(shared, states[1], strict=True)
    ]
    assert all(encodings.within_bounds(one, plan) for one in residues)
    plain = reduce(np.add, (one.astype(np.int64) for one in residues))
    modular = (plain % (1 << plan.field_bits)).astype(np.uint32)
    total = encodings.signed_sum(plain, plan)
    np.testing.assert_array_equal(total, np.sum(integers, axis=0))
    np.testing.assert_array_equal(total, rounded_gaussian.centred(modular, plan))
    error = encodings.decode_mean(total, plan, round_number) - np.mean(updates, axis=0)
    # The rotation keeps lengths: n roundings of less than a step in each of d coordinates.
    assert np.linalg.norm(error) <= plan.grid_step * math.sqrt(d) + 1e-6 * clip


def test_the_sum_over_the_fewest_answers_carries_the_planned_noise() -> None:
    plan = masked_plan(model=ModelConfig(vocabulary_size=400, embedding=8, hidden=16))
    d = plan.model.trainable_parameters
    total = np.zeros(d, np.int64)
    for _ in range(plan.cohort.minimum):
        encoded = encodings.release(np.zeros(d, np.float32), plan, 1, secure_generator())
        assert encodings.within_bounds(encoded, plan)
        total += encoded
    noise = encodings.decode_mean(encodings.signed_sum(total, plan), plan, 1)
    # 12,000 coordinates: within 4% but for odds of 1e-9; rounding adds 0.1% to the bound.
    assert float(np.std(noise)) * plan.cohort.target == pytest.approx(3.78 * 0.5, rel=0.04)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_cannot_be_clipped_is_refused(bad: float) -> None:
    plan = masked_plan()
    update = np.zeros(plan.model.trainable_parameters, np.float32)
    update[3] = bad
    with pytest.raises(EncodingError, match="NaN or infinity"):
        encodings.release(update, plan, 1, secure_generator())
    with pytest.raises(EncodingError, match="coordinates"):
        encodings.release(update[:3], plan, 1, secure_generator())


def test_a_residue_outside_the_field_is_out_of_bounds() -> None:
    plan = masked_plan()
    encoded = np.zeros(plan.model.trainable_parameters, np.int32)
    encoded[1] = (1 << plan.field_bits) - 1
    assert encodings.within_bounds(encoded, plan)
    for outside in (1 << plan.field_bits, -1):
        encoded[1] = outside
        assert not encodings.within_bounds(encoded, plan)


@given(st.integers(1, 300), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_a_rotation_keeps_lengths_and_is_undone(d: int, seed: int) -> None:
    vector = np.random.default_rng(seed).normal(size=d)
    rotated = rotate(vector, SEED)
    assert rotated.shape == (d,)
    np.testing.assert_allclose(np.linalg.norm(rotated), np.linalg.norm(vector), rtol=1e-12)
    np.testing.assert_allclose(unrotate(rotated, SEED), vector, atol=1e-12)


def test_the_signs_are_the_same_everywhere() -> None:
    """Known answer: the first byte of ChaCha20 for key 00 .. 1f, zero nonce and counter."""
    signs = [int(np.sign(rotate(unit, SEED)[0])) for unit in np.eye(8)]
    assert signs == [1 - 2 * ((0x39 >> bit) & 1) for bit in range(8)]


@pytest.mark.parametrize("d", [1, 2, 3, 64, 100, 127, 128])
def test_no_weight_of_a_rotation_is_larger_than_the_width_assumes(d: int) -> None:
    columns = np.array([rotate(unit, SEED) for unit in np.eye(d)])
    np.testing.assert_allclose(columns @ columns.T, np.eye(d), atol=1e-12)
    # A coordinate that both transforms reach is a sum of first ones with signs of their own.
    length = flattened_over(d)
    once = columns[:, : d - length] if d > length else columns
    assert np.abs(once).max(initial=0) <= length**-0.5 + 1e-12
    assert not np.array_equal(rotate(np.ones(d), SEED), rotate(np.ones(d), SEED[::-1])) or d < 4


def test_a_sum_wraps_no_more_often_than_the_plan_says() -> None:
    """2^-10 at most; a field of half the width would wrap in most sums."""
    d, n, steps, share = 64, 20, 1 << 8, 60.0
    wide = {"coordinates": d, "answers": n, "clip_steps": steps, "share_std": share}
    bits = field_bits(**wide, flattened_over=flattened_over(d), wrap_bits=10)
    assert bits < field_bits(**wide, flattened_over=None, wrap_bits=10)
    rng, wrapped, narrow, sums = np.random.default_rng(7), 0, 0, 4_000
    spike = np.zeros(d)
    spike[0] = n * steps  # all agree on one coordinate: the worst for the field
    for number in range(sums):
        signal = rotate(spike, number.to_bytes(32, "little"))
        largest = np.abs(signal + rng.normal(0, share * math.sqrt(n), d)).max()
        wrapped += largest >= 1 << (bits - 1)
        narrow += largest >= 1 << (bits - 3)
    assert wrapped <= 12  # 4 expected at the bound; 12 or more have odds of 1e-3
    assert narrow > sums / 2


def test_without_a_rotation_all_may_agree_on_one_coordinate() -> None:
    plan = masked_plan(masking=masking(rotate=False))
    update = np.zeros(plan.model.trainable_parameters, np.float32)
    update[5] = 100
    n = plan.cohort.asked
    plain = sum(encodings.release(update, plan, 1, secure_generator()) for _ in range(n))
    assert isinstance(plain, np.ndarray)
    total = encodings.signed_sum(plain.astype(np.int64), plan)
    spread = 8 * plan.share_steps * math.sqrt(n)
    assert abs(total[5] - n * (1 << plan.subject.grid_bits)) < spread
    assert np.abs(np.delete(total, 5)).max() < spread


# What it costs, from the masses of the summed noise.


def masses(share: float, answers: int) -> NDArray[np.float64]:
    """P(sum of shares = k) for k = -K..K, by convolution: float64[2K + 1]."""
    reach = math.ceil(30 * share)
    edges = (np.arange(-reach, reach + 2) - 0.5) / share
    # By the nearer tail: a difference of two values near 1 would lose the mass.
    one = np.where(edges[:-1] > 0, ndtr(-edges[:-1]) - ndtr(-edges[1:]), np.diff(ndtr(edges)))
    return reduce(np.convolve, [one] * answers)


def delta_of(p: NDArray[np.float64], q: NDArray[np.float64], epsilon: float) -> float:
    return float(np.maximum(p - math.exp(epsilon) * q, 0).sum())


def shifted(p: NDArray[np.float64], by: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The masses with and without a person's `by` steps, on one axis."""
    return np.pad(p, (by, 0)), np.pad(p, (0, by))


@pytest.mark.parametrize(("share", "answers"), [(8.0, 2), (8.0, 5), (20.5, 3), (50.0, 2)])
@pytest.mark.parametrize("by", [1, 12, 40])
def test_the_summed_noise_is_dominated_by_the_gaussian_that_is_charged(
    share: float, answers: int, by: int
) -> None:
    p, q = shifted(masses(share, answers), by)
    mu = by / (share * math.sqrt(answers))
    for epsilon in (0.0, mu**2 / 2, mu, 2 * mu, 3 * mu + mu**2 / 2):
        bound, exact = gaussian_delta(epsilon, mu), delta_of(p, q, epsilon)
        assert exact <= bound * (1 + 1e-9) + 1e-15
        assert delta_of(q, p, epsilon) <= bound * (1 + 1e-9) + 1e-15
        # Nor is much given away: what rounding adds is small beside the noise.
        assert exact >= 0.97 * bound - 1e-15
    keep = (p > 1e-280) & (q > 1e-280)
    log_p, log_q = np.log(p[keep]), np.log(q[keep])
    # Where the moment's weight, at order·mu standard deviations, is still in the table.
    for order in (order for order in (1.5, 2, 8, 32) if order * mu < 10):
        moment = float(logsumexp(order * log_p + (1 - order) * log_q)) / (order - 1)
        assert 0.9 * order * mu**2 / 2 <= moment <= order * mu**2 / 2 + 1e-9


def test_two_coordinates_and_two_rounds_are_dominated_too() -> None:
    """A person's (3, 4) in two coordinates is 5 long, and twice that is 5·sqrt(2) long."""
    p = masses(8.0, 2)
    pairs = [shifted(p, 3), shifted(p, 4)]
    with_, without = (np.outer(pairs[0][side], pairs[1][side]).ravel() for side in (0, 1))
    mu = 5 / (8 * math.sqrt(2))
    for epsilon in (0.0, 0.3, 1.0, 2.0):
        assert delta_of(with_, without, epsilon) <= gaussian_delta(epsilon, mu) * (1 + 1e-9)
    one, other = shifted(p, 5)
    twice = [np.outer(side, side).ravel() for side in (one, other)]
    for epsilon in (0.0, 0.5, 1.5, 3.0):
        exact = delta_of(twice[0], twice[1], epsilon)
        assert 0.9 * gaussian_delta(epsilon, mu * math.sqrt(2)) <= exact
        assert exact <= gaussian_delta(epsilon, mu * math.sqrt(2)) * (1 + 1e-9)


def test_shares_that_are_small_beside_a_step_are_not_dominated() -> None:
    """What the least share is for: here a sum of two tells more than a Gaussian would."""
    p, q = shifted(masses(0.2, 2), 1)
    assert delta_of(p, q, 3.0) < 1
    worst = max(
        delta_of(p, q, eps) / gaussian_delta(eps, 1 / (0.2 * math.sqrt(2)))
        for eps in np.linspace(0, 30, 61)
    )
    assert worst > 1.01


def test_the_difference_from_a_post_processed_gaussian_is_too_small_to_matter() -> None:
    for answers in (1, 200, 10**8):
        assert log_distance(SMALLEST_SHARE_STD, answers, 10**8) < math.log(1e-100)
    # The bound itself, against masses: of a share that is small enough to tell them apart.
    share, answers, fine = 0.5, 2, 400
    p = masses(share, answers)
    reach = len(p) // 2
    grid = np.arange(-reach * fine, reach * fine + 1) / fine
    normal = np.exp(-(grid**2) / (2 * answers * share**2))
    box = np.ones(fine + 1)
    box[[0, -1]] = 0.5  # trapezoids
    # N + U_1, rounded: two boxes in all.
    other = np.convolve(np.convolve(normal, box, "same"), box, "same")[::fine]
    distance = 0.5 * float(np.abs(p - other / other.sum()).sum())
    assert 1e-4 < distance <= math.exp(log_distance(share, answers, 1))


@given(
    st.decimals("0.001", "100", places=3),
    st.integers(1, 2**40),
    st.integers(2, 10**6),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_fewest_shares_make_all_of_the_noise_and_hardly_more(
    z: Decimal, bound: int, minimum: int
) -> None:
    square = minimum * Fraction(share_std(z, bound, minimum)) ** 2
    least = Fraction(z) ** 2 * bound
    assert least <= square <= least * (1 + Fraction(1, 10**12))


def test_the_bound_after_rounding_grows_with_the_coordinates_and_shrinks_with_the_grid() -> None:
    growths = [squared_norm_bound(1 << bits, 100_000) / 4**bits for bits in (8, 10, 12, 16)]
    assert all(a > b > 1 for a, b in pairwise(growths))
    assert growths[2] < 1.004
    assert squared_norm_bound(1, 100_000) <= (1 + math.sqrt(100_000)) ** 2


# The plan.


def test_a_plan_without_masking_keeps_its_name() -> None:
    assert b"masking" not in small_plan().to_json()
    assert small_plan().hash == "09fcd5b3df8ad61aec96fdc1c2c597de5733032ee2f2ee7cc86cc3af76076c4c"
    document = small_plan().to_json()
    with_null = document.replace(b'{"app_hash"', b'{"masking":null,"app_hash"')
    assert parse_plan(with_null).hash == small_plan().hash


def test_a_masked_plan_is_read_back() -> None:
    plan = masked_plan()
    assert parse_plan(plan.to_json()) == plan
    assert plan.hash != small_plan().hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masking": None}, "masking is absent; masking comes with"),
        ({"subject": small_plan().subject}, "gaussian_grid and masking is present"),
        (
            {"subject": subject(grid_bits=8, noise_multiplier=Decimal("0.01"))},
            "at least 8; raise subject.grid_bits",
        ),
        (
            {"subject": subject(grid_bits=24, noise_multiplier=Decimal(1000))},
            "there are 32; lower subject.grid_bits",
        ),
        (
            {
                "cohort": cohort(population=10_000, target=1_025, minimum=800),
                "delta": Decimal("1e-6"),
                "masking": masking(group_size=1_000),
            },
            "at most 1024 are possible; lower masking.group_size",
        ),
        ({"masking": masking(group_size=2)}, "groups of one; raise masking.group_size"),
        (
            {"masking": masking(dropout=Decimal("0.4"), corruption=Decimal("0.4"))},
            "has no threshold at which",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_with_the_fix(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        masked_plan(**changes)


def test_groups_share_the_cohort_and_the_minimum() -> None:
    of_105 = cohort(population=1_000, target=100, minimum=62, oversample=5)
    groups_of_25 = masking(group_size=25)
    sums = masked_plan(cohort=of_105, delta=Decimal("1e-5"), masking=groups_of_25).masked_sums
    assert sums is not None
    assert (sums.groups, sums.largest_group, sums.fewest_answers) == (4, 27, 16)
    assert small_plan().masked_sums is None
