"""Studies in TOML: what they refuse, what they resume, and that both engines run the same file."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from tacitly_simulations.lab.description import Engine, StudyError, read_study
from tacitly_simulations.lab.point import Row
from tacitly_simulations.lab.results import means, write_results

STUDY = """
name = "four-writers"
seeds = [1, 2]

[data]
name = "coauthor"
least_tokens = 100

[model]
embedding = 4
hidden = 8

[plan]
rounds = 3
cohort = 3
epsilon = 8

[local]
window_tokens = 16

[sweep]
"population.clients" = [4, 9]
"""


def command(*arguments: object) -> list[str]:
    return [str(Path(sys.executable).with_name("tacitly-sim")), *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


def test_a_study_that_was_killed_ends_in_the_same_table(
    tmp_path: Path, study: Path, writers: Path
) -> None:
    # With what a round takes from the one before, and what comes after the rounds.
    text = STUDY.replace("epsilon = 8", "epsilon = 8\nclip_quantile = 0.5\nclip_count_noise = 3")
    text = text.replace("[local]", "[personal]\nepochs = 1\n\n[local]")
    study.write_text(text)
    options = ("--data-dir", writers, "--processes", 1)
    whole = run("run", study, *options, "--out", tmp_path / "whole", "--format", "json")
    assert whole.returncode == 0, whole.stderr
    document: dict[str, Any] = json.loads(whole.stdout)
    assert (document["schema_version"], document["points"], len(document["rows"])) == (1, 4, 4)
    assert [row["clients"] for row in document["rows"]] == [4, 4, 9, 9]
    assert [row["resampled"] for row in document["rows"]] == [False, False, True, True]
    assert document["environment"]["packages"]["torch"]
    assert all(row["last_clip_norm"] not in (None, 1) for row in document["rows"])
    assert all(row["top1_personal"] is not None for row in document["rows"])

    for lines in sorted(random.sample(range(1, 14), 2)):
        print("killed after line", lines)
        with subprocess.Popen(
            command("run", study, *options, "--out", tmp_path / "killed"),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        ) as process:
            assert process.stderr is not None
            for _ in range(lines):
                process.stderr.readline()
            process.kill()
    ended = run("run", study, *options, "--out", tmp_path / "killed")
    assert ended.returncode == 0, ended.stderr
    table = (tmp_path / "killed" / "results.parquet").read_bytes()
    assert table == (tmp_path / "whole" / "results.parquet").read_bytes()

    report = (tmp_path / "killed" / "report.html").read_text()
    assert "<svg" in report
    assert "resampled" in report
    assert "personal top-1" in report
    assert "src=" not in report  # nothing is fetched from anywhere
    assert "clients/s" in whole.stderr
    assert "ε 7.99" in whole.stderr

    other = study.with_name("other.toml")
    other.write_text(text.replace("rounds = 3", "rounds = 4"))
    refused = run("run", other, *options, "--out", tmp_path / "killed")
    assert refused.returncode == 2
    assert "holds another study" in refused.stderr


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("rounds = 3", "round = 3", "plan has no field 'round'; did you mean 'rounds'?"),
        ("rounds = 3", 'rounds = "3"', "plan.rounds: expected `int`, got `str`"),
        ("rounds = 3", "rounds = 0", "plan: rounds must lie in [1, 10000], got 0"),
        ("rounds = 3", "rounds = ", "study.toml: not TOML: "),
        ('name = "four-writers"', "", "the study: missing field `name`"),
        ('name = "coauthor"', 'name = "nobody"', "data: name must be one of adserp_sample, "),
        ("epsilon = 8", 'epsilon = 8\nclip_norm = "none"', "clip_norm must be a number where"),
        ("epsilon = 8", "clip_quantile = 1.5", "plan: quantile must lie in [0.001, 0.999]"),
        (
            "epsilon = 8",
            'clip_quantile = 0.5\nclip_by = "tensor"',
            'clip_quantile adapts the norm of whole updates; leave out clip_by = "tensor"',
        ),
        ("epsilon = 8", 'clip_by = "layer"', "plan.clip_by: invalid enum value 'layer'"),
        ("epsilon = 8", 'optimizer = "adagrad"', "must be one of sgd, momentum, adam, yogi"),
        (
            "epsilon = 8",
            "epsilon = 8\nnoise_coefficients = [0.9, 0.3]",
            "set minimum_gap_rounds to 2, or participations to 1",
        ),
        ("epsilon = 8", "noise_coefficients = [0.9]", "noise_coefficients correlate noise; give"),
        ("[local]", '[personal]\ntrain = ["head"]\n\n[local]', "personal: trainable names 'head'"),
        ("epsilon = 8", "epsilon = -1", "plan: epsilon must be > 0, got -1"),
        ('"population.clients"', '"plan.clients"', "sweep names 'plan.clients', which is no field"),
        ("[4, 9]", '[4, "many"]', "sweep: population.clients: expected `int | null`, got `str`"),
        ("[1, 2]", "[1, 1]", "seeds must be different numbers, got [1, 1]"),
        ("seeds", 'engine = "steam"\nseeds', "engine: invalid enum value 'steam'"),
    ],
)
def test_a_wrong_field_is_named_with_its_fix(study: Path, old: str, new: str, line: str) -> None:
    assert old in STUDY
    study.write_text(STUDY.replace(old, new, 1))
    with pytest.raises(StudyError) as refused:
        read_study(study)
    assert line in str(refused.value)
    assert str(study) in str(refused.value)


def test_a_cohort_larger_than_the_population_is_refused(study: Path, writers: Path) -> None:
    study.write_text(STUDY.replace("cohort = 3", "cohort = 5"))
    ended = run("run", study, "--data-dir", writers, "--out", study.with_name("out"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "plan.cohort is 5 of 4 clients; ask for at most 4" in ended.stderr


@pytest.mark.parametrize(
    ("engine", "line", "refusal"),
    [
        ("flower", "clip_quantile = 0.5", 'need engine = "batched": a device clips its whole'),
        ("flower", 'clip_by = "tensor"', 'need engine = "batched": a device clips its whole'),
        (
            "flower",
            "participations = 1\nnoise_coefficients = [0.9]",
            'plan.noise_coefficients need engine = "batched"',
        ),
        ("batched", "clip_quantile = 0.5", "plan.clip_count_noise is 0.15; the count alone"),
    ],
)
def test_a_clip_that_no_plan_has_is_refused_where_it_cannot_be(
    study: Path, writers: Path, engine: str, line: str, refusal: str
) -> None:
    text = STUDY.replace("cohort = 3", f"cohort = 3\n{line}")
    study.write_text(f'engine = "{engine}"\n{text}')
    ended = run("run", study, "--data-dir", writers, "--out", study.with_name("out"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert refusal in ended.stderr


def test_options_of_a_run_without_a_study_are_refused_beside_one(study: Path) -> None:
    ended = run("run", study, "--rounds", 3)
    assert ended.returncode == 2
    assert "rounds is for a run without a study" in ended.stderr


def test_list_names_data_engines_and_studies(tmp_path: Path) -> None:
    ended = run("list", "--studies", tmp_path, "--format", "json")
    document = json.loads(ended.stdout)
    assert [data["name"] for data in document["data"]][:2] == ["adserp_sample", "coauthor"]
    assert document["engines"] == ["batched", "flower"]
    assert document["studies"] == []


def test_points_are_the_product_of_axes_and_seeds(study: Path) -> None:
    text = STUDY + '"plan.epsilon" = [1, "none"]\n'
    study.write_text(text)
    points = list(read_study(study).points())
    assert len({point.key for point in points}) == len(points) == 2 * 2 * 2
    assert points[0].label == "clients 4, epsilon 1, seed 1"
    assert points[-1].label == "clients 9, epsilon none, seed 2"
    study.write_text(text.replace("name =", 'engine = "flower"\nname =', 1))
    flower = list(read_study(study).points())
    assert [point.engine for point in flower] == [Engine.FLOWER] * 8
    assert {point.key for point in flower}.isdisjoint(point.key for point in points)


def row(seed: int, top1: float) -> Row:
    return Row(
        key=f"k{seed}",
        engine="batched",
        seed=seed,
        axes={"plan.epsilon": "4"},
        data="coauthor",
        persons=4,
        clients=4,
        resampled=False,
        cohort=4,
        rounds=1,
        participations=1,
        epsilon=4.0,
        delta=0.01,
        noise_multiplier=1.0,
        noise_to_clip=1.0,
        trained_parameters=1,
        attempts_lost=0,
        client_rounds=4,
        predictions=10,
        top1=top1,
        top3=0.5,
        perplexity=9.0,
        top1_worst_decile=0.1,
        top1_spread=0.0,
        model_sha256="0" * 64,
    )


def test_the_table_has_a_column_for_each_axis_and_the_same_bytes_again(tmp_path: Path) -> None:
    rows = [row(1, 0.2), row(2, 0.4)]
    write_results(tmp_path, rows)
    first = (tmp_path / "results.parquet").read_bytes()
    write_results(tmp_path, rows)
    assert (tmp_path / "results.parquet").read_bytes() == first
    table = parquet.read_table(tmp_path / "results.parquet").to_pylist()
    assert [(line["seed"], line["top1"], line["axis.plan.epsilon"]) for line in table] == [
        (1, 0.2, "4"),
        (2, 0.4, "4"),
    ]
    (mean,) = means(rows)
    assert mean.of("top1") == (pytest.approx(0.3), pytest.approx(0.02**0.5))
    assert [path.name for path in tmp_path.iterdir()] == ["results.parquet"]
