"""Poisoning: what a hostile share of the cohort does to the model, within what is checked.

Hostile devices train as others do and send the opposite. How long a vector they get through is a
matter of the encoding; the server looks at each answer with its own check, `within_bounds`.

| push         | plain sums                                | masked sums                       |
|--------------|-------------------------------------------|-----------------------------------|
| honest size  | one clip norm                             | one clip norm                     |
| largest      | clip norm and all the room that the check | the whole field: nobody sees more |
|              | leaves for an honest device's noise       | than that it is a residue         |
| beyond       | ten times that: refused                   |                                   |

Honest updates are clipped and not noised, so that the figures are of the attack alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import product
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tacitly_client.training.baseline import PlainSettings
from tacitly_client.training.local import train_without_privacy
from tacitly_client.training.windows import split_by_time, training_windows
from tacitly_common.campaign import CampaignPlan
from tacitly_common.evaluation import evaluate
from tacitly_common.mechanisms.encodings import (
    decode_mean,
    release_without_noise,
    signed_sum,
    within_bounds,
)
from tacitly_common.mechanisms.gaussian import encoded_norm_bound, secure_generator
from tacitly_common.mechanisms.rotation import rotate
from tacitly_common.mechanisms.rounded_gaussian import rotation_seed
from tacitly_common.model import initial_vector
from tacitly_common.validation import in_range
from tacitly_server.aggregation.streaming_sum import StreamingSum
from tacitly_server.rounds.optimizer import OptimizerState, apply, step
from tacitly_simulations.attacks.people import Source, modelled, persons, source_name
from tacitly_simulations.attacks.plans import NO_RECORDS, attacked_plan
from tacitly_simulations.attacks.report import Clock, Report, Row

_LOCAL: Final = PlainSettings(epochs=1, batch_windows=16, learning_rate=0.5, momentum=0.9)
_NOISE: Final = Decimal("3.78")
_DELTA: Final = Decimal("1e-6")
_INT32_MAX: Final = 2**31 - 1


class Push(StrEnum):
    """How hard hostile devices push."""

    HONEST_SIZE = "honest size"
    LARGEST = "largest"
    BEYOND = "beyond"


@dataclass(frozen=True, slots=True)
class PoisoningSettings:
    """`shares` of `persons` are hostile; the noise that checks allow for has z = 3.78."""

    shares: tuple[float, ...] = (0.05, 0.2)
    persons: int = 20
    events: int = 1_000
    rounds: int = 8
    embedding: int = 16
    hidden: int = 32

    def __post_init__(self) -> None:
        for share in self.shares:
            in_range(0, 0.9, share=share)
        in_range(4, 10_000, persons=self.persons)
        in_range(100, 1_000_000, events=self.events)
        in_range(1, 1_000, rounds=self.rounds)


@dataclass(frozen=True, slots=True)
class _Poisoned:
    """The last model, how many answers were refused, and the longest hostile one, in clip norms."""

    model: NDArray[np.float32]
    refused: int
    longest: float


def run_poisoning(
    settings: PoisoningSettings, *, source: Source, seed: int, progress: Callable[[str], None]
) -> Report:
    """A row for each encoding, share and push: how well the model then predicts held-out events.

    Raises:
        DatasetError: the data set cannot be read or has too few persons.
    """
    clock = Clock()
    rng = np.random.default_rng(seed)
    tokens, vocabulary, model = modelled(
        source, embedding=settings.embedding, hidden=settings.hidden
    )
    people = persons(source, settings.persons, settings.events)
    parts = [split_by_time(vocabulary.encode(person.events)) for person in people]
    windows = [training_windows(older, NO_RECORDS) for older, _ in parts]
    start = initial_vector(model, int(rng.integers(2**32)))

    def row(case: str, hostile: int, after: _Poisoned) -> Row:
        score = evaluate(model, after.model, [newer for _, newer in parts])
        bits = score.negative_log_likelihood / score.predictions / log(2)
        progress(f"{case}: top-1 {score.top1:.1%}")
        return Row(
            case=case,
            figures={
                "hostile": hostile,
                "clip norms": round(after.longest, 2),
                "refused": after.refused,
                "top-1 %": round(100 * score.top1, 2),
                # Two to the power of which is the perplexity, were it not too large to show.
                "bits a token": round(bits, 2),
            },
        )

    rows = [row("start model", 0, _Poisoned(start, 0, 0.0))]
    for masked in (False, True):
        plan = attacked_plan(
            model,
            cohort=settings.persons,
            rounds=settings.rounds,
            participations=settings.rounds,
            noise_multiplier=_NOISE,
            delta=_DELTA,
            masked=masked,
            tokens=tokens,
            momentum=Decimal("0.8"),
        )
        name = "masked" if masked else "plain"
        rows.append(row(f"{name}, nobody", 0, _campaign(plan, start, windows, 0, None, rng)))
        for share, push in product(settings.shares, Push):
            hostile = max(1, round(share * settings.persons))
            if push is Push.BEYOND and masked:
                continue
            after = _campaign(plan, start, windows, hostile, push, rng)
            rows.append(row(f"{name}, {share:.0%}, {push}", hostile, after))
    return clock.report(
        "poisoning",
        "What hostile devices do to the model, within what is checked",
        rows,
        seed=seed,
        settings={
            "data": source_name(source),
            "persons": settings.persons,
            "rounds": settings.rounds,
            "noise multiplier": float(_NOISE),
            "parameters": model.parameters,
        },
    )


def hostile_answer(
    update: NDArray[np.float32], plan: CampaignPlan, round_number: int, push: Push, hostile: int
) -> tuple[NDArray[np.int32], float]:
    """What a hostile device sends instead of `update`, and its norm in clip norms.

    Together `hostile` devices fill at most half of a field, or the sum would wrap and help nobody.
    """
    clip = float(plan.subject.clip_norm)
    direction = -update.astype(np.float64) / max(float(np.linalg.norm(update)), 1e-12)
    if plan.masking is None:
        largest = 0.999 * encoded_norm_bound(plan)
        norm = {Push.HONEST_SIZE: clip, Push.LARGEST: largest, Push.BEYOND: 10 * largest}[push]
        steps = np.clip(np.rint(direction * norm / plan.grid_step), -_INT32_MAX, _INT32_MAX)
        return steps.astype(np.int32), float(norm / clip)
    if plan.rotates:
        direction = rotate(direction, rotation_seed(plan, round_number))
    half = 2 ** (plan.field_bits - 2) / hostile
    norm = clip if push is Push.HONEST_SIZE else half * plan.grid_step / np.abs(direction).max()
    residues = np.rint(direction * norm / plan.grid_step).astype(np.int64)
    residues &= (1 << plan.field_bits) - 1
    return residues.astype(np.uint32).view(np.int32), float(norm / clip)


def _campaign(
    plan: CampaignPlan,
    start: NDArray[np.float32],
    windows: list[NDArray[np.int64]],
    hostile: int,
    push: Push | None,
    rng: np.random.Generator,
) -> _Poisoned:
    model, state, refused, longest = start, OptimizerState(), 0, 0.0
    for number in range(1, plan.rounds + 1):
        total = StreamingSum(plan.model.trainable_parameters)
        for device, rows in enumerate(windows):
            update = train_without_privacy(plan.model, model, rows, _LOCAL, rng)
            if push is not None and device < hostile:
                answer, norm = hostile_answer(update, plan, number, push, hostile)
                longest = max(longest, norm)
            else:
                answer = release_without_noise(update, plan, number, secure_generator())
            if within_bounds(answer, plan):
                total.add(answer)
            else:
                refused += 1
        mean = decode_mean(signed_sum(total.total, plan), plan, number)
        move, state = step(plan.optimizer, state, mean)
        model = apply(plan.model, model, move)
    return _Poisoned(model, refused, longest)
