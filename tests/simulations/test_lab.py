"""Studies in TOML: what they refuse, what they resume, and that both engines run the same file."""

import hashlib
import json
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from pyarrow import parquet

from tacitly_common.utility.table import read_table as read_utility
from tacitly_simulations.cli import cli
from tacitly_simulations.lab.description import Engine, StudyError, read_study
from tacitly_simulations.lab.environment import Environment
from tacitly_simulations.lab.export import export
from tacitly_simulations.lab.plots import plots
from tacitly_simulations.lab.point import Row
from tacitly_simulations.lab.results import front, means, read_table, write_results
from tacitly_simulations.population import Unit

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


def test_the_study_that_the_docs_show_is_one(study: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "simulations.md"
    study.write_text(page.read_text().split("```toml\n")[1].split("```")[0])
    shown = read_study(study)
    assert len(list(shown.points())) == len(shown.seeds) * 6 * 2


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
    predictors = {row["method"]: row["top1"] for row in document["people"]["predictors"]}
    assert predictors["trigram"] > predictors["bigram"] > predictors["unigram"] > 0
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
        ("[plan]", 'train = ["head"]\n[plan]', "the study: trainable names 'head'; the tensors"),
        (
            "[plan]",
            'train = ["gru.up"]\n[plan]',
            "names the adapter 'gru.up'; give an adapter_rank",
        ),
        ("[plan]", "adapter_rank = 2\n[plan]", "and model.train names no adapter; name those that"),
        (
            "[plan]",
            'adapter_rank = 9\ntrain = ["gru.up"]\n[plan]',
            "adapter_rank must lie in [1, 8], got 9",
        ),
        (
            "[local]",
            '[personal]\ntrain = ["gru.up"]\n\n[local]',
            "personal: train names an adapter; nothing is noised here",
        ),
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


def test_what_has_no_adapters_is_named_as_before_there_were_any(study: Path) -> None:
    without = read_study(study)
    assert b"adapter" not in msgspec.json.encode(without)
    keys = [point.key for point in without.points()]
    text = STUDY.replace("[plan]", "adapter_rank = 2\n[plan]")
    study.write_text(text + '"model.train" = [[], ["output.bias", "output.up"]]\n')
    points = list(read_study(study).points())
    assert [point.model.config(30).trainable_parameters for point in points[:4]] == [
        *[30 * 4 + 24 * 4 + 24 * 8 + 24 + 24 + 30 * 8 + 30] * 2,
        *[30 + 2 * 30] * 2,
    ]
    # But for the axis they are the points of a study without adapters.
    plain = [msgspec.structs.replace(point, axes={}) for point in points if not point.model.train]
    assert [p.key for p in plain] == [
        msgspec.structs.replace(point, axes={}).key for point in without.points()
    ]
    assert len({*keys, *(point.key for point in points)}) == len(keys) + len(points)


def test_a_study_of_adapters_trains_them_and_what_they_adapt_is_one_persons(
    tmp_path: Path, study: Path, writers: Path
) -> None:
    """Personal layers begin from the released model, its adapters folded into its maps."""
    text = STUDY.replace("seeds = [1, 2]", "seeds = [1]").replace(
        '"population.clients" = [4, 9]\n', ""
    )
    text = text.replace("[local]", "[personal]\nepochs = 1\n\n[local]")
    trained = '["output.bias", "gru.down", "gru.up", "output.down", "output.up"]'
    study.write_text(
        text.replace("[plan]", f"train = {trained}\n[plan]") + '"model.adapter_rank" = [1, 3]\n'
    )
    ended = run(
        *("run", study, "--data-dir", writers, "--processes", 1),
        *("--out", tmp_path / "out", "--format", "json"),
    )
    assert ended.returncode == 0, ended.stderr
    rows = json.loads(ended.stdout)["rows"]
    assert [row["axes"] for row in rows] == [{"model.adapter_rank": rank} for rank in ("1", "3")]
    one, three = (row["trained_parameters"] for row in rows)
    vocabulary = one - (8 + 24) - 8  # bias and output.up; less gru.down, gru.up and output.down
    assert vocabulary % 2 == 0
    assert three - one == 2 * (8 + 24 + 8 + vocabulary // 2)
    assert rows[1]["noise_to_clip"] > rows[0]["noise_to_clip"] > 0
    assert all(row["top1_personal"] is not None for row in rows)


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


def setting(
    epsilon: float | None, cohort: int, *top1: float, keys: float | None = None
) -> list[Row]:
    axes = {
        "plan.epsilon": "none" if epsilon is None else f"{epsilon:g}",
        "plan.cohort": str(cohort),
    }
    return [
        msgspec.structs.replace(
            row(seed, share), axes=axes, epsilon=epsilon, cohort=cohort, keys_saved=keys
        )
        for seed, share in enumerate(top1)
    ]


def test_the_front_has_what_none_beats_at_its_epsilon_or_a_lower_one() -> None:
    rows = [
        *setting(None, 10, 0.5, 0.5),
        *setting(8, 10, 0.39, 0.41),
        *setting(8, 90, 0.40, 0.40),  # as good at the same ε
        *setting(4, 10, 0.10, 0.50),  # its mean is 0.3, whatever its best seed
        *setting(4, 90, 0.40, 0.44),
        *setting(2, 10, 0.2, 0.2),
        *setting(2, 90, 0.1, 0.1),  # worse at the same ε
    ]
    best = [(mean.first.epsilon, mean.first.cohort) for mean in front(means(rows))]
    assert best == [(2, 10), (4, 90), (None, 10)]
    rows += setting(None, 90, 0.41, 0.41)  # noise does better here
    assert [(mean.first.epsilon, mean.first.cohort) for mean in front(means(rows))] == best
    equal = setting(8, 10, 0.4) + setting(8, 90, 0.4)
    assert len(front(means(equal))) == 2


@pytest.mark.parametrize("keys", [None, 0.15])
def test_pictures_show_every_curve_the_front_and_runs_without_noise(keys: float | None) -> None:
    rows = [
        *setting(2, 10, 0.2, 0.3, keys=keys),
        *setting(8, 10, 0.3, 0.4, keys=keys),
        *setting(None, 10, 0.4, 0.5, keys=keys),
        *setting(2, 1_000, 0.3, 0.3, keys=keys),
        *setting(8, 1_000, 0.4, 0.4, keys=keys),
    ]
    against_epsilon, against_cohort = plots(means(rows))
    assert plots(means(rows)) == [against_epsilon, against_cohort]
    for text in ("cohort 10", "cohort 1000", "no noise", "on the front", "over all rounds"):
        assert text in against_epsilon
    for text in ("epsilon 2", "epsilon none", "1,000", "cohort"):
        assert text in against_cohort
    other = "perplexity" if keys is None else "keys saved, %"
    assert other in against_epsilon
    assert other in against_cohort


def test_with_more_curves_than_colours_those_never_best_are_grey() -> None:
    rows = [
        each
        for cohort in range(1, 11)
        for epsilon in (2.0, 8.0)
        for each in setting(epsilon, cohort, 0.01 * cohort, 0.01 * cohort)
    ]
    (against_epsilon, _) = plots(means(rows))
    assert "cohort 10<" in against_epsilon
    assert "cohort 9<" not in against_epsilon


@pytest.fixture
def finished(tmp_path: Path, study: Path) -> Path:
    """The folder of a study whose rows are made up, as a run would have left it."""
    folder = tmp_path / "out"
    folder.mkdir()
    described = read_study(study)
    (folder / "study.json").write_bytes(msgspec.json.encode(described))
    environment = Environment(
        python="3.11.7",
        machine="Linux x86_64",
        packages={"tacitly": "0.1.0"},
        data_sha256="d" * 64,
        commit="c" * 40,
    )
    (folder / "environment.json").write_bytes(msgspec.json.encode(environment))
    rows = [
        msgspec.structs.replace(
            row(point.seed, 0.2 + 0.1 * point.seed),
            key=point.key,
            axes={"population.clients": str(point.population.clients)},
            clients=point.population.clients or 0,
            resampled=point.population.clients == 9,
            click_top1=0.5,
        )
        for point in described.points()
    ]
    write_results(folder, rows)
    return folder


def test_a_study_is_exported_with_where_its_figures_are_from(
    tmp_path: Path, finished: Path
) -> None:
    out = tmp_path / "tables" / "utility.json"
    result = CliRunner().invoke(cli, ["export", str(finished), "--out", str(out)])
    assert result.exception is None, result.output
    table = read_utility(out)
    (source,) = table.studies
    results = (finished / "results.parquet").read_bytes()
    assert source.results_sha256 == hashlib.sha256(results).hexdigest()
    assert (source.name, source.data_sha256, source.commit) == ("four-writers", "d" * 64, "c" * 40)
    assert datetime.now(UTC) - table.made < timedelta(minutes=10)
    (series,) = table.series
    assert (series.data, series.start, series.rounds) == ("coauthor", "random", 1)
    assert series.record_level is False
    assert series.method["plan.clip_norm"] == "1"
    assert series.method["local.window_tokens"] == "16"
    assert not {"plan.epsilon", "plan.cohort", "data.directory", "engine.seed"} & set(series.method)
    assert [(point.population, point.resampled, point.seeds) for point in series.points] == [
        (4, False, 2),
        (9, True, 2),
    ]
    point = series.points[0]
    assert point.top1.mean == pytest.approx(0.35)
    assert point.top1.deviation == pytest.approx(0.1 / 2**0.5)
    assert point.keys_saved is None
    assert point.click_top1 is not None


def test_what_cannot_be_exported_is_named(tmp_path: Path, finished: Path) -> None:
    def refused(*folders: Path) -> str:
        with pytest.raises(StudyError) as error:
            export(folders, made=datetime.now(UTC))
        return str(error.value)

    assert "name the folder of a study" in refused(tmp_path / "nowhere")
    assert "another study is also named four-writers" in refused(finished, finished)
    rows = read_table(finished / "results.parquet")
    write_results(finished, rows[:-1])
    assert "not this study's results" in refused(finished)
    (finished / "results.parquet").write_bytes(b"PAR1")
    assert "not a table of a study's results" in refused(finished)
    (finished / "results.parquet").unlink()
    assert "not finished; run the study on" in refused(finished)


def test_a_table_of_results_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = setting(4, 10, 0.2, 0.3) + setting(None, 10, 0.4, 0.5, keys=0.1)
    write_results(tmp_path, rows)
    assert read_table(tmp_path / "results.parquet") == rows


def test_a_study_of_words_has_the_table_of_words_and_needs_the_batched_engine(
    tmp_path: Path, study: Path, writers: Path
) -> None:
    text = STUDY[: STUDY.index("[sweep]")].replace("least_tokens = 100", 'tokens = "words"')
    study.write_text(text.replace("[1, 2]", "[1]").replace("[data]", "[data]\nleast_tokens = 5"))
    options = ("--data-dir", writers, "--processes", 1, "--format", "json")
    ended = run("run", study, *options, "--out", tmp_path / "words")
    assert ended.returncode == 0, ended.stderr
    (row,) = json.loads(ended.stdout)["rows"]
    assert row["trained_parameters"] > 2_000
    assert row["keys_saved"] is None
    study.write_text(study.read_text().replace("name =", 'engine = "flower"\nname =', 1))
    refused = run("run", study, *options, "--out", tmp_path / "flower")
    assert refused.returncode == 2
    assert 'needs engine = "batched"' in refused.stderr


@pytest.mark.parametrize(
    ("section", "changed"),
    [
        ("data", {"tokens": Unit.WORDS}),
        ("plan", {"clip_by": "tensor"}),
        ("plan", {"clip_quantile": 0.5}),
        ("plan", {"noise_coefficients": (1.0,), "minimum_gap_rounds": 1}),
    ],
)
def test_what_no_plan_can_ask_for_is_not_exported(
    finished: Path, section: str, changed: dict[str, Any]
) -> None:
    study = read_study(finished.parent / "study.toml")
    part = msgspec.structs.replace(getattr(study, section), **changed)
    document = msgspec.json.encode(msgspec.structs.replace(study, **{section: part}))
    (finished / "study.json").write_bytes(document)
    with pytest.raises(StudyError, match="no setting that a plan could ask for"):
        export([finished], made=datetime.now(UTC))
