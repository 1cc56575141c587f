"""The planner: the worked example to the integer, and rounding to the safe side everywhere."""

import math
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tacitly_common.accounting.assessment import assess
from tacitly_common.accounting.planner import (
    Question,
    Settings,
    least_noise_multiplier,
    most_participations,
    solve,
)
from tacitly_common.accounting.subject import (
    cap_nano_rho,
    epsilon_of,
    gaussian_delta,
    nano_rho_per_participation,
)
from tacitly_common.errors import BudgetExceededError, ValidationError

EXAMPLE: dict[str, Any] = {
    "population": 5_000,
    "cohort": 200,
    "rounds": 200,
    "participations": 10,
    "epsilon": 4.0,
    "delta": 1e-6,
}
STEP = Decimal("0.001")

epsilons = st.floats(0.05, 30)
deltas = st.sampled_from([1e-4, 1e-6, 1e-9])
counts = st.integers(1, 400)
noises = st.decimals(Decimal("0.3"), Decimal(60), places=3)


def example(**changes: Any) -> Settings:
    return solve(Question(**EXAMPLE | changes))


def test_the_worked_example_holds_to_the_integer() -> None:
    assert example().noise_multiplier == Decimal("3.775")
    fits = assess(example(noise_multiplier=Decimal("3.78")))
    assert fits.cap_nano_rho == 351_003_648
    assert fits.cost_nano_rho == 34_993_422
    assert fits.worst_person_nano_rho == 349_934_220
    assert (fits.participations_feasible, fits.within_budget) == (10, True)
    eleven = assess(example(noise_multiplier=Decimal("3.78"), participations=11))
    assert (eleven.participations_feasible, eleven.within_budget) == (10, False)


def test_noise_rounded_down_for_display_fits_only_nine() -> None:
    nine = assess(example(noise_multiplier=Decimal("3.774")))
    assert (nine.participations_feasible, nine.within_budget) == (9, False)
    assert [one.code for one in nine.warnings] == ["over_budget"]
    assert "raise the noise multiplier to 3.775 or allow 9 participations" in nine.warnings[0].fix


@pytest.mark.parametrize("noise", [None, Decimal("2.39")])
def test_a_cap_of_four_halves_the_rounds_and_the_planner_says_so(noise: Decimal | None) -> None:
    settings = example(participations=4, noise_multiplier=noise)
    assert settings.noise_multiplier in (Decimal("2.388"), Decimal("2.39"))
    four = assess(settings)
    assert four.participations_expected == 8
    assert four.rounds_feasible == 100
    (warning,) = four.warnings
    assert "of 200 rounds 100 are feasible" in warning.message
    for fix in ("allow 8 participations", "a cohort of 100", "plan 100 rounds"):
        assert fix in warning.fix


def test_renewed_each_month_the_cap_becomes_what_privacy_md_says() -> None:
    cap = cap_nano_rho(4.0, 1e-6)
    worst = assess(example(noise_multiplier=Decimal("3.78")))
    months = {one.months: one.epsilon for one in worst.lifetime}
    for month, epsilon in ((2, 5.93), (3, 7.51), (6, 11.35), (12, 17.42)):
        assert epsilon_of(month * cap, 1e-6) == pytest.approx(epsilon, abs=0.006)
        assert months[month] == pytest.approx(epsilon, rel=0.003)


@settings(max_examples=200, deadline=None)
@given(epsilons, deltas, counts)
def test_solved_noise_keeps_the_budget_and_a_step_less_does_not(
    epsilon: float, delta: float, participations: int
) -> None:
    cap = cap_nano_rho(epsilon, delta)
    assume(cap >= participations)
    noise = least_noise_multiplier(epsilon, delta, participations)
    assert noise % STEP == 0
    assert participations * nano_rho_per_participation(noise) <= cap
    assume(noise > STEP)
    assert participations * nano_rho_per_participation(noise - STEP) > cap


@settings(max_examples=200, deadline=None)
@given(noises, deltas, counts)
def test_a_solved_epsilon_holds_and_pays_for_every_participation(
    noise: Decimal, delta: float, participations: int
) -> None:
    solved = solve(
        Question(
            noise_multiplier=noise,
            participations=participations,
            delta=delta,
            population=100,
            cohort=10,
            rounds=10,
        )
    )
    spent = participations * nano_rho_per_participation(noise)
    assert gaussian_delta(solved.epsilon, math.sqrt(2 * spent / 1e9)) <= delta
    assessed = assess(solved)
    assert assessed.within_budget
    assert assessed.epsilon_worst_person <= solved.epsilon
    assert assessed.epsilon_worst_person >= epsilon_of(spent, delta) * (1 - 2e-9)


@settings(max_examples=200, deadline=None)
@given(noises, epsilons, deltas)
def test_solved_participations_fit_and_one_more_does_not(
    noise: Decimal, epsilon: float, delta: float
) -> None:
    cap, cost = cap_nano_rho(epsilon, delta), nano_rho_per_participation(noise)
    assume(cost <= cap)
    most = most_participations(epsilon, delta, noise)
    assert most * cost <= cap < (most + 1) * cost


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["rounds", "cohort", "population"]),
    st.integers(50, 10_000),
    st.integers(2, 40),
    st.integers(1, 500),
    st.integers(1, 50),
    st.integers(0, 5),
)
def test_solved_people_are_enough_and_one_step_on_they_are_not(
    unknown: str, population: int, cohort: int, rounds: int, participations: int, oversample: int
) -> None:
    question = Question(
        noise_multiplier=Decimal(50),
        epsilon=30.0,
        delta=1e-7,
        oversample=oversample,
        population=None if unknown == "population" else population,
        cohort=None if unknown == "cohort" else cohort,
        rounds=None if unknown == "rounds" else rounds,
        participations=participations,
    )
    if unknown == "cohort" and population * participations // rounds - oversample < 1:
        with pytest.raises(ValidationError, match="allow more participations"):
            solve(question)
        return
    solved = solve(question)

    def enough(s: Settings) -> bool:
        return s.rounds * s.asked <= s.population * s.participations and s.asked <= s.population

    assert enough(solved)
    assert assess(solved).rounds_feasible >= solved.rounds
    step = -1 if unknown == "population" else 1
    if unknown == "cohort" and solved.asked == population:
        return  # all are asked
    if unknown == "population" and solved.asked == solved.population:
        return  # fewer could not be asked
    assert not enough(replace(solved, **{unknown: getattr(solved, unknown) + step}))


@settings(max_examples=100, deadline=None)
@given(noises, counts, st.integers(1, 300), st.integers(1, 300), st.integers(1, 10**6))
def test_noise_is_never_shown_lower_than_it_is(
    noise: Decimal, participations: int, cohort: int, minimum: int, parameters: int
) -> None:
    assume(minimum <= cohort)
    solved = Settings(
        noise_multiplier=noise,
        epsilon=4.0,
        rounds=10,
        participations=participations,
        cohort=cohort,
        population=300,
        delta=1e-6,
        minimum=minimum,
        oversample=0,
    )
    shown = assess(solved, model_parameters=parameters).noise
    true = float(noise) / cohort
    assert shown.sum == float(noise)
    assert shown.mean >= true
    assert shown.mean_all_answer >= true * math.sqrt(cohort / minimum) * (1 - 1e-12)
    assert shown.mean_length is not None
    assert shown.mean_length >= true * math.sqrt(parameters) * (1 - 1e-12)


def test_what_another_setting_would_buy() -> None:
    bought = {one.change: one for one in assess(example()).alternatives}
    assert bought["20 participations"].noise_multiplier == Decimal("5.338")
    assert bought["5 participations"].rounds_feasible == 125
    assert bought["cohort of 400"].noise_mean == pytest.approx(3.775 / 400, abs=1e-6)
    assert bought["ε 8"].noise_multiplier < Decimal("3.775") < bought["ε 2"].noise_multiplier


def test_a_cap_beyond_the_rounds_is_said() -> None:
    (warning,) = assess(example(rounds=5)).warnings
    assert warning.code == "cap_beyond_rounds"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": None}, "2 settings are missing: noise_multiplier, rounds"),
        ({"cohort": 6_000}, "a round asks 6000 devices, the population has 5000"),
        ({"minimum": 300}, "the minimum of 300 answers is more than the cohort of 200"),
        ({"delta": 1e-3}, "it must be at most"),
        ({"epsilon": 0.0}, "epsilon must be > 0"),
        ({"participations": 0}, "participations must lie in"),
        ({"noise_multiplier": Decimal("1e-9")}, "noise_multiplier must lie in"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        example(**changes)


def test_a_budget_that_pays_for_nothing_is_refused_with_the_fix() -> None:
    least = least_noise_multiplier(0.04, 1e-6, 1)
    with pytest.raises(BudgetExceededError, match=f"raise the noise multiplier to {least}"):
        example(epsilon=0.04, noise_multiplier=Decimal("0.5"), participations=None)
    with pytest.raises(BudgetExceededError, match="less than 100000000 participations cost"):
        least_noise_multiplier(1e-4, 1e-9, 100_000_000)
