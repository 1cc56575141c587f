"""`tacitly-sim run`: what it prints, how it refuses, and the noise behind an ε."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tacitly_common.accounting.planner import least_noise_multiplier
from tacitly_common.errors import ValidationError
from tacitly_simulations.datasets import DATASETS, load
from tacitly_simulations.ngram import pooled_ngram
from tacitly_simulations.population import LEAST_TOKENS, clients, tokenizer
from tacitly_simulations.study_settings import (
    StudySettings,
    largest_delta,
    record_epsilon,
)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("tacitly-sim"), "run", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def test_prints_one_json_document_with_every_method(writers: Path) -> None:
    ended = run(
        *("--data", "coauthor", "--data-dir", writers, "--persons", 3),
        *("--least-tokens", 100, "--rounds", 1, "--private-rounds", 1, "--epsilon", 4),
        *("--format", "json", "--processes", 1),
    )
    assert ended.returncode == 0, ended.stderr
    report: dict[str, Any] = json.loads(ended.stdout)
    assert (report["schema_version"], report["persons"]) == (1, 3)
    assert report["held_out_tokens"] == 3 * 60
    assert report["settings"]["rounds"] == 1
    assert [(row["method"], row["epsilon"]) for row in report["rows"]] == [
        ("bigram", None),
        ("trigram", None),
        ("5-gram", None),
        ("trigram, each device alone", None),
        ("start model (random)", None),
        ("each device alone", None),
        ("central, not private", None),
        ("federated, not private", None),
        ("federated, subject level", 4.0),
    ]
    for row in report["rows"]:
        assert set(row) == {"method", "epsilon", "bits", "top1", "top3", "perplexity"}
        assert 0 <= row["top1"] <= row["top3"] <= 1 <= row["perplexity"]
    score = {row["method"]: row["top1"] for row in report["rows"]}
    assert score["5-gram"] == 1.0
    assert score["central, not private"] > score["start model (random)"]
    (calibration,) = report["calibrations"]
    assert calibration["delta"] <= 1 / (10 * 3)
    assert calibration["noise_multiplier"] == str(
        least_noise_multiplier(4, calibration["delta"], 1)
    )
    assert "federated, not private: round 1 of 1" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--data", "nothing", "--data-dir", "."), "no data set 'nothing'; there are "),
        (("--data", "coauthor", "--data-dir", "./none"), "none is no folder; name the folder"),
        (("--data", "coauthor", "--data-dir", "."), "sessions.csv is missing; name the folder"),
    ],
)
def test_data_that_are_not_there_are_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert line in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_an_unknown_tensor_is_refused_before_anything_runs(writers: Path) -> None:
    ended = run(
        *("--data", "coauthor", "--data-dir", writers, "--least-tokens", 100),
        *("--train", "nothing"),
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "trainable names 'nothing'; the tensors are" in ended.stderr
    assert "bigram" not in ended.stderr


@pytest.mark.parametrize(("population", "delta"), [(2, "0.01"), (10, "0.01"), (37, "0.001")])
def test_delta_is_a_power_of_ten_of_at_most_a_tenth_of_a_person(
    population: int, delta: str
) -> None:
    assert str(largest_delta(population)) == delta
    assert float(delta) <= 1 / (10 * population)


def test_the_record_level_costs_more_with_every_round() -> None:
    assert 0 < record_epsilon(1, 1e-5) < record_epsilon(25, 1e-5)


@pytest.mark.parametrize(
    "settings", [{"epsilons": (0.0,)}, {"rounds": 0}, {"as_if": (1,)}, {"seed": -1}]
)
def test_settings_out_of_bounds_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StudySettings(**settings)


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_has_people_by_default(shared_data: Path, name: str) -> None:
    people = clients(
        load(name, shared_data / name),
        tokenizer(name),
        at_least_tokens=LEAST_TOKENS[name],
        most=5,
    )
    assert len(people) == 5
    assert pooled_ngram([person.tokens for person in people], 3).predictions > 0
