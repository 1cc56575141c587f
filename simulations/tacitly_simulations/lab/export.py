"""Finished studies -> the table from which officers are told what a plan may be good for."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from tacitly_common.utility.table import (
    SCHEMA_VERSION,
    Figure,
    Measured,
    Series,
    Source,
    UtilityTable,
    figure_of,
)
from tacitly_simulations.lab.description import Point, Study, StudyError, shown
from tacitly_simulations.lab.point import Row
from tacitly_simulations.lab.results import read_table
from tacitly_simulations.lab.run import read_environment, read_study_of
from tacitly_simulations.population import Unit

# What a series has fields of its own for, what its points differ in, and what says nothing about
# how a model is trained.
_NOT_METHOD = frozenset(
    {
        *("plan.epsilon", "plan.cohort", "population.clients"),
        *("plan.rounds", "plan.participations", "data.name", "data.persons", "model.start"),
        *("plan.record_level", "data.directory"),
    }
)


def export(folders: Sequence[Path], *, made: datetime) -> UtilityTable:
    """The table of these studies' folders, whose figures are those of their `results.parquet`.

    Raises:
        StudyError: a folder holds no finished study, two hold studies of one name, or results and
            study do not belong together.
    """
    studies: list[Source] = []
    series: list[Series] = []
    for folder in folders:
        study = read_study_of(folder)
        if study.name in {source.name for source in studies}:
            raise StudyError(f"{folder}: another study is also named {study.name}; rename one")
        results = folder / "results.parquet"
        if not results.exists():
            raise StudyError(f"{folder}: not finished; run the study on")
        studies.append(_source(folder, study, results))
        series += _series(study, read_table(results), results)
    if not series:
        raise StudyError(
            "no setting that a plan could ask for: none knows words, clip_by, "
            "clip_quantile or noise_coefficients; "
            "export other studies"
        )
    return UtilityTable(
        schema_version=SCHEMA_VERSION, made=made, studies=tuple(studies), series=tuple(series)
    )


def _source(folder: Path, study: Study, results: Path) -> Source:
    environment = read_environment(folder)
    return Source(
        name=study.name,
        results_sha256=hashlib.sha256(results.read_bytes()).hexdigest(),
        data_sha256=environment.data_sha256,
        engine=study.engine,
        python=environment.python,
        machine=environment.machine,
        packages=environment.packages,
        commit=environment.commit,
    )


def _series(study: Study, rows: Sequence[Row], results: Path) -> list[Series]:
    """Rows by series, and within one by all but the seed."""
    # Not by the points' keys: those of a later Tacitly, whose points have more fields, differ.
    points = {
        _place(point.seed, {name: shown(value) for name, value in point.axes.items()}): point
        for point in study.points()
    }
    if {_place(row.seed, row.axes) for row in rows} != set(points) or len(rows) != len(points):
        raise StudyError(f"{results}: not this study's results; run the study on")
    together: dict[tuple[object, ...], dict[tuple[object, ...], list[Row]]] = defaultdict(
        lambda: defaultdict(list)
    )
    methods: dict[tuple[object, ...], tuple[Point, dict[str, str]]] = {}
    for row in rows:
        point = points[_place(row.seed, row.axes)]
        if not _plannable(point):
            continue
        method = _method(point)
        shared = (row.data, point.model.start, row.rounds, row.participations)
        series = (*shared, point.plan.record_level, *method.items())
        methods[series] = (point, method)
        together[series][row.noise_multiplier, row.cohort, row.clients].append(row)
    return [
        _one_series(study.name, *methods[series], list(settings.values()))
        for series, settings in together.items()
    ]


def _plannable(point: Point) -> bool:
    """Whether a deployed plan could ask for this: none knows words or the lab's clips and noise."""
    return (
        point.data.tokens is Unit.CHARACTERS
        and point.plan.clip_by == "update"
        and point.plan.clip_quantile is None
        and not point.plan.noise_coefficients
    )


def _place(seed: int, axes: dict[str, str]) -> tuple[int, frozenset[tuple[str, str]]]:
    return seed, frozenset(axes.items())


def _one_series(
    study: str, point: Point, method: dict[str, str], settings: Sequence[Sequence[Row]]
) -> Series:
    first = settings[0][0]
    return Series(
        study=study,
        data=first.data,
        start=point.model.start,
        persons=first.persons,
        trained_parameters=first.trained_parameters,
        rounds=first.rounds,
        participations=first.participations,
        record_level=point.plan.record_level,
        method=method,
        points=tuple(_measured(rows) for rows in settings),
    )


def _measured(rows: Sequence[Row]) -> Measured:
    first = rows[0]

    def figure(name: str) -> Figure:
        return figure_of([getattr(row, name) for row in rows])

    def known(name: str) -> Figure | None:
        """Unknown too where a row is of a version that did not measure it."""
        return figure(name) if all(getattr(row, name) is not None for row in rows) else None

    return Measured(
        epsilon=first.epsilon,
        delta=first.delta,
        noise_multiplier=first.noise_multiplier,
        population=first.clients,
        resampled=first.resampled,
        cohort=first.cohort,
        seeds=len(rows),
        top1=figure("top1"),
        top3=figure("top3"),
        perplexity=figure("perplexity"),
        keys_saved=known("keys_saved"),
        click_top1=known("click_top1"),
    )


def _method(point: Point) -> dict[str, str]:
    """Everything of a point that could matter and is no field of a series, by its name."""
    parts = {"engine": str(point.engine)}
    document = msgspec.to_builtins(point)
    for section in point.__struct_fields__:
        if isinstance(document[section], dict) and section != "axes":
            for name, value in document[section].items():
                parts[f"{section}.{name}"] = shown(value)
    return {name: value for name, value in parts.items() if name not in _NOT_METHOD}
