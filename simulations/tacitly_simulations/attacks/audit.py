"""Audits: a lower bound on ε from canaries, in one run of the code that deploys.

| level          | canaries                           | what runs                                  |
|----------------|------------------------------------|--------------------------------------------|
| person, masked | persons, each with a direction of  | release, sum, decode, over all rounds of a |
|                | its own, 8 clip norms long         | campaign; plain and residues               |
| fl             | persons with random directions,    | the same, with persons' DP-SGD and the     |
|                | among persons who train            | optimiser (Andrew et al. 2023)             |
| record         | windows of one token each          | DP-SGD as an agent runs it (`local.train`) |

Each canary is in by a fair coin. One that is out answers with nothing learned, or with a window
less: what adding or removing it changes is all that anybody can see of it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import product
from math import sqrt
from typing import Final

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from tacitly_client.training.gradient import EMBEDDING, OUTPUT_BIAS, clipped_gradient_sum
from tacitly_client.training.local import train
from tacitly_client.training.windows import training_windows
from tacitly_common.accounting.odds import gaussian_mu
from tacitly_common.accounting.planner import least_noise_multiplier
from tacitly_common.accounting.record import epsilon_of_rdp, rdp_of_steps
from tacitly_common.campaign import CampaignPlan, RecordMechanism
from tacitly_common.mechanisms.encodings import decode_mean, release, signed_sum
from tacitly_common.model import initial_vector, named_tensors
from tacitly_common.model_config import ModelConfig
from tacitly_common.validation import in_range, positive
from tacitly_common.vocabulary import START, Vocabulary
from tacitly_server.aggregation.streaming_sum import StreamingSum
from tacitly_server.rounds.optimizer import OptimizerState, apply, step
from tacitly_simulations.attacks.bounds import Canaries, gaussian_epsilon, one_run_epsilon
from tacitly_simulations.attacks.faults import Fault, Streams, planted
from tacitly_simulations.attacks.plans import attacked_plan
from tacitly_simulations.attacks.report import Clock, Report, Row
from tacitly_simulations.datasets.synthetic import synthetic_person
from tacitly_simulations.population import token_plan

# How long a canary is, in clip norms: correct code makes it one.
_LENGTH: Final = 8.0


class Level(StrEnum):
    """What is audited."""

    PERSON = "person"
    MASKED = "masked"
    FL = "fl"
    RECORD = "record"


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """What is claimed, (`epsilon`, `delta`) for `participations` of a person, and how it is tried.

    At the record level `participations` are steps, with the noise that the person level has; the ε
    that the accounting claims for it is higher. `canaries`: about how many; a whole number of
    rounds is filled.
    """

    epsilon: float = 4.0
    delta: Decimal = Decimal("1e-6")
    participations: int = 2
    canaries: int = 4_000
    confidence: float = 0.95

    def __post_init__(self) -> None:
        positive(epsilon=self.epsilon, delta=self.delta)
        in_range(1, 1_000, participations=self.participations)
        in_range(400, 10_000_000, canaries=self.canaries)
        in_range(0.5, 0.9999, confidence=self.confidence)


def run_audit(
    settings: AuditSettings,
    levels: Sequence[Level],
    faults: Sequence[Fault],
    *,
    repetitions: int,
    seed: int,
    progress: Callable[[str], None],
) -> Report:
    """A row for each level and fault: the median repetition's bound, with its own spread."""
    clock, rows = Clock(), []
    for number, (level, fault) in enumerate(product(levels, faults)):
        audits = []
        for repetition in range(repetitions):
            rng = np.random.default_rng((seed, number, repetition))
            audits.append(audit_row(level, fault, settings, rng))
            progress(
                f"{audits[-1].case}, {repetition + 1} of {repetitions}: "
                f"ε > {audits[-1].measured_epsilon:.2f}, claimed {audits[-1].claimed_epsilon:.2f}"
            )
        rows.append(_summary(audits))
    return clock.report(
        "audit",
        "What canaries show of ε, beside what is claimed",
        rows,
        seed=seed,
        settings={
            "epsilon": settings.epsilon,
            "participations": settings.participations,
            "canaries": settings.canaries,
            "repetitions": repetitions,
        },
        delta=float(settings.delta),
        confidence=settings.confidence,
    )


def audit_row(level: Level, fault: Fault, settings: AuditSettings, rng: np.random.Generator) -> Row:
    """One audit. Each of the two bounds takes half of the error; the larger one is reported."""
    claimed = settings.epsilon
    match level:
        case Level.PERSON | Level.MASKED:
            canaries = audit_persons(settings, fault, masked=level is Level.MASKED, rng=rng)
        case Level.FL:
            canaries = audit_among_people(settings, fault, rng=rng)
        case Level.RECORD:
            canaries, claimed = audit_records(settings, fault, rng=rng)
    delta, confidence = float(settings.delta), (1 + settings.confidence) / 2
    gaussian = gaussian_epsilon(canaries, delta=delta, confidence=confidence)
    one_run = one_run_epsilon(canaries, delta=delta, confidence=confidence)
    return Row(
        case=f"{level}: {fault}",
        claimed_epsilon=round(claimed, 4),
        measured_epsilon=round(max(gaussian, one_run), 4),
        figures={
            "Gaussian bound": round(gaussian, 4),
            "one-run bound": round(one_run, 4),
        },
    )


def _summary(audits: list[Row]) -> Row:
    """The repetition in the middle, and how the others ended."""
    ordered = sorted(audits, key=lambda row: row.measured_epsilon or 0.0)
    middle = ordered[(len(ordered) - 1) // 2]
    if len(audits) == 1:
        return middle
    spread = {
        "lowest": ordered[0].measured_epsilon or 0.0,
        "highest": ordered[-1].measured_epsilon or 0.0,
        "refuted": sum(row.refuted for row in audits),
        "repetitions": len(audits),
    }
    return msgspec.structs.replace(middle, figures=middle.figures | spread)


def audit_persons(
    settings: AuditSettings, fault: Fault, *, masked: bool, rng: np.random.Generator
) -> Canaries:
    """Person level, the worst case: everybody is a canary, and each has a coordinate of its own.

    1. A round's cohort is as large as the model: the j-th person's update is 8 clip norms of
       the j-th coordinate. A cohort takes part in `participations` rounds, then the next comes.
    2. Whoever is out answers with zeros.
    3. What is common to all rounds' sums is taken away: noise that is used twice, if any.
    4. A canary's score is its coordinate of its rounds' decoded sums, added.
    """
    # Of two tensors alike, so that what goes wrong in either shows in half of the canaries.
    model = ModelConfig(
        vocabulary_size=98, embedding=1, hidden=1, trainable=(EMBEDDING, OUTPUT_BIAS)
    )
    persons, times = model.trainable_parameters, settings.participations
    cohorts = max(2, round(settings.canaries / persons))
    plan = attacked_plan(
        model,
        cohort=persons,
        rounds=cohorts * times,
        participations=times,
        noise_multiplier=least_noise_multiplier(settings.epsilon, float(settings.delta), times),
        delta=settings.delta,
        population=cohorts * persons,
        masked=masked,
    )
    included = rng.random((cohorts, persons)) < 0.5
    streams, totals = Streams(fault), []
    length = _LENGTH * float(plan.subject.clip_norm)
    with planted(fault, model):
        for number in range(plan.rounds):
            total, generator = StreamingSum(persons), streams.generator()
            for person, is_in in enumerate(included[number // times]):
                update = np.zeros(persons, dtype=np.float32)
                update[person] = length * is_in
                total.add(release(update, plan, number + 1, generator))
            totals.append(signed_sum(total.total, plan))
    common = np.rint(np.mean(totals, axis=0)).astype(np.int64)
    decoded = [decode_mean(total - common, plan, n + 1) for n, total in enumerate(totals)]
    sums = np.stack(decoded).reshape(cohorts, times, persons).sum(axis=1) * persons
    return Canaries(
        scores=(sums / _noise_of_sums(plan)).ravel(),
        included=included.ravel(),
    )


def audit_among_people(
    settings: AuditSettings, fault: Fault, *, rng: np.random.Generator
) -> Canaries:
    """FL canaries (Andrew et al. 2023, Algorithm 2): a small share of an ordinary campaign.

    Persons train, the model moves. `canaries`/20 canary persons take part in every round, each with
    a random direction; as many again four times over never do, and cost nothing: their scores are
    those of the null. In a space of many coordinates such directions are close to orthogonal.
    """
    tokens = token_plan("coauthor")
    vocabulary = Vocabulary(tokens)
    model = ModelConfig(vocabulary_size=vocabulary.size, embedding=8, hidden=16)
    present = max(20, settings.canaries // 20)
    record = RecordMechanism(
        window_tokens=32,
        max_windows=64,
        sample_rate=Decimal("0.25"),
        steps=2,
        noise_multiplier=Decimal(1),
        clip_norm=Decimal(1),
        learning_rate=Decimal("0.5"),
        cap_epsilon=Decimal(1_000),
    )
    streams_of_people = [vocabulary.encode(synthetic_person(n, 2_000).events) for n in range(8)]
    windows = [training_windows(stream, record) for stream in streams_of_people]
    plan = attacked_plan(
        model,
        cohort=present + len(windows),
        rounds=settings.participations,
        participations=settings.participations,
        noise_multiplier=least_noise_multiplier(
            settings.epsilon, float(settings.delta), settings.participations
        ),
        delta=settings.delta,
        record=record,
        tokens=tokens,
    )
    directions = _unit_rows(present, model.trainable_parameters, rng)
    unseen = _unit_rows(4 * present, model.trainable_parameters, rng)
    length = np.float32(_LENGTH * float(plan.subject.clip_norm))
    streams, state = Streams(fault), OptimizerState()
    start = initial_vector(model, int(rng.integers(2**32)))
    scores, null = np.zeros(present), np.zeros(4 * present)
    with planted(fault, model):
        for number in range(1, plan.rounds + 1):
            total, generator = StreamingSum(model.trainable_parameters), streams.generator()
            for update in _updates(plan, start, windows, length * directions, generator):
                total.add(release(update, plan, number, generator))
            mean = decode_mean(signed_sum(total.total, plan), plan, number)
            move, state = step(plan.optimizer, state, mean)
            start = apply(model, start, move)
            scores += directions @ mean
            null += unseen @ mean
    unit = plan.cohort.target / _noise_of_sums(plan)
    return Canaries(
        scores=np.concatenate([scores, null]) * unit - gaussian_mu(plan.cap_nano_rho) / 2,
        included=np.arange(5 * present) < present,
    )


def audit_records(
    settings: AuditSettings, fault: Fault, *, rng: np.random.Generator
) -> tuple[Canaries, float]:
    """Record level, and the ε that is claimed: everything a device trains on is a canary.

    A window holds one token throughout. The embedding and the output's bias are trained, so the
    gradients of two such windows have hardly a coordinate in common. `participations` steps of
    DP-SGD take every window: no sampling hides it. A canary's score is how far the update went
    against its gradient, less what is common to all rounds; every round draws the coins anew.
    """
    model = ModelConfig(
        vocabulary_size=201, embedding=2, hidden=2, trainable=(EMBEDDING, OUTPUT_BIAS)
    )
    canaries, steps = model.vocabulary_size - 1, settings.participations
    rounds = max(2, round(settings.canaries / canaries))
    # The claim's noise: what the same ε needs of a person's participations.
    noise = least_noise_multiplier(settings.epsilon, float(settings.delta), steps)
    record = RecordMechanism(
        window_tokens=2,
        max_windows=canaries,
        sample_rate=Decimal(1),
        steps=steps,
        noise_multiplier=noise,
        clip_norm=Decimal("0.1"),
        # So small that a step moves the model by next to nothing: all see the same gradients.
        learning_rate=Decimal("0.01"),
        cap_epsilon=Decimal(1_000),
    )
    plan = attacked_plan(
        model,
        cohort=2,
        rounds=rounds,
        participations=rounds,
        noise_multiplier=Decimal(1),
        delta=settings.delta,
        record=record,
    )
    start = initial_vector(model, int(rng.integers(2**32)))
    windows = np.repeat(np.arange(1, canaries + 1)[:, None], 3, axis=1)
    windows[:, 0] = START
    directions = _gradients(model, start, windows)
    included = rng.random((rounds, canaries)) < 0.5
    streams, updates = Streams(fault), []
    with planted(fault, model):
        for number in range(rounds):
            rows = windows[included[number]]
            updates.append(train(plan, start, rows, rng=streams.generator()))
    moved = np.stack(updates).astype(np.float64)
    moved -= moved.mean(axis=0)
    clip = float(record.clip_norm)
    one_step = float(record.learning_rate) * clip / record.expected_batch_windows
    scores = -(moved @ directions.T) / (one_step * float(noise) * sqrt(steps))
    claimed = epsilon_of_rdp(rdp_of_steps(noise, 1, steps), float(settings.delta))
    return Canaries(scores.ravel(), included.ravel()), claimed


def _updates(
    plan: CampaignPlan,
    start: NDArray[np.float32],
    windows: list[NDArray[np.int64]],
    canaries: NDArray[np.float32],
    rng: np.random.Generator,
) -> Iterator[NDArray[np.float32]]:
    """What a cohort learned: canaries first."""
    yield from canaries
    for rows in windows:
        yield train(plan, start, rows, rng=rng)


def _noise_of_sums(plan: CampaignPlan) -> float:
    """Deviation of the claimed noise on the sum of a person's rounds, in parameter units."""
    one = float(plan.subject.noise_multiplier * plan.subject.clip_norm)
    return one * sqrt(plan.participation.per_campaign)


def _unit_rows(count: int, length: int, rng: np.random.Generator) -> NDArray[np.float32]:
    rows = rng.standard_normal((count, length), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _gradients(
    model: ModelConfig, start: NDArray[np.float32], windows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Each window's gradient as a unit vector: float64[windows, trainable_parameters]."""
    tensors = named_tensors(model, start)
    names = [tensor.name for tensor in model.trainable_layout()]
    rows = []
    for window in torch.from_numpy(windows):
        found = clipped_gradient_sum(
            tensors, window[None], trainable=frozenset(names), clip_norm=None
        )
        rows.append(torch.cat([found.gradients[name].flatten() for name in names]).numpy())
    gradients = np.stack(rows).astype(np.float64)
    gradients /= np.linalg.norm(gradients, axis=1, keepdims=True)
    return gradients
