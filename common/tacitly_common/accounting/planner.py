"""Solve for the one setting of a campaign that is missing.

Two laws tie the settings together. A person's budget (integers, each rounded against the spender)

    participations x ceil(1e9 / (2 z²))  <=  cap_nano_rho(ε, δ)

and the people there are, since everyone selected is charged, dropouts too

    rounds x (cohort + oversample)  <=  population x participations

    settings = solve(Question(population=5_000, cohort=200, rounds=200, participations=10,
                              epsilon=4.0, delta=1e-6))    # the noise multiplier is missing
    settings.noise_multiplier                              # Decimal("3.775")

What is solved is rounded to the safe side: noise up on a grid of 1/1000, ε up on one of 1/10,000,
participations, rounds and cohort down, population up. What was given stays as it is; whether the
whole fits together is for `assessment.py` to say.
"""

import math
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from typing import Final, TypeVar

from tacitly_common.accounting.subject import (
    NANO,
    cap_nano_rho,
    nano_rho_per_participation,
    shown_epsilon,
)
from tacitly_common.errors import BudgetExceededError, ValidationError
from tacitly_common.validation import in_range, positive, probability

MOST: Final = 100_000_000  # persons, rounds, participations
_MOST_NOISE: Final = 1_000_000
_NOISE_GRID: Final = 1_000
_Known = TypeVar("_Known")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is known of a campaign. A setting that is None is to be solved for; at most one is.

    `cohort` is the planned number of answers and the denominator of the mean, `oversample` how
    many more are asked and charged, `minimum` the fewest answers of which a sum is released: the
    cohort unless given.
    """

    noise_multiplier: Decimal | None = None
    epsilon: float | None = None
    rounds: int | None = None
    participations: int | None = None
    cohort: int | None = None
    population: int | None = None
    delta: float
    minimum: int | None = None
    oversample: int = 0

    def __post_init__(self) -> None:
        probability(delta=self.delta)
        for name in ("rounds", "participations", "cohort", "population", "minimum"):
            count = getattr(self, name)
            if count is not None:
                in_range(1, MOST, **{name: count})
        in_range(0, MOST, oversample=self.oversample)
        if self.epsilon is not None:
            positive(epsilon=self.epsilon)
        if self.noise_multiplier is not None:
            in_range(Decimal("0.001"), _MOST_NOISE, noise_multiplier=self.noise_multiplier)
        if len(missing := self._missing) > 1:
            raise ValidationError(
                f"{len(missing)} settings are missing: {', '.join(missing)}; leave out one at most"
            )

    @property
    def unknown(self) -> str | None:
        """The name of the setting to solve for, or None if all are given."""
        return next(iter(self._missing), None)

    @property
    def _missing(self) -> list[str]:
        optional = ("delta", "minimum", "oversample")
        names = [one.name for one in fields(self) if one.name not in optional]
        return [name for name in names if getattr(self, name) is None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A campaign's settings, complete; see `Question`.

    Raises:
        ValidationError: a cohort larger than the population, a minimum larger than the cohort, or
            a δ above 1/(10 x population).
    """

    noise_multiplier: Decimal
    epsilon: float
    rounds: int
    participations: int
    cohort: int
    population: int
    delta: float
    minimum: int
    oversample: int

    def __post_init__(self) -> None:
        if self.asked > self.population:
            raise ValidationError(
                f"a round asks {self.asked} devices, the population has {self.population} "
                f"persons; give a cohort of at most {self.population - self.oversample}"
            )
        if self.minimum > self.cohort:
            raise ValidationError(
                f"the minimum of {self.minimum} answers is more than the cohort of {self.cohort}; "
                f"give a minimum of at most {self.cohort}"
            )
        largest = Fraction(1, 10 * self.population)
        if Fraction(str(self.delta)) > largest:
            raise ValidationError(
                f"delta is {self.delta:g}; for a population of {self.population} it must be at "
                f"most 1/(10 x population) = {float(largest):.3g}"
            )

    @property
    def asked(self) -> int:
        """How many devices a round asks, and charges."""
        return self.cohort + self.oversample


def solve(question: Question) -> Settings:
    """The settings with the missing one solved for, on the safe side.

    Raises:
        BudgetExceededError: no value would do: the budget does not pay for one participation.
        ValidationError: the settings contradict each other whatever the missing one is.
    """
    q = question
    noise, epsilon, participations = q.noise_multiplier, q.epsilon, q.participations
    rounds, cohort, population = q.rounds, q.cohort, q.population
    match q.unknown:
        case "noise_multiplier":
            noise = least_noise_multiplier(_known(epsilon), q.delta, _known(participations))
        case "epsilon":
            cost = nano_rho_per_participation(_known(noise))
            epsilon = shown_epsilon(_known(participations) * cost, q.delta)
        case "participations":
            participations = most_participations(_known(epsilon), q.delta, _known(noise))
        case "rounds":
            charges = _known(population) * _known(participations)
            rounds = charges // (_known(cohort) + q.oversample)
        case "cohort":
            charges = _known(population) * _known(participations)
            cohort = min(charges // _known(rounds), _known(population)) - q.oversample
        case "population":
            asked = _known(cohort) + q.oversample
            population = max(-(-_known(rounds) * asked // _known(participations)), asked)
    if _known(rounds) < 1 or _known(cohort) < 1:
        raise ValidationError(
            f"{population} persons with {participations} participations each are not enough for "
            f"{'one round' if q.rounds is None else f'{q.rounds} rounds'}; allow more "
            "participations"
        )
    cohort = _known(cohort)
    return Settings(
        noise_multiplier=_known(noise),
        epsilon=_known(epsilon),
        rounds=_known(rounds),
        participations=_known(participations),
        cohort=cohort,
        population=_known(population),
        delta=q.delta,
        minimum=cohort if q.minimum is None else q.minimum,
        oversample=q.oversample,
    )


def least_noise_multiplier(epsilon: float, delta: float, participations: int) -> Decimal:
    """The smallest z on the grid of 1/1000 at which `participations` fit into the cap of ε.

    Exact: ceil(1e9 / (2 z²)) <= c holds just when z² >= 1e9 / (2 c), c the share of the cap that
    each participation may take.

    Raises:
        BudgetExceededError: not even with the most noise that a plan may have.
    """
    share = cap_nano_rho(epsilon, delta) // participations
    if share > 0:
        least_square = -(-NANO * _NOISE_GRID**2 // (2 * share))
        steps = math.isqrt(least_square - 1) + 1
        if steps <= _MOST_NOISE * _NOISE_GRID:
            return Decimal(steps) / _NOISE_GRID
    raise BudgetExceededError(
        f"epsilon {epsilon:g} is {cap_nano_rho(epsilon, delta)} nano-ρ, less than "
        f"{participations} participations cost at any noise; allow fewer, or raise epsilon",
        scope="campaign",
    )


def most_participations(epsilon: float, delta: float, noise_multiplier: Decimal) -> int:
    """How many participations at z fit into the cap of ε.

    Raises:
        BudgetExceededError: not one.
    """
    cap, cost = cap_nano_rho(epsilon, delta), nano_rho_per_participation(noise_multiplier)
    if cost > cap:
        raise BudgetExceededError(
            f"one participation costs {cost} nano-ρ, epsilon {epsilon:g} allows {cap}; raise the "
            f"noise multiplier to {least_noise_multiplier(epsilon, delta, 1)}",
            scope="campaign",
        )
    return cap // cost


def _known(value: _Known | None) -> _Known:
    if value is None:  # `Question` refuses two unknowns
        raise ValidationError("two settings are missing; leave out one at most")
    return value
