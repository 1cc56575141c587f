"""What a campaign's settings cost a person, and what they buy.

    assess(settings).epsilon_worst_person      # of who takes part as often as allowed
    assess(settings).rounds_feasible           # before everybody has used all participations
    assess(settings).warnings                  # what an officer should know before going on

ε is shown rounded up, counts rounded down: nothing here promises more than the ledgers enforce.
"""

import math
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from tacitly_common.accounting.adversaries import (
    DEFAULT_COLLUDING_SHARE,
    Adversary,
    RecordGuarantee,
    adversaries,
)
from tacitly_common.accounting.masked_sums import MaskedSums
from tacitly_common.accounting.odds import Odds, best_guess_right_of_100, odds_table
from tacitly_common.accounting.planner import MOST, Settings, least_noise_multiplier
from tacitly_common.accounting.subject import (
    cap_nano_rho,
    nano_rho_per_participation,
    shown_epsilon,
)
from tacitly_common.errors import BudgetExceededError

REFRESH_MONTHS: Final = (1, 2, 3, 6, 12)


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise of a released sum or mean in units of the clip norm C, standard deviations.

    `sum` and `mean` are per coordinate with only the minimum's shares in them (`sum` is z), the
    mean over the planned cohort; `mean_all_answer` when everybody asked adds a share. The lengths
    of the whole noise vector beside the longest update of one person, 1, are `mean_length` and
    `mean_length_all_answer`; None if the number of model parameters is not known.
    """

    sum: float
    mean: float
    mean_all_answer: float
    mean_length: float | None
    mean_length_all_answer: float | None


@dataclass(frozen=True, slots=True)
class Refreshed:
    """ε of a person whose budget was renewed each month while the data stayed."""

    months: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class Alternative:
    """One setting changed, the noise solved for again: what the change buys."""

    change: str
    noise_multiplier: Decimal
    noise_mean: float
    rounds_feasible: int


@dataclass(frozen=True, slots=True)
class Advice:
    """What an officer should know before going on, and the smallest change that helps."""

    code: str
    message: str
    fix: str


@dataclass(frozen=True, slots=True)
class Assessment:
    """What follows from `Settings`. ε is at the settings' δ; `cap_nano_rho` is that of their ε.

    `participations_feasible`: how many the cap pays for; `participations_expected`: the mean over
    the population if every round is held.
    """

    cost_nano_rho: int
    cap_nano_rho: int
    worst_person_nano_rho: int
    within_budget: bool
    epsilon_worst_person: float
    participations_feasible: int
    participations_expected: float
    rounds_feasible: int
    noise: Noise
    best_guess_right_of_100: float
    odds: tuple[Odds, ...]
    lifetime: tuple[Refreshed, ...]
    adversaries: tuple[Adversary, ...]
    alternatives: tuple[Alternative, ...]
    warnings: tuple[Advice, ...]


def assess(
    settings: Settings,
    *,
    model_parameters: int | None = None,
    colluding_share: Decimal = DEFAULT_COLLUDING_SHARE,
    record: RecordGuarantee | None = None,
    masked: MaskedSums | None = None,
) -> Assessment:
    """Everything an officer asks about `settings`."""
    s = settings
    cost = nano_rho_per_participation(s.noise_multiplier)
    cap = cap_nano_rho(s.epsilon, s.delta)
    worst = s.participations * cost
    feasible = cap // cost
    return Assessment(
        cost_nano_rho=cost,
        cap_nano_rho=cap,
        worst_person_nano_rho=worst,
        within_budget=worst <= cap,
        epsilon_worst_person=shown_epsilon(worst, s.delta),
        participations_feasible=feasible,
        participations_expected=s.rounds * s.asked / s.population,
        rounds_feasible=_rounds_feasible(s, min(s.participations, feasible)),
        noise=_noise(s, model_parameters),
        best_guess_right_of_100=best_guess_right_of_100(worst),
        odds=odds_table(worst),
        lifetime=tuple(Refreshed(m, shown_epsilon(m * worst, s.delta)) for m in REFRESH_MONTHS),
        adversaries=adversaries(
            worst,
            s.delta,
            minimum=s.minimum,
            colluding_share=colluding_share,
            record=record,
            masked=masked,
        ),
        alternatives=_alternatives(s),
        warnings=_warnings(s, cost, cap),
    )


def _rounds_feasible(settings: Settings, participations: int) -> int:
    return settings.population * participations // settings.asked


def _noise(s: Settings, model_parameters: int | None) -> Noise:
    z, all_answer = float(s.noise_multiplier), math.sqrt(s.asked / s.minimum)
    mean = _up(z / s.cohort)
    if model_parameters is None:
        return Noise(z, mean, _up(mean * all_answer), None, None)
    root = math.sqrt(model_parameters)
    return Noise(z, mean, _up(mean * all_answer), _up(mean * root), _up(mean * root * all_answer))


def _up(value: float) -> float:
    """`value` rounded up to a millionth: no less noise than there is."""
    return math.ceil(1e6 * value) / 1e6


def _alternatives(s: Settings) -> tuple[Alternative, ...]:
    less, more = float(f"{s.epsilon / 2:.3g}"), float(f"{s.epsilon * 2:.3g}")
    changed = (
        *((f"ε {epsilon:g}", replace(s, epsilon=epsilon)) for epsilon in (less, more)),
        *(
            (f"{k} participations", replace(s, participations=k))
            for k in (s.participations // 2, s.participations * 2)
            if 1 <= k <= MOST
        ),
        *(
            (f"cohort of {cohort}", replace(s, cohort=cohort, minimum=minimum))
            for cohort, minimum in ((s.cohort // 2, s.minimum // 2), (s.cohort * 2, s.minimum * 2))
            if minimum >= 1 and cohort + s.oversample <= s.population
        ),
    )
    return tuple(a for change, other in changed if (a := _alternative(change, other)) is not None)


def _alternative(change: str, s: Settings) -> Alternative | None:
    try:
        noise = least_noise_multiplier(s.epsilon, s.delta, s.participations)
    except BudgetExceededError:
        return None
    return Alternative(
        change, noise, _up(float(noise) / s.cohort), _rounds_feasible(s, s.participations)
    )


def _warnings(s: Settings, cost: int, cap: int) -> tuple[Advice, ...]:
    participations = min(s.participations, cap // cost)
    found = (_over_budget(s, cost, cap), _fewer_rounds(s, participations), _idle_cap(s))
    return tuple(one for one in found if one is not None)


def _over_budget(s: Settings, cost: int, cap: int) -> Advice | None:
    worst, feasible = s.participations * cost, cap // cost
    if worst <= cap:
        return None
    # The smallest change of each setting alone that brings the worst person under the cap.
    fixes = [f"raise epsilon to {shown_epsilon(worst, s.delta)}"]
    if feasible:
        fixes.insert(0, f"allow {feasible} participations")
    try:
        noise = least_noise_multiplier(s.epsilon, s.delta, s.participations)
    except BudgetExceededError:
        pass  # no noise is enough
    else:
        fixes.insert(0, f"raise the noise multiplier to {noise}")
    return Advice(
        "over_budget",
        f"{s.participations} participations cost {worst} nano-ρ, ε {s.epsilon} allows {cap}: "
        f"{feasible} fit",
        " or ".join(fixes),
    )


def _fewer_rounds(s: Settings, participations: int) -> Advice | None:
    """Everybody selected is charged, so the rounds end when the population's charges do."""
    rounds = _rounds_feasible(s, participations)
    if rounds >= s.rounds:
        return None
    charges = s.population * participations
    fixes = [f"allow {-(-s.rounds * s.asked // s.population)} participations (more noise each)"]
    if (smaller := charges // s.rounds - s.oversample) >= 2:
        lower = ", and as low a minimum" if smaller < s.minimum else ""
        fixes.append(f"ask a cohort of {smaller}{lower}")
    if rounds:
        fixes.append(f"plan {rounds} rounds")
    return Advice(
        "fewer_rounds",
        f"of {s.rounds} rounds {rounds} are feasible: {s.population} persons with "
        f"{participations} participations each give {charges}, the rounds ask for "
        f"{s.rounds * s.asked}",
        " or ".join(fixes),
    )


def _idle_cap(s: Settings) -> Advice | None:
    if s.participations <= s.rounds:
        return None
    return Advice(
        "cap_beyond_rounds",
        f"a person may take part {s.participations} times in {s.rounds} rounds; only repeated "
        "attempts can use up what is beyond",
        "lower the participations towards the rounds: the noise falls with them",
    )
