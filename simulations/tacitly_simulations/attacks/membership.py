"""Membership: did this person take part? By shadow models, as LiRA does, at the person's level.

Many small campaigns, each with half of the persons by a coin. Of one campaign and one person the
attacker sees the released model's loss on the person's events; all other campaigns are shadows
that say how this loss is distributed with the person and without. The score is the logarithm of
the ratio of two normal densities (Carlini et al. 2022, "Membership inference attacks from first
principles", Algorithm 1, with the persons as the unit).
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tacitly_client.training.baseline import PlainSettings
from tacitly_client.training.windows import training_windows
from tacitly_common.accounting.planner import least_noise_multiplier
from tacitly_common.evaluation import evaluate_each
from tacitly_common.model import initial_vector
from tacitly_common.validation import in_range, positive
from tacitly_simulations.attacks.bounds import pair_epsilon
from tacitly_simulations.attacks.federation import Protection, federate
from tacitly_simulations.attacks.people import Source, modelled, persons, source_name
from tacitly_simulations.attacks.plans import NO_RECORDS, attacked_plan
from tacitly_simulations.attacks.report import Clock, Report, Row

_LOCAL: Final = PlainSettings(epochs=1, batch_windows=16, learning_rate=0.5, momentum=0.9)
_DELTA: Final = Decimal("1e-6")
# Accuse if taking part makes the loss e times as likely. Fixed before anything is seen.
_ACCUSED: Final = 1.0


@dataclass(frozen=True, slots=True)
class MembershipSettings:
    """`models` campaigns, each of about half of `persons`, at ε in `rounds` participations."""

    epsilon: float = 4.0
    persons: int = 12
    events: int = 1_000
    models: int = 24
    rounds: int = 8
    confidence: float = 0.95
    embedding: int = 16
    hidden: int = 32

    def __post_init__(self) -> None:
        positive(epsilon=self.epsilon)
        in_range(4, 1_000, persons=self.persons)
        in_range(100, 1_000_000, events=self.events)
        in_range(8, 10_000, models=self.models)
        in_range(1, 1_000, rounds=self.rounds)


def run_membership(
    settings: MembershipSettings, *, source: Source, seed: int, progress: Callable[[str], None]
) -> Report:
    """A row for each protection.

    `measured_epsilon` takes every pair of person and campaign as a trial. Those of one campaign
    share a model, so its confidence is nominal; `attack audit` gives a strict one.

    Raises:
        DatasetError: the data set cannot be read or has too few persons.
    """
    clock = Clock()
    rng = np.random.default_rng(seed)
    tokens, vocabulary, model = modelled(
        source, embedding=settings.embedding, hidden=settings.hidden
    )
    people = persons(source, settings.persons, settings.events)
    streams = [vocabulary.encode(person.events) for person in people]
    windows = [training_windows(stream, NO_RECORDS) for stream in streams]
    plan = attacked_plan(
        model,
        cohort=settings.persons,
        rounds=settings.rounds,
        participations=settings.rounds,
        noise_multiplier=least_noise_multiplier(settings.epsilon, float(_DELTA), settings.rounds),
        delta=_DELTA,
        tokens=tokens,
        momentum=Decimal("0.8"),
    )
    start = initial_vector(model, int(rng.integers(2**32)))
    rows = []
    for protection in Protection:
        present = rng.random((settings.models, settings.persons)) < 0.5
        losses = np.zeros(present.shape)
        for number, took_part in enumerate(present):
            trained = federate(
                plan,
                start,
                [each if is_in else None for each, is_in in zip(windows, took_part, strict=True)],
                local=_LOCAL,
                protection=protection,
                rng=rng,
            )
            scores = evaluate_each(model, trained, streams)
            losses[number] = [s.negative_log_likelihood / s.predictions for s in scores]
            progress(f"{protection}: model {number + 1} of {settings.models}")
        rows.append(_row(settings, protection, likelihood_ratios(losses, present), present))
    return clock.report(
        "membership",
        "Who took part, by shadow models",
        rows,
        seed=seed,
        settings={
            "data": source_name(source),
            "persons": settings.persons,
            "models": settings.models,
            "rounds": settings.rounds,
            "epsilon": settings.epsilon,
            "parameters": model.parameters,
        },
        delta=float(_DELTA),
        confidence=settings.confidence,
    )


def likelihood_ratios(
    losses: NDArray[np.float64], present: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """ln of how much likelier each loss is if the person was there: float64[models, persons].

    Each model is judged by all others. Both normals have the pooled deviation; a person with fewer
    than two models of either kind is never accused.
    """
    ratios = np.zeros(losses.shape)
    for model, person in np.ndindex(losses.shape):
        others = np.arange(len(losses)) != model
        with_them = losses[others & present[:, person], person]
        without = losses[others & ~present[:, person], person]
        if min(len(with_them), len(without)) < 2:
            continue
        deviation = float(
            np.sqrt((with_them.var(ddof=1) + without.var(ddof=1)) / 2) + np.finfo(float).tiny
        )
        at = losses[model, person]
        ratios[model, person] = ((at - without.mean()) ** 2 - (at - with_them.mean()) ** 2) / (
            2 * deviation**2
        )
    return ratios


def _row(
    settings: MembershipSettings,
    protection: Protection,
    ratios: NDArray[np.float64],
    present: NDArray[np.bool_],
) -> Row:
    inside, outside = ratios[present], ratios[~present]
    caught, accused = int((inside > _ACCUSED).sum()), int((outside > _ACCUSED).sum())
    wins = stats.mannwhitneyu(inside, outside).statistic / (len(inside) * len(outside))
    cut = np.quantile(outside, 0.95)
    measured = pair_epsilon(
        caught,
        len(inside),
        accused,
        len(outside),
        delta=float(_DELTA),
        confidence=settings.confidence,
    )
    return Row(
        case=protection,
        claimed_epsilon=settings.epsilon if protection is Protection.NOISED else None,
        measured_epsilon=round(measured, 4),
        figures={
            "trials": ratios.size,
            "AUC": round(float(wins), 3),
            "caught % at 5": round(100 * float((inside > cut).mean()), 1),
        },
    )
