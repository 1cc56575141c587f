"""Canary exposure: what it measures, and that noise takes it away."""

import json
from pathlib import Path

import numpy as np
import pytest

from tacitly_common.model import initial_vector
from tacitly_common.model_config import ModelConfig
from tacitly_common.vocabulary import Vocabulary
from tacitly_simulations.attacks.exposure import (
    PHRASE,
    ExposureSettings,
    Planted,
    exposures,
    plant,
    run_exposure,
)
from tacitly_simulations.attacks.report import Report
from tacitly_simulations.datasets.synthetic import synthetic_person
from tacitly_simulations.population import token_plan

SMALL = ExposureSettings(
    frequencies=(64,),
    persons=12,
    events=300,
    rounds=25,
    private_rounds=3,
    candidates=255,
    hidden=32,
)


def ignore(_line: str) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    picture = tmp_path_factory.mktemp("plot") / "exposure.svg"
    # This seed lets half of them type their secret: no other halves are told apart so surely.
    return run_exposure(SMALL, source=None, seed=6, progress=ignore, plot=picture), picture


def test_a_secret_is_planted_as_often_as_said() -> None:
    person = synthetic_person(1, 9_000)
    text = "".join(
        event.key
        for event in plant(person, Planted("qwxyz", 5, present=True)).events
        if len(event.key) == 1 and event.kind == "key_down"
    )
    assert text.count(f"{PHRASE}qwxyz") == 5
    planted = plant(person, Planted("qwxyz", 5, present=True)).sessions
    assert len(planted) == len(person.sessions) + 5
    assert planted[-1] == person.sessions[-1]


def test_unseen_secrets_have_the_exposure_of_chance() -> None:
    vocabulary = Vocabulary(token_plan("coauthor"))
    model = ModelConfig(vocabulary_size=vocabulary.size, embedding=4, hidden=4)
    letters = np.random.default_rng(1).integers(26, size=(1_600, 5))
    words = ["".join(chr(97 + letter) for letter in row) for row in letters]
    bits = exposures(vocabulary, model, initial_vector(model, 1), words[:800], words[800:])
    assert np.median(bits) == pytest.approx(1, abs=0.3)
    assert (bits > 3).mean() < 0.2


def test_without_privacy_a_secret_typed_64_times_is_exposed(report: tuple[Report, Path]) -> None:
    assert json.loads(report[0].to_json())["attack"] == "exposure"
    rows = {row.case: row for row in report[0].rows}
    assert rows["unprotected, typed 64"].figures["median bits"] > 6
    assert rows["unprotected, never typed"].figures["p seen = unseen"] < 0.02


def test_at_epsilon_4_it_is_as_one_that_nobody_typed(report: tuple[Report, Path]) -> None:
    rows = {row.case: row for row in report[0].rows}
    unseen = rows["clipped and noised, never typed"]
    # The noise is another each time: one run in 300 would be below this by chance.
    assert unseen.figures["p seen = unseen"] > 0.003
    assert (unseen.claimed_epsilon, unseen.refuted) == (4.0, False)
    assert rows["clipped and noised, typed 64"].figures["median bits"] < 5


def test_the_picture_has_a_line_for_each_protection(report: tuple[Report, Path]) -> None:
    picture = report[1].read_text()
    for label in ("unprotected (median)", "clipped (median)", "clipped and noised, ε = 4"):
        assert label in picture
