"""`plan solve --utility`: what an officer is told of a plan's use, and of where that is from."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from measured_utility import GRID, measured, series, table
from tacitly_common.utility.table import UtilityTable, UtilityTableError
from tacitly_server.officer import cli

PLAN = (
    *("plan", "solve", "--population", 10_000, "--rounds", 20, "--participations", 5),
    *("--epsilon", 4),
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)), env={"COLUMNS": "80"})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path, table(GRID))


def written(folder: Path, content: UtilityTable) -> Path:
    path = folder / "utility.json"
    path.write_bytes(content.to_json())
    return path


def utility(*arguments: object) -> dict[str, Any]:
    result = run(*PLAN, *arguments, "--format", "json")
    assert result.exception is None, result.output
    found: dict[str, Any] = json.loads(result.stdout)["utility"]
    return found


def test_a_prediction_has_an_interval_and_its_provenance(file: Path) -> None:
    found = utility("--cohort", 200, "--utility", file)
    assert (found["state"], found["reason"], found["figure"]) == ("predicted", "", "top1")
    (one,) = found["predictions"]
    assert one["low"] < 0.30 < one["top1"] < 0.42 < one["high"]
    assert [(place["cohort"], place["seeds"]) for place in one["neighbours"]] == [
        (100, 3),
        (400, 3),
    ]
    assert found["confidence"] == 0.95
    assert found["table_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    (study,) = found["studies"]
    assert (study["name"], study["results_sha256"], study["commit"]) == (
        "sweep",
        "a" * 64,
        "c" * 40,
    )


def test_without_a_table_there_is_none() -> None:
    assert json.loads(run(*PLAN, "--cohort", 200, "--format", "json").stdout)["utility"] is None


def test_far_from_what_was_measured_it_says_so(file: Path) -> None:
    found = utility("--cohort", 2_000, "--utility", file)
    assert (found["state"], found["predictions"], found["studies"]) == ("no_data", [], [])
    assert found["reason"] == "sweep was measured at cohort 100 to 400, the plan has 2,000"
    shown = run(*PLAN, "--cohort", 2_000, "--utility", file).stdout
    assert "No data near this point: sweep was measured at cohort 100 to 400" in shown


def test_data_set_and_model_size_must_be_those_of_a_study(file: Path) -> None:
    options = ("--cohort", 200, "--utility", file)
    assert utility(*options, "--utility-data", "coauthor")["state"] == "predicted"
    assert utility(*options, "--model-parameters", 1_000)["state"] == "predicted"
    assert utility(*options, "--utility-data", "ubuntu_irc")["state"] == "no_data"
    assert utility(*options, "--model-parameters", 999)["state"] == "no_data"


def test_the_rounds_that_are_feasible_count(file: Path) -> None:
    # 1,000 persons with 5 participations are 5,000; a round asks 400, so 12 of 20 can be held.
    options = ("--population", 1_000, "--cohort", 400, "--delta", "1e-6", "--utility", file)
    found = utility(*options)
    assert found["reason"] == "sweep was measured with 20 rounds, the plan has 12"


def test_what_is_shown_fits_80_columns_and_names_the_study(tmp_path: Path) -> None:
    other = series(measured(4, 200, 0.5), study="other-sweep", method={"plan.clip_norm": "0.5"})
    file = written(tmp_path, table(GRID, other))
    shown = run(*PLAN, "--cohort", 200, "--utility", file).stdout
    assert all(len(line) <= 80 for line in shown.splitlines())
    for text in (
        "would be guessed right (top-1)",
        "sweep",
        "clip_norm 0.5",
        "36.0%",
        "results aaaaaaaaaaaa, data bbbbbbbbbbbb, commit cccccccccccc",
        "Table of 2026-11-29. Nothing of it was measured on your people.",
    ):
        assert text in shown


def test_of_many_series_the_first_are_shown_and_all_are_in_the_document(tmp_path: Path) -> None:
    parts = (
        series(measured(4, 200, 0.5), method={"local.epochs": str(epochs)}) for epochs in range(8)
    )
    file = written(tmp_path, table(*parts))
    assert "3 more with --format json." in run(*PLAN, "--cohort", 200, "--utility", file).stdout
    assert len(utility("--cohort", 200, "--utility", file)["predictions"]) == 8


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "utility.json"
    path.write_text('{"schema_version": 1}')
    result = run(*PLAN, "--cohort", 200, "--utility", path)
    assert isinstance(result.exception, UtilityTableError)
    assert result.exception.exit_code == 2
    assert "not a table of `tacitly-sim export`" in str(result.exception)


def test_a_data_set_without_a_table_is_refused() -> None:
    result = run(*PLAN, "--cohort", 200, "--utility-data", "coauthor")
    assert result.exit_code == 2
    assert "give --utility too" in result.output
