"""`tacitly-sim plot`: a picture of a study's private rows."""

from decimal import Decimal
from pathlib import Path

import pytest

from tacitly_common.errors import ValidationError
from tacitly_simulations.plot import plot_cohorts
from tacitly_simulations.study import Report, Row
from tacitly_simulations.study_settings import Calibration, StudySettings


def written(path: Path, cohorts: tuple[int, ...]) -> Path:
    report = Report(
        data="coauthor",
        persons=37,
        training_tokens=80,
        held_out_tokens=20,
        trained_parameters=5,
        settings=StudySettings(),
        record_epsilon=None,
        calibrations=[
            Calibration(
                epsilon=4.0,
                delta=1e-5,
                cohort=cohort,
                participations=5,
                noise_multiplier=Decimal(2),
            )
            for cohort in cohorts
        ],
        rows=[
            Row(method="trigram", epsilon=None, top1=0.4, top3=0.6, perplexity=7.0),
            *(
                Row(method="federated", epsilon=4.0, top1=0.5, top3=0.7, perplexity=6.0)
                for _ in cohorts
            ),
        ],
    )
    path.write_text(report.to_json())
    return path


def test_the_same_report_gives_the_same_picture(tmp_path: Path) -> None:
    report = written(tmp_path / "report.json", (100, 1000))
    for name in ("a.svg", "b.svg"):
        plot_cohorts(report, tmp_path / name)
    picture = (tmp_path / "a.svg").read_text()
    assert picture == (tmp_path / "b.svg").read_text()
    assert "coauthor: 37 persons" in picture
    assert "ε = 4" in picture


def test_a_report_without_a_curve_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="has 1 private rows; run two or more"):
        plot_cohorts(written(tmp_path / "report.json", (100,)), tmp_path / "out.svg")


def test_a_file_that_is_no_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    for name in ("report.json", "none.json"):
        with pytest.raises(ValidationError, match=f"{name}.*give what `run` printed"):
            plot_cohorts(tmp_path / name, tmp_path / "out.svg")
