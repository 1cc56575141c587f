"""A small table of measured utility, made up, that tests vary."""

from datetime import UTC, datetime
from typing import Any

from tacitly_common.accounting.planner import least_noise_multiplier
from tacitly_common.utility.table import Figure, Measured, Series, Source, UtilityTable

DELTA = 1e-6
ROUNDS, PARTICIPATIONS = 20, 5


def measured(
    epsilon: float | None,
    cohort: int,
    top1: float,
    *,
    deviation: float | None = 0.01,
    population: int = 10_000,
    delta: float = DELTA,
) -> Measured:
    """A setting over three seeds, over one where there is no deviation."""
    noise = None if epsilon is None else least_noise_multiplier(epsilon, delta, PARTICIPATIONS)
    plain = Figure(mean=0.5, deviation=None if deviation is None else 0.1)
    return Measured(
        epsilon=epsilon,
        delta=delta,
        noise_multiplier=None if noise is None else float(noise),
        population=population,
        resampled=population > 37,
        cohort=cohort,
        seeds=1 if deviation is None else 3,
        top1=Figure(mean=top1, deviation=deviation),
        top3=plain,
        perplexity=plain,
        keys_saved=None,
        click_top1=None,
    )


def series(*points: Measured, study: str = "sweep", **changed: Any) -> Series:
    """Of 37 writers; `changed` replaces fields."""
    fields: dict[str, Any] = {
        "data": "coauthor",
        "start": "public",
        "persons": 37,
        "trained_parameters": 1_000,
        "rounds": ROUNDS,
        "participations": PARTICIPATIONS,
        "record_level": True,
        "method": {"plan.clip_norm": "1"},
    }
    return Series(study=study, points=points, **(fields | changed))


def table(*parts: Series) -> UtilityTable:
    """Of one source for each study."""
    sources = (
        Source(
            name=name,
            results_sha256="a" * 64,
            data_sha256="b" * 64,
            engine="batched",
            python="3.11.7",
            machine="Linux x86_64",
            packages={"tacitly": "0.1.0"},
            commit="c" * 40,
        )
        for name in dict.fromkeys(part.study for part in parts)
    )
    made = datetime(2026, 11, 29, tzinfo=UTC)
    return UtilityTable(schema_version=1, made=made, studies=tuple(sources), series=parts)


GRID = series(
    measured(1, 100, 0.20),
    measured(4, 100, 0.30),
    measured(16, 100, 0.40),
    measured(1, 400, 0.36),
    measured(4, 400, 0.42),
    measured(16, 400, 0.44),
    measured(None, 400, 0.46),
)
