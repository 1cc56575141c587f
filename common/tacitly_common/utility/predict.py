"""What studies say of a plan's top-1, with an interval; or that nothing was measured near it.

    answer = predict(table, Planned(noise_multiplier=z, participations=10, rounds=200, cohort=200,
                                    population=5_000, delta=1e-6))
    answer.state                       # predicted, or no_data with the reason
    answer.predictions[0].top1         # and .low, .high: 95% of new runs lie between, see below

1. A series (one study, everything but noise, cohort and population the same) is asked if its
   rounds and participations are near the plan's: within a factor of `NEAR`.
2. A measured noise is turned into ε *at the plan's δ*: the same ε at another δ is another noise.
3. Of each cohort the population nearest the plan's is taken. Between the two ε, and then the two
   cohorts, next to the plan's the mean is interpolated linearly in their logarithms.
4. A value outside those measured, by a factor of `NEAR` at most, has the figure of the outermost.
   Beyond that, and where only another value was measured, there is no data near the plan. Nothing
   is extrapolated.

The interval is the t-interval of one new run, from the variance pooled over the neighbours' seeds,

    s² = Σ (n_i - 1) s_i² / Σ (n_i - 1),       t · s · sqrt(1 + Σ w_i² / n_i)

widened on either side by what is not known between two neighbours: their difference, times how far
the plan lies from the nearer one (0 there, 1/2 in the middle, where the interval holds both: all
that is possible if utility only rises). Outside, by as much as the line would have gone on.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from tacitly_common.accounting.subject import epsilon_of, nano_rho_per_participation
from tacitly_common.utility.table import Measured, Series, UtilityTable

NEAR: Final = 1.25
CONFIDENCE: Final = 0.95
_SAME: Final = 1.01  # a plan's ε is calibrated on a grid and misses the measured one by a little


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, as far as utility was measured against it; `rounds` are those that are feasible.

    `data` and `trained_parameters` are None where any will do.
    """

    noise_multiplier: Decimal
    participations: int
    rounds: int
    cohort: int
    population: int
    delta: float
    data: str | None = None
    trained_parameters: int | None = None

    @property
    def epsilon(self) -> float:
        """What a person spends who takes part as often as allowed, at the plan's δ."""
        return _epsilon(self.noise_multiplier, self.participations, self.delta)


class State(StrEnum):
    """Whether there is an answer."""

    PREDICTED = "predicted"
    NO_DATA = "no_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A measured setting that a prediction rests on; `epsilon` is at the plan's δ."""

    epsilon: float
    cohort: int
    population: int
    resampled: bool
    seeds: int
    top1: float
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """By one series. `notes` say in words where the plan is not quite what was measured."""

    study: str
    data: str
    start: str
    persons: int
    trained_parameters: int
    rounds: int
    participations: int
    method: Mapping[str, str]
    top1: float
    low: float
    high: float
    neighbours: tuple[Neighbour, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the table says. Without data `reason` says what was measured nearest to the plan."""

    state: State
    epsilon: float
    reason: str
    predictions: tuple[Prediction, ...]


def predict(table: UtilityTable, planned: Planned) -> Answer:
    """Every series' prediction that has data near the plan, the nearest in rounds first."""
    found: list[tuple[float, Prediction]] = []
    missed: list[tuple[float, str]] = []
    for series in (one for one in table.series if _same_kind(one, planned)):
        try:
            found.append((_distance(series, planned), _by_series(series, planned)))
        except _NothingNearError as error:
            missed.append((error.distance, f"{series.study} {error}"))
    found.sort(key=lambda each: each[0])  # stable: the table's order where there is no nearer
    _, reason = min(missed, default=(0, _other_kinds(table, planned)))
    return Answer(
        state=State.PREDICTED if found else State.NO_DATA,
        epsilon=planned.epsilon,
        reason="" if found else reason,
        predictions=tuple(prediction for _, prediction in found),
    )


class _NothingNearError(Exception):
    """A series cannot answer; `distance`, a logarithm, is how far off it is."""

    def __init__(self, reason: str, distance: float) -> None:
        super().__init__(reason)
        self.distance = distance


@dataclass(frozen=True, slots=True)
class _Place:
    """Its figure is (1 - weight) · near + weight · other, ± spread times their difference."""

    near: int
    other: int
    weight: float
    spread: float


@dataclass(frozen=True, slots=True)
class _Estimate:
    """A mean of points by their weights, and how much it may be wrong by beside their noise."""

    mean: float
    spread: float
    weights: tuple[tuple[Measured, float], ...]


def _by_series(series: Series, planned: Planned) -> Prediction:
    """A series' prediction, by the steps of the module's docstring."""
    notes: list[str] = []
    for name in ("rounds", "participations"):
        measured, wanted = getattr(series, name), getattr(planned, name)
        if abs(math.log(wanted / measured)) > math.log(NEAR):
            raise _NothingNearError(
                f"was measured with {measured} {name}, the plan has {wanted}",
                _distance(series, planned),
            )
        if measured != wanted:
            notes.append(f"measured with {measured} {name}, the plan has {wanted}")
    if not series.record_level:
        notes.append("measured without the record level, whose noise every device adds")
    curves = _curves(series, planned)
    if not curves:
        raise _NothingNearError("was measured without noise alone", math.inf)
    cohorts = sorted(curves)
    place = _placed("cohort", cohorts, planned.cohort, notes)
    estimate = _between(
        place,
        *(_on_curve(curves[cohorts[index]], planned, notes) for index in (place.near, place.other)),
    )
    deviation, freedom = _pooled(point for point, _ in estimate.weights)
    if not freedom:
        raise _NothingNearError(
            "was measured with one seed, which does not tell how far runs lie apart", 0
        )
    half = (
        _t_quantile(freedom)
        * deviation
        * math.sqrt(1 + math.fsum(weight**2 / point.seeds for point, weight in estimate.weights))
    )
    half += estimate.spread
    return Prediction(
        study=series.study,
        data=series.data,
        start=series.start,
        persons=series.persons,
        trained_parameters=series.trained_parameters,
        rounds=series.rounds,
        participations=series.participations,
        method=series.method,
        top1=estimate.mean,
        low=max(0.0, estimate.mean - half),
        high=min(1.0, estimate.mean + half),
        neighbours=tuple(
            Neighbour(
                epsilon=_epsilon_at(point, series, planned),
                cohort=point.cohort,
                population=point.population,
                resampled=point.resampled,
                seeds=point.seeds,
                top1=point.top1.mean,
                weight=weight,
            )
            for point, weight in estimate.weights
        ),
        notes=tuple(dict.fromkeys(notes)),
    )


def _same_kind(series: Series, planned: Planned) -> bool:
    return planned.data in (None, series.data) and planned.trained_parameters in (
        None,
        series.trained_parameters,
    )


def _other_kinds(table: UtilityTable, planned: Planned) -> str:
    kinds = sorted({(one.data, one.trained_parameters) for one in table.series})
    measured = ", ".join(f"{data} with {count:,} trained parameters" for data, count in kinds)
    wanted = [] if planned.data is None else [planned.data]
    if planned.trained_parameters is not None:
        wanted.append(f"{planned.trained_parameters:,} trained parameters")
    return f"there are studies on {measured}; asked for {' with '.join(wanted)}"


def _distance(series: Series, planned: Planned) -> float:
    """How far the rounds and participations lie apart."""
    return abs(math.log(series.rounds / planned.rounds)) + abs(
        math.log(series.participations / planned.participations)
    )


def _curves(series: Series, planned: Planned) -> dict[int, list[tuple[float, Measured]]]:
    """Of each cohort (ε at the plan's δ, point), by ε, at the population nearest the plan's."""
    populations: dict[int, set[int]] = {}
    noised = [point for point in series.points if point.noise_multiplier is not None]
    for point in noised:
        populations.setdefault(point.cohort, set()).add(point.population)
    nearest = {
        cohort: min(of_cohort, key=lambda count: (abs(math.log(count / planned.population)), count))
        for cohort, of_cohort in populations.items()
    }
    curves: dict[int, list[tuple[float, Measured]]] = {}
    for point in noised:
        if point.population == nearest[point.cohort]:
            epsilon = _epsilon_at(point, series, planned)
            curves.setdefault(point.cohort, []).append((epsilon, point))
    return {cohort: sorted(curve, key=lambda each: each[0]) for cohort, curve in curves.items()}


def _on_curve(
    curve: Sequence[tuple[float, Measured]], planned: Planned, notes: list[str]
) -> _Estimate:
    place = _placed("ε", [epsilon for epsilon, _ in curve], planned.epsilon, notes)
    near, other = (
        _Estimate(point.top1.mean, 0.0, ((point, 1.0),))
        for point in (curve[place.near][1], curve[place.other][1])
    )
    return _between(place, near, other)


def _placed(name: str, measured: Sequence[float], wanted: float, notes: list[str]) -> _Place:
    """Where `wanted` lies among rising values.

    Raises:
        _NothingNearError: too far outside, or another value than the only one.
    """
    last = len(measured) - 1
    nearest = min(range(last + 1), key=lambda index: abs(math.log(wanted / measured[index])))
    away = math.log(wanted / measured[nearest])
    if abs(away) <= math.log(_SAME):
        return _Place(nearest, nearest, 0.0, 0.0)
    inside = measured[0] < wanted < measured[last]
    if not inside and (last == 0 or abs(away) > math.log(NEAR)):
        ends = " to ".join(dict.fromkeys(map(_shown, (measured[0], measured[last]))))
        reason = f"was measured at {name} {ends}, the plan has {_shown(wanted)}"
        raise _NothingNearError(reason, abs(away))
    step = 1 if inside == (away > 0) else -1
    other = nearest + step
    share = abs(away / math.log(measured[other] / measured[nearest]))
    if inside:
        return _Place(nearest, other, share, share)
    notes.append(
        f"{name} {_shown(wanted)} lies outside what was measured: the figure is that of "
        f"{_shown(measured[nearest])}, the interval wider"
    )
    return _Place(nearest, other, 0.0, share)


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _between(place: _Place, near: _Estimate, other: _Estimate) -> _Estimate:
    parts = ((near, 1 - place.weight), (other, place.weight))
    weights = [
        (point, part * weight) for one, part in parts for point, weight in one.weights if part
    ]
    return _Estimate(
        mean=math.fsum(part * one.mean for one, part in parts),
        spread=math.fsum(part * one.spread for one, part in parts)
        + place.spread * abs(near.mean - other.mean),
        weights=tuple(each for each in weights if each[1]),
    )


def _pooled(points: Iterable[Measured]) -> tuple[float, int]:
    """(standard deviation, its degrees of freedom) over the seeds of several settings."""
    known = [
        (point.top1.deviation, point.seeds - 1)
        for point in points
        if point.top1.deviation is not None
    ]
    freedom = sum(count for _, count in known)
    if not freedom:
        return math.nan, 0
    return math.sqrt(math.fsum(count * dev**2 for dev, count in known) / freedom), freedom


def _t_quantile(freedom: int) -> float:
    from scipy.special import stdtrit  # slow to import, as in `accounting/subject.py`

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _epsilon_at(point: Measured, series: Series, planned: Planned) -> float:
    return _epsilon(Decimal(str(point.noise_multiplier)), series.participations, planned.delta)


def _epsilon(noise_multiplier: Decimal, participations: int, delta: float) -> float:
    return epsilon_of(participations * nano_rho_per_participation(noise_multiplier), delta)
