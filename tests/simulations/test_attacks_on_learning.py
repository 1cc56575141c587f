"""Poisoning, gradient inversion and membership inference: what each measures, on little data."""

import json
from decimal import Decimal

import numpy as np
import pytest

from tacitly_common.mechanisms.encodings import within_bounds
from tacitly_common.model_config import ModelConfig
from tacitly_simulations.attacks.inversion import InversionSettings, run_inversion
from tacitly_simulations.attacks.membership import (
    MembershipSettings,
    likelihood_ratios,
    run_membership,
)
from tacitly_simulations.attacks.plans import attacked_plan
from tacitly_simulations.attacks.poisoning import (
    PoisoningSettings,
    Push,
    hostile_answer,
    run_poisoning,
)


def ignore(_line: str) -> None:
    """No progress."""


@pytest.mark.parametrize("masked", [False, True])
def test_the_largest_push_passes_the_servers_check_and_more_does_not(masked: bool) -> None:
    plan = attacked_plan(
        ModelConfig(vocabulary_size=11, embedding=3, hidden=4),
        cohort=20,
        rounds=1,
        participations=1,
        noise_multiplier=Decimal("3.78"),
        delta=Decimal("1e-6"),
        masked=masked,
    )
    update = np.random.default_rng(1).standard_normal(plan.model.trainable_parameters)
    update = update.astype(np.float32)
    for push in (Push.HONEST_SIZE, Push.LARGEST):
        answer, norm = hostile_answer(update, plan, 1, push, 2)
        assert within_bounds(answer, plan)
        assert norm == pytest.approx(1) if push is Push.HONEST_SIZE else norm > 5
    if not masked:
        assert not within_bounds(hostile_answer(update, plan, 1, Push.BEYOND, 2)[0], plan)


def test_hostile_devices_harm_the_model_and_refused_ones_only_themselves() -> None:
    settings = PoisoningSettings(shares=(0.25,), persons=4, events=300, rounds=2)
    report = run_poisoning(settings, source=None, seed=1, progress=ignore)
    assert json.loads(report.to_json())["attack"] == "poisoning"
    figures = {row.case: row.figures for row in report.rows}
    alone = figures["plain, nobody"]["bits a token"]
    assert figures["plain, 25%, largest"]["bits a token"] > 1 + alone
    assert figures["masked, 25%, largest"]["bits a token"] > 1 + alone
    beyond = figures["plain, 25%, beyond"]
    assert beyond["refused"] == settings.rounds
    assert beyond["bits a token"] < 1 + alone


def test_an_unprotected_update_gives_its_tokens_away_and_masks_do_not() -> None:
    settings = InversionSettings(persons=6, windows=2)
    report = run_inversion(settings, source=None, seed=1, progress=ignore)
    assert json.loads(report.to_json())["attack"] == "inversion"
    figures = {row.case: row.figures for row in report.rows}
    assert figures["unprotected"] == {"precision %": 100.0, "counts %": 100.0}
    assert figures["clipped"]["precision %"] > 99
    for case in ("noised", "masked", "noised sum"):
        assert figures[case]["precision %"] < figures["by guess"]["precision %"]


def test_likelihood_ratios_tell_who_was_there() -> None:
    rng = np.random.default_rng(1)
    present = rng.random((60, 5)) < 0.5
    ratios = likelihood_ratios(rng.normal(3.0 - present, 0.3), present)
    assert (ratios[present] > 1).mean() > 0.9
    assert (ratios[~present] > 1).mean() < 0.1
    chance = likelihood_ratios(rng.normal(3.0, 0.3, size=present.shape), present)
    assert abs(chance[present].mean() - chance[~present].mean()) < 0.2


def test_a_person_without_shadows_is_not_accused() -> None:
    present = np.ones((6, 1), dtype=bool)
    assert not likelihood_ratios(np.arange(6.0)[:, None], present).any()


def test_membership_shows_without_privacy_and_not_at_epsilon_4() -> None:
    settings = MembershipSettings(persons=4, models=20, events=200, rounds=4)
    report = run_membership(settings, source=None, seed=1, progress=ignore)
    assert json.loads(report.to_json())["attack"] == "membership"
    rows = report.rows
    assert [row.case for row in rows] == ["unprotected", "clipped", "clipped and noised"]
    assert rows[0].figures["AUC"] > 0.7
    assert not rows[2].refuted
    assert rows[2].figures["AUC"] < min(0.75, rows[0].figures["AUC"] - 0.05)
