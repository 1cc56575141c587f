"""Measured utility: what a table may hold, and what it says of a plan, or refuses to say."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from measured_utility import DELTA, GRID, PARTICIPATIONS, ROUNDS, measured, series, table
from tacitly_common.accounting.planner import least_noise_multiplier
from tacitly_common.accounting.subject import epsilon_of, nano_rho_per_participation
from tacitly_common.utility.predict import NEAR, Answer, Planned, State, predict
from tacitly_common.utility.table import (
    Figure,
    Series,
    UtilityTable,
    UtilityTableError,
    figure_of,
    parse_table,
    read_table,
)


def asked(parts: UtilityTable | Series = GRID, **changed: Any) -> Answer:
    epsilon = changed.pop("epsilon", 4)
    fields: dict[str, Any] = {
        "participations": PARTICIPATIONS,
        "rounds": ROUNDS,
        "cohort": 100,
        "population": 10_000,
        "delta": DELTA,
    } | changed
    noise = least_noise_multiplier(epsilon, fields["delta"], fields["participations"])
    whole = parts if isinstance(parts, UtilityTable) else table(parts)
    return predict(whole, Planned(noise_multiplier=noise, **fields))


def test_a_measured_setting_has_its_own_mean_and_the_t_interval_of_a_new_run() -> None:
    (one,) = asked().predictions
    assert one.top1 == 0.30
    # t(0.975, 2 degrees of freedom) = 4.3027; a new run beside the mean of three.
    half = 4.302653 * 0.01 * math.sqrt(1 + 1 / 3)
    assert (one.low, one.high) == (pytest.approx(0.30 - half), pytest.approx(0.30 + half))
    assert [(place.cohort, place.weight) for place in one.neighbours] == [(100, 1.0)]
    assert (one.study, one.notes) == ("sweep", ())


def test_between_two_values_of_epsilon_the_mean_is_linear_in_the_logarithm() -> None:
    (one,) = asked(epsilon=8).predictions
    assert one.top1 == pytest.approx(0.35, abs=2e-4)
    assert [place.weight for place in one.neighbours] == [pytest.approx(0.5, abs=2e-3)] * 2
    # In the middle the interval holds both neighbours, beside the runs' own noise.
    t_four_degrees = 2.776445
    half = t_four_degrees * 0.01 * math.sqrt(1 + 2 * 0.25 / 3) + 0.1 / 2
    assert one.high - one.top1 == pytest.approx(half, abs=2e-4)


def test_between_two_cohorts_too() -> None:
    (one,) = asked(cohort=200).predictions
    assert one.top1 == pytest.approx((0.30 + 0.42) / 2)
    (corner,) = asked(cohort=200, epsilon=2).predictions
    assert corner.top1 == pytest.approx((0.20 + 0.30 + 0.36 + 0.42) / 4, abs=3e-4)
    assert len(corner.neighbours) == 4
    assert corner.low < 0.20 + 0.1
    assert corner.high > 0.42 - 0.1
    assert sum(place.weight for place in corner.neighbours) == pytest.approx(1)


@pytest.mark.parametrize(("name", "outer"), [("epsilon", 16.0), ("epsilon", 1.0), ("cohort", 400)])
def test_a_little_outside_the_outermost_figure_holds_with_a_wider_interval(
    name: str, outer: float
) -> None:
    setting: dict[str, Any] = {"cohort": 400, name: outer}
    (at,) = asked(**setting).predictions
    step = 1 / 1.2 if outer == 1 else 1.2
    (out,) = asked(**{**setting, name: type(outer)(outer * step)}).predictions
    assert out.top1 == at.top1
    assert out.high - out.low > 1.05 * (at.high - at.low)
    (note,) = out.notes
    assert "outside what was measured" in note


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"epsilon": 16 * 1.3}, "sweep was measured at ε 1 to 16, the plan has 20.8"),
        ({"epsilon": 1 / 1.3}, "sweep was measured at ε 1 to 16, the plan has 0.769"),
        ({"cohort": 600}, "sweep was measured at cohort 100 to 400, the plan has 600"),
        ({"cohort": 70}, "sweep was measured at cohort 100 to 400, the plan has 70"),
        ({"rounds": 200}, "sweep was measured with 20 rounds, the plan has 200"),
        ({"participations": 8}, "sweep was measured with 5 participations, the plan has 8"),
        (
            {"data": "ubuntu_irc"},
            "there are studies on coauthor with 1,000 trained parameters; asked for ubuntu_irc",
        ),
        (
            {"trained_parameters": 999},
            "there are studies on coauthor with 1,000 trained parameters; "
            "asked for 999 trained parameters",
        ),
    ],
)
def test_far_from_what_was_measured_there_are_no_data(changed: dict[str, Any], reason: str) -> None:
    answer = asked(**changed)
    assert (answer.state, answer.predictions, answer.reason) == (State.NO_DATA, (), reason)


@pytest.mark.parametrize("name", ["epsilon", "cohort"])
def test_where_one_value_was_measured_nothing_tells_of_another(name: str) -> None:
    alone = series(measured(4, 100, 0.3))
    assert asked(alone).state is State.PREDICTED
    answer = asked(alone, **{name: {"epsilon": 4.2, "cohort": 105}[name]})
    assert answer.state is State.NO_DATA
    assert "the plan has " in answer.reason


def test_one_seed_gives_no_interval_and_so_no_prediction() -> None:
    answer = asked(series(measured(4, 100, 0.3, deviation=None)))
    assert answer.state is State.NO_DATA
    assert "one seed" in answer.reason


def test_runs_without_noise_alone_say_nothing_of_a_plan() -> None:
    answer = asked(series(measured(None, 100, 0.3)))
    assert answer.reason == "sweep was measured without noise alone"


def test_near_rounds_are_taken_and_said() -> None:
    (one,) = asked(rounds=int(ROUNDS * NEAR)).predictions
    assert one.notes == ("measured with 20 rounds, the plan has 25",)


def test_that_devices_add_the_record_levels_noise_is_said_where_it_was_not_measured() -> None:
    (one,) = asked(series(measured(4, 100, 0.3), record_level=False)).predictions
    assert one.notes == ("measured without the record level, whose noise every device adds",)


def test_the_same_epsilon_at_another_delta_is_another_noise() -> None:
    """A study of few persons states ε at a large δ: at the plan's its noise counts for more."""
    study = series(*(measured(epsilon, 100, epsilon / 20, delta=1e-3) for epsilon in (2, 4, 8)))
    noise = least_noise_multiplier(4, 1e-3, PARTICIPATIONS)
    there = epsilon_of(PARTICIPATIONS * nano_rho_per_participation(noise), DELTA)
    assert there > 5
    (one,) = asked(study, epsilon=there).predictions
    assert one.top1 == pytest.approx(4 / 20, abs=1e-3)
    (lower,) = asked(study, epsilon=4).predictions
    assert lower.top1 < 0.16


def test_of_a_cohort_in_several_populations_the_nearest_counts() -> None:
    both = series(
        measured(4, 100, 0.3, population=1_000), measured(4, 100, 0.4, population=100_000)
    )
    for population, top1 in ((500, 0.3), (50_000, 0.4)):
        (one,) = asked(both, population=population).predictions
        assert one.top1 == top1


def test_each_series_answers_for_itself_the_nearest_in_rounds_first() -> None:
    far = series(measured(4, 100, 0.9), study="far", rounds=24)
    other = series(measured(4, 100, 0.5), data="ubuntu_irc")
    parts = table(far, GRID, other)
    names = [(one.study, one.data) for one in asked(parts).predictions]
    assert names == [("sweep", "coauthor"), ("sweep", "ubuntu_irc"), ("far", "coauthor")]
    (only,) = asked(parts, data="ubuntu_irc").predictions
    assert only.top1 == 0.5


def test_the_interval_holds_as_many_new_runs_as_it_says() -> None:
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(400):
        seeds = rng.normal(0.4, 0.02, size=3).tolist()
        figure = figure_of(seeds)
        one = asked(series(measured(4, 100, figure.mean, deviation=figure.deviation)))
        (prediction,) = one.predictions
        held += prediction.low <= rng.normal(0.4, 0.02) <= prediction.high
    assert 0.92 <= held / 400 <= 0.98


def test_an_interval_stays_within_a_share() -> None:
    (one,) = asked(series(measured(4, 100, 0.01, deviation=0.02))).predictions
    assert one.low == 0
    (one,) = asked(series(measured(4, 100, 0.99, deviation=0.02))).predictions
    assert one.high == 1


def test_the_deviation_is_the_samples_and_unknown_for_one() -> None:
    two = figure_of([0.2, 0.4])
    assert (two.mean, two.deviation) == (pytest.approx(0.3), pytest.approx(0.02**0.5))
    assert figure_of([0.2]) == Figure(mean=0.2, deviation=None)


def test_a_table_is_the_same_after_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "utility.json"
    path.write_bytes(table(GRID).to_json())
    assert read_table(path) == table(GRID)


def changed_document(*place: str | int, value: Any) -> bytes:
    document = json.loads(table(GRID).to_json())
    part = document
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = value
    return json.dumps(document).encode()


POINT = ("series", 0, "points", 0)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", "not a table of `tacitly-sim export`"),
        (b"\xff\xfe", "not a table of `tacitly-sim export`"),
        (b"[" * 100_000, "not a table of `tacitly-sim export`"),
        (b'{"rows": []}', "not a table of `tacitly-sim export`"),
        (changed_document("schema_version", value=2), "export the studies again"),
        (changed_document("made", value="2026-11-29T00:00:00"), "made must be a time in UTC"),
        (changed_document("series", value=[]), "series must not be empty"),
        (changed_document("studies", value=[]), "series of 'sweep', which is not in studies"),
        (changed_document("studies", 0, "results_sha256", value="x"), "results_sha256 must be"),
        (changed_document("series", 0, "points", value=[]), "points must not be empty"),
        (changed_document("series", 0, "rounds", value=0), "rounds must lie in [1, "),
        (changed_document("series", 0, "weight", value=1), "unknown field `weight`"),
        (changed_document(*POINT, "top1", "mean", value=1.2), "top1.mean must lie in [0, 1]"),
        (changed_document(*POINT, "top1", "mean", value=None), "Expected `float`, got `null`"),
        (changed_document(*POINT, "top1", "deviation", value=-1), "deviation must be >= 0"),
        (changed_document(*POINT, "top1", "deviation", value=None), "top1.deviation must be null"),
        (changed_document(*POINT, "seeds", value=1), "deviation must be null for one seed"),
        (changed_document(*POINT, "epsilon", value=None), "must both be given or both null"),
        (changed_document(*POINT, "epsilon", value=0), "epsilon must be > 0"),
        (changed_document(*POINT, "noise_multiplier", value=0), "noise_multiplier must lie in"),
        (changed_document(*POINT, "delta", value=0), "delta must lie in (0, 1]"),
        (changed_document(*POINT, "cohort", value=10_001), "cohort must lie in [1, 10000]"),
        (
            changed_document(*POINT, "noise_multiplier", value=float(
                least_noise_multiplier(4, DELTA, PARTICIPATIONS)
            )),
            "points must differ in noise_multiplier, cohort or population",
        ),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_with_the_reason(document: bytes, message: str) -> None:
    with pytest.raises(UtilityTableError) as refused:
        parse_table(document, source="utility.json")
    assert str(refused.value).startswith("utility.json: ")
    assert message in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UtilityTableError, match="name an existing table"):
        read_table(tmp_path / "nowhere.json")


def test_the_plans_epsilon_is_what_its_noise_costs() -> None:
    answer = asked(epsilon=4)
    noise = least_noise_multiplier(4, DELTA, PARTICIPATIONS)
    spent = PARTICIPATIONS * nano_rho_per_participation(noise)
    assert answer.epsilon == pytest.approx(epsilon_of(spent, DELTA))
    assert 3.99 < answer.epsilon <= 4
