"""Gradient inversion for text: which keys, and how often, from what one device sends.

The update is one step of SGD on a few windows, from a model that everybody knows. Two parts of it
speak of tokens by name (Melis et al. 2019, section 4; Zhao et al. 2020 for the output):

    a row of the embedding moves only if its token was read
    the output's bias of token v moves by the rate times (count of v - what the model expected)/T

| seen           | what the attacker has                                          |
|----------------|----------------------------------------------------------------|
| unprotected    | the update as it is                                            |
| clipped        | scaled to the clip norm; the scale is not known                |
| noised         | with the device's own share of the noise: masks were broken    |
| masked         | residues under a mask: what the server has of one device       |
| noised sum     | the whole cohort's: what a masked round releases               |
| by guess       | nothing: the tokens that the cohort types most                      |
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tacitly_client.training.baseline import PlainSettings
from tacitly_client.training.gradient import EMBEDDING, OUTPUT_BIAS
from tacitly_client.training.local import train_without_privacy
from tacitly_client.training.windows import training_windows
from tacitly_common.accounting.planner import least_noise_multiplier
from tacitly_common.campaign import CampaignPlan
from tacitly_common.mechanisms.encodings import (
    decode_mean,
    release,
    release_without_noise,
    signed_sum,
)
from tacitly_common.mechanisms.gaussian import secure_generator
from tacitly_common.model import initial_vector
from tacitly_common.validation import in_range, positive
from tacitly_common.vocabulary import START
from tacitly_server.aggregation.streaming_sum import StreamingSum
from tacitly_simulations.attacks.people import Source, modelled, persons, source_name
from tacitly_simulations.attacks.plans import NO_RECORDS, attacked_plan
from tacitly_simulations.attacks.report import Clock, Report, Row

_DELTA: Final = Decimal("1e-6")
_PARTICIPATIONS: Final = 10
_EVENTS: Final = 2_000
_RATE: Final = 0.5
_CLIP: Final = Decimal("0.1")  # less than an update's own norm, so that it does clip


@dataclass(frozen=True, slots=True)
class InversionSettings:
    """`windows` of each of `persons`; ε is that of ten participations."""

    epsilon: float = 4.0
    persons: int = 40
    windows: int = 1
    embedding: int = 16
    hidden: int = 32

    def __post_init__(self) -> None:
        positive(epsilon=self.epsilon)
        in_range(2, 10_000, persons=self.persons)
        in_range(1, 1_000, windows=self.windows)


def run_inversion(
    settings: InversionSettings, *, source: Source, seed: int, progress: Callable[[str], None]
) -> Report:
    """A row for each of the module's table, means over persons.

    `precision %` is of as many guesses as a person typed different tokens, the attacker being told
    the number: recall is the same. `counts %`: of these tokens, those whose count is right.

    Raises:
        DatasetError: the data set cannot be read or has too few persons.
    """
    clock = Clock()
    rng = np.random.default_rng(seed)
    tokens, vocabulary, model = modelled(
        source, embedding=settings.embedding, hidden=settings.hidden
    )
    plan = attacked_plan(
        model,
        cohort=settings.persons,
        rounds=_PARTICIPATIONS,
        participations=_PARTICIPATIONS,
        noise_multiplier=least_noise_multiplier(settings.epsilon, float(_DELTA), _PARTICIPATIONS),
        delta=_DELTA,
        clip_norm=_CLIP,
        masked=True,
        tokens=tokens,
    )
    start = initial_vector(model, int(rng.integers(2**32)))
    batches = []
    for person in persons(source, settings.persons, _EVENTS):
        rows = training_windows(vocabulary.encode(person.events), NO_RECORDS)
        batches.append(rows[rng.choice(len(rows) - 1, size=settings.windows, replace=False)])
    found: dict[str, list[tuple[float, float]]] = {}
    for case, batch, seen in _observations(plan, start, batches, rng):
        found.setdefault(case, []).append(_read(plan, seen, batch))
    usual = Counter(np.concatenate([batch[:, 1:].ravel() for batch in batches]).tolist())
    usual.pop(START, None)
    guesses = [token for token, _ in usual.most_common()]
    found["by guess"] = [(_hits(guesses, batch), 0.0) for batch in batches]
    rows_ = []
    for case, shares in found.items():
        precision, counts = np.mean(shares, axis=0)
        progress(f"{case}: {precision:.1%} of the tokens")
        figures = {"precision %": round(100 * float(precision), 1)}
        if case != "by guess":
            figures["counts %"] = round(100 * float(counts), 1)
        claimed = settings.epsilon if case == "noised sum" else None
        rows_.append(Row(case=case, claimed_epsilon=claimed, figures=figures))
    return clock.report(
        "inversion",
        "Which tokens one device's update gives away",
        rows_,
        seed=seed,
        settings={
            "data": source_name(source),
            "persons": settings.persons,
            "windows": settings.windows,
            "tokens a window": NO_RECORDS.window_tokens,
            "parameters": model.parameters,
        },
    )


def _observations(
    plan: CampaignPlan,
    start: NDArray[np.float32],
    batches: list[NDArray[np.int64]],
    rng: np.random.Generator,
) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.float64]]]:
    """What each attacker of the table sees of each person: a case, the truth, float64[d]."""
    total, secure = StreamingSum(plan.model.trainable_parameters), secure_generator()
    target = plan.cohort.target

    def decoded(words: NDArray[np.int32]) -> NDArray[np.float64]:
        alone = signed_sum(words.view(np.uint32).astype(np.int64), plan)
        return decode_mean(alone, plan, 1) * target

    for batch in batches:
        local = PlainSettings(epochs=1, batch_windows=len(batch), learning_rate=_RATE)
        update = train_without_privacy(plan.model, start, batch, local, rng)
        noised = release(update, plan, 1, secure)
        mask = secure.integers(1 << plan.field_bits, size=len(noised), dtype=np.uint32)
        masked = (noised.view(np.uint32) + mask) & np.uint32((1 << plan.field_bits) - 1)
        total.add(noised)
        yield "unprotected", batch, update.astype(np.float64)
        yield "clipped", batch, decoded(release_without_noise(update, plan, 1, secure))
        yield "noised", batch, decoded(noised)
        yield "masked", batch, decoded(masked.view(np.int32))
    mean = decode_mean(signed_sum(total.total, plan), plan, 1)
    for batch in batches:
        yield "noised sum", batch, mean


def _read(
    plan: CampaignPlan, seen: NDArray[np.float64], batch: NDArray[np.int64]
) -> tuple[float, float]:
    """The share of right guesses of what was read, and of right counts among what was typed."""
    layout = {tensor.name: tensor for tensor in plan.model.layout()}
    table, bias = layout[EMBEDDING], layout[OUTPUT_BIAS]
    rows = seen[table.start : table.stop].reshape(table.shape)
    guesses = np.argsort(-np.linalg.norm(rows, axis=1))
    moved = seen[bias.start : bias.stop]
    # The token that was least expected gives the baseline: most tokens do not come at all.
    counts = np.rint((moved - np.median(moved)) * batch[:, 1:].size / _RATE)
    typed = Counter(batch[:, 1:].ravel().tolist())
    right = [counts[token] == times for token, times in typed.items() if token != START]
    return _hits(guesses.tolist(), batch), float(np.mean(right))


def _hits(guesses: list[int], batch: NDArray[np.int64]) -> float:
    """Of as many first guesses as different tokens were read, the share that was; START aside."""
    read = set(batch[:, :-1].ravel().tolist()) - {START}
    first = [guess for guess in guesses if guess != START][: len(read)]
    return len(read & set(first)) / len(read)
