"""Audits: bounds that never exceed a true ε, and faults that they find."""

import json
import subprocess
import sys
from math import log, sqrt
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tacitly_common.errors import ValidationError
from tacitly_simulations.attacks.audit import AuditSettings, Level, audit_row
from tacitly_simulations.attacks.bounds import (
    Canaries,
    epsilon_of_guesses,
    epsilon_of_mu,
    gaussian_epsilon,
    one_run_epsilon,
    pair_epsilon,
)
from tacitly_simulations.attacks.faults import Fault

# The noise is drawn from a secure source: each run is another one. So many that a bound lies five
# standard deviations from where a test would fail.
SMALL = AuditSettings(canaries=2_500)


def gaussian_canaries(mu: float, count: int, seed: int) -> Canaries:
    rng = np.random.default_rng(seed)
    included = rng.random(count) < 0.5
    return Canaries(rng.standard_normal(count) + mu * (included - 0.5), included)


def test_an_epsilon_of_guesses_is_where_the_chance_is_the_error() -> None:
    epsilon = epsilon_of_guesses(100, 100, 90, delta=0.0, error=0.05)
    chance = stats.binom.sf(89, 100, 1 / (1 + np.exp(-epsilon)))
    assert chance == pytest.approx(0.05, abs=1e-4)
    assert epsilon_of_guesses(100, 100, 50, delta=0.0, error=0.05) == 0
    assert epsilon_of_guesses(100, 0, 0, delta=0.0, error=0.05) == 0


def test_delta_only_lowers_what_guesses_show() -> None:
    bounds = [epsilon_of_guesses(1_000, 200, 190, delta=d, error=0.05) for d in (0, 1e-5, 1e-3)]
    assert sorted(bounds, reverse=True) == bounds
    assert bounds[0] > bounds[-1]


def test_randomised_response_does_not_exceed_its_epsilon_more_often_than_allowed() -> None:
    """The mechanism for which the one-run bound is tight."""
    rights, times = np.unique(
        np.random.default_rng(5).binomial(200, 1 / (1 + np.exp(-2.0)), size=400),
        return_counts=True,
    )
    exceeded = sum(
        count
        for right, count in zip(rights, times, strict=True)
        if epsilon_of_guesses(200, 200, int(right), delta=0.0, error=0.05) > 2.0
    )
    assert 1 <= exceeded <= 400 * 0.05 + 3 * sqrt(400 * 0.05)


@pytest.mark.parametrize("mu", [0.5, 0.84, 2.0])
def test_bounds_stay_below_the_epsilon_of_gaussian_noise_and_near_it(mu: float) -> None:
    true = epsilon_of_mu(mu, 1e-6)
    for seed in range(5):
        canaries = gaussian_canaries(mu, 20_000, seed)
        assert one_run_epsilon(canaries, delta=1e-6, confidence=0.975) < true
        assert 0.7 * true < gaussian_epsilon(canaries, delta=1e-6, confidence=0.975) < true


def test_pairs_of_trials_give_the_textbook_bound() -> None:
    assert pair_epsilon(0, 100, 0, 100, delta=0.0, confidence=0.95) == 0
    few = pair_epsilon(100, 100, 0, 100, delta=0.0, confidence=0.95)
    assert few == pytest.approx(log(0.025 ** (1 / 100) / (1 - 0.025 ** (1 / 100))))


def test_canaries_must_be_in_and_out() -> None:
    with pytest.raises(ValidationError, match="were in"):
        Canaries(np.zeros(3), np.ones(3, dtype=bool))


@pytest.mark.parametrize("level", [Level.PERSON, Level.RECORD])
def test_correct_code_is_not_refuted(level: Level) -> None:
    row = audit_row(level, Fault.NONE, SMALL, np.random.default_rng(3))
    assert row.measured_epsilon is not None
    assert row.claimed_epsilon is not None
    assert 0.5 < row.measured_epsilon < row.claimed_epsilon
    assert not row.refuted


@pytest.mark.parametrize("level", [Level.PERSON, Level.RECORD])
@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.NONE])
def test_every_planted_fault_is_found(level: Level, fault: Fault) -> None:
    assert audit_row(level, fault, SMALL, np.random.default_rng(4)).refuted


def test_masked_sums_are_audited_too() -> None:
    settings = AuditSettings(canaries=1_000)
    assert not audit_row(Level.MASKED, Fault.NONE, settings, np.random.default_rng(5)).refuted
    assert audit_row(Level.MASKED, Fault.REUSED_NOISE, settings, np.random.default_rng(5)).refuted


def test_canaries_among_people_show_halved_noise() -> None:
    settings = AuditSettings(canaries=4_000, participations=1)
    found = [
        audit_row(Level.FL, fault, settings, np.random.default_rng(6)).measured_epsilon or 0.0
        for fault in (Fault.NONE, Fault.HALF_NOISE)
    ]
    assert found[0] < settings.epsilon < found[1]


def test_the_command_prints_one_document(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("tacitly-sim")
    out = tmp_path / "audit.json"
    arguments = ["attack", "audit", "--canaries", "400", "--format", "json", "--out", str(out)]
    ended = subprocess.run(
        [command, *arguments, "--level", "record"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert json.loads(out.read_text()) == report
    assert (report["attack"], report["confidence"], report["delta"]) == ("audit", 0.95, 1e-6)
    (row,) = report["rows"]
    assert row["case"] == "record: correct code"
    assert row["measured_epsilon"] < row["claimed_epsilon"]
