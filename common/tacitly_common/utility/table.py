"""The table of measured utility: what `tacitly-sim export` writes and `plan solve` reads.

    UtilityTable
      studies      where the figures are from: hashes of results and data, versions, commit
      series       settings of one study that differ in noise, cohort and population alone
        points     one setting: figures over its seeds

Figures are of studies on public recordings. Nothing here was measured on the people of a campaign.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from tacitly_common.errors import UNDECODABLE, TacitlyError, ValidationError
from tacitly_common.validation import (
    in_range,
    non_negative,
    positive,
    probability,
    sha256_hex,
    short_name,
    utc,
)

SCHEMA_VERSION: Final = 1
_MOST: Final = 100_000_000


class UtilityTableError(TacitlyError, ValueError):
    """A file is no table of measured utility."""

    exit_code = 2


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the document."""


class Figure(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Over seeds. `deviation` is the sample's (n - 1), None for one seed."""

    mean: float
    deviation: float | None

    def __post_init__(self) -> None:
        non_negative(mean=self.mean)
        if self.deviation is not None:
            non_negative(deviation=self.deviation)


class Measured(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One setting. Shares lie in [0, 1]; a figure is None where the data give none.

    `epsilon` is at `delta`, of a whole person over all rounds; it and `noise_multiplier` are None
    without noise. With `resampled` more clients were simulated than persons recorded.
    """

    epsilon: float | None
    delta: float
    noise_multiplier: float | None
    population: int
    resampled: bool
    cohort: int
    seeds: int
    top1: Figure
    top3: Figure
    perplexity: Figure
    keys_saved: Figure | None
    click_top1: Figure | None

    def __post_init__(self) -> None:
        if (self.epsilon is None) != (self.noise_multiplier is None):
            raise ValidationError("epsilon and noise_multiplier must both be given or both null")
        if self.epsilon is not None and self.noise_multiplier is not None:
            positive(epsilon=self.epsilon)
            in_range(0.001, 1_000_000, noise_multiplier=self.noise_multiplier)
        probability(delta=self.delta)
        in_range(1, _MOST, population=self.population, seeds=self.seeds)
        in_range(1, self.population, cohort=self.cohort)
        for name in ("top1", "top3", "keys_saved", "click_top1", "perplexity"):
            figure: Figure | None = getattr(self, name)
            if figure is None:
                continue
            if name != "perplexity":
                in_range(0, 1, **{f"{name}.mean": figure.mean})
            if (figure.deviation is None) != (self.seeds == 1):
                raise ValidationError(
                    f"{name}.deviation must be null for one seed and a number for more, "
                    f"got {figure.deviation} for {self.seeds}"
                )


class Series(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings that share all but noise, cohort and population.

    `record_level`: with DP-SGD inside the device, as every deployed device has it. `method` is
    everything else that could matter, "section.field" -> value, as in a study's file.
    """

    study: str
    data: str
    start: str
    persons: int
    trained_parameters: int
    rounds: int
    participations: int
    record_level: bool
    method: dict[str, str]
    points: tuple[Measured, ...]

    def __post_init__(self) -> None:
        for name in ("persons", "trained_parameters", "rounds", "participations"):
            in_range(1, _MOST, **{name: getattr(self, name)})
        if not self.points:
            raise ValidationError("points must not be empty")
        settings = [(one.noise_multiplier, one.cohort, one.population) for one in self.points]
        if len(set(settings)) != len(settings):
            raise ValidationError("points must differ in noise_multiplier, cohort or population")


class Source(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A study, so that its figures can be found and made again. `commit` is "" if unknown."""

    name: str
    results_sha256: str
    data_sha256: str
    engine: str
    python: str
    machine: str
    packages: dict[str, str]
    commit: str

    def __post_init__(self) -> None:
        short_name(name=self.name)
        sha256_hex(results_sha256=self.results_sha256, data_sha256=self.data_sha256)


class UtilityTable(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole document; `made` is when it was exported, in UTC."""

    schema_version: int
    made: datetime
    studies: tuple[Source, ...]
    series: tuple[Series, ...]

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise ValidationError(
                f"schema_version is {self.schema_version}, this Tacitly reads {SCHEMA_VERSION}; "
                "export the studies again"
            )
        utc(made=self.made)
        names = [study.name for study in self.studies]
        if len(set(names)) != len(names):
            raise ValidationError("studies must have different names")
        for series in self.series:
            if series.study not in names:
                raise ValidationError(f"series of {series.study!r:.80}, which is not in studies")
        if not self.series:
            raise ValidationError("series must not be empty")

    def to_json(self) -> bytes:
        """The document, indented."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"


def read_table(path: Path) -> UtilityTable:
    """The table in a file.

    Raises:
        UtilityTableError: it cannot be read, or is not what `tacitly-sim export` writes.
    """
    try:
        document = path.read_bytes()
    except OSError as error:
        raise UtilityTableError(f"{path}: {error.strerror}; name an existing table") from None
    return parse_table(document, source=str(path))


def parse_table(document: bytes, *, source: str) -> UtilityTable:
    """`read_table` of bytes; `source` names them in an error."""
    try:
        return msgspec.json.decode(document, type=UtilityTable)
    except UNDECODABLE as error:
        raise UtilityTableError(f"{source}: not a table of `tacitly-sim export`: {error}") from None


def figure_of(values: Sequence[float]) -> Figure:
    """Mean and sample deviation of a figure over seeds."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Figure(mean=mean, deviation=None)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return Figure(mean=mean, deviation=math.sqrt(squares / (len(values) - 1)))
