"""Canary exposure: is what one person typed f times in the model for whoever asks it?

Secrets are five random letters after a fixed phrase. A secret's exposure is log2 of the number of
candidates less log2 of its rank among them by likelihood (Carlini et al. 2019, "The secret
sharer", section 4: random candidates). One that nobody typed has more than b bits with a
probability of 2^-b; the most there can be is log2 of the candidates.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from math import log2
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from tacitly_client.training.baseline import PlainSettings
from tacitly_client.training.windows import training_windows
from tacitly_common.accounting.planner import least_noise_multiplier
from tacitly_common.campaign import CampaignPlan
from tacitly_common.model import InteractionModel, initial_vector, load_vector
from tacitly_common.model_config import ModelConfig
from tacitly_common.validation import in_range, positive
from tacitly_common.vocabulary import Vocabulary
from tacitly_simulations.attacks.bounds import epsilon_of_guesses
from tacitly_simulations.attacks.federation import Protection, federate
from tacitly_simulations.attacks.people import Source, modelled, persons, source_name
from tacitly_simulations.attacks.plans import NO_RECORDS, attacked_plan
from tacitly_simulations.attacks.report import Clock, Report, Row
from tacitly_simulations.datasets.person import SECOND, Person, typed
from tacitly_simulations.figures import save_svg

PHRASE: Final = "my password is "
_LETTERS: Final = 5
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz"
_DELTA: Final = Decimal("1e-6")
_MOMENTUM: Final = Decimal("0.8")  # the server's
_LOCAL: Final = PlainSettings(epochs=1, batch_windows=16, learning_rate=0.5, momentum=0.9)


@dataclass(frozen=True, slots=True)
class ExposureSettings:
    """`persons` for each frequency, of whom a fair coin lets half take part, each with a secret.

    `events`: of each person's own, beside the secret. `private_rounds`: of the clipped rows.
    """

    frequencies: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    persons: int = 8
    events: int = 2_000
    rounds: int = 100
    private_rounds: int = 10
    epsilon: float = 4.0
    confidence: float = 0.95
    candidates: int = 4_096
    embedding: int = 16
    hidden: int = 64

    def __post_init__(self) -> None:
        for frequency in self.frequencies:
            in_range(1, 1_000, frequency=frequency)
        in_range(1, 1_000, persons=self.persons)
        in_range(100, 1_000_000, events=self.events)
        in_range(1, 1_000, rounds=self.rounds, private_rounds=self.private_rounds)
        in_range(16, 1_000_000, candidates=self.candidates)
        positive(epsilon=self.epsilon)


@dataclass(frozen=True, slots=True)
class Planted:
    """A person's secret, how often they typed it, and whether they took part."""

    secret: str
    frequency: int
    present: bool


def run_exposure(
    settings: ExposureSettings,
    *,
    source: Source,
    seed: int,
    progress: Callable[[str], None],
    plot: Path | None = None,
) -> Report:
    """Rows by protection and frequency; those of frequency 0 are the secrets nobody typed.

    Raises:
        DatasetError: the data set cannot be read or has too few persons.
    """
    clock = Clock()
    rng = np.random.default_rng(seed)
    tokens, vocabulary, model = modelled(
        source, embedding=settings.embedding, hidden=settings.hidden
    )
    secrets = [
        Planted(secret, frequency, bool(present))
        for frequency, secret, present in zip(
            np.repeat(settings.frequencies, settings.persons).tolist(),
            _secrets(len(settings.frequencies) * settings.persons, rng),
            rng.random(len(settings.frequencies) * settings.persons) < 0.5,
            strict=True,
        )
    ]
    windows = [
        training_windows(vocabulary.encode(plant(person, each).events), NO_RECORDS)
        if each.present
        else None
        for each, person in zip(
            secrets, persons(source, len(secrets), settings.events), strict=True
        )
    ]
    candidates = _secrets(settings.candidates, rng)
    start = initial_vector(model, int(rng.integers(2**32)))
    rows: list[Row] = []
    for protection in Protection:
        rounds = settings.rounds if protection is Protection.NONE else settings.private_rounds
        plan = attacked_plan(
            model,
            cohort=len(secrets),
            rounds=rounds,
            participations=rounds,
            noise_multiplier=least_noise_multiplier(settings.epsilon, float(_DELTA), rounds),
            delta=_DELTA,
            momentum=_MOMENTUM,
            tokens=tokens,
        )
        trained = federate(
            plan,
            start,
            windows,
            local=_LOCAL,
            protection=protection,
            rng=rng,
            on_round=partial(_tell, progress, protection, rounds),
        )
        found = exposures(vocabulary, model, trained, [each.secret for each in secrets], candidates)
        rows += _rows(settings, plan, protection, secrets, found)
    report = clock.report(
        "exposure",
        "Bits by which a typed secret stands out, by how often one person typed it",
        rows,
        seed=seed,
        settings={
            "data": source_name(source),
            "persons": len(secrets),
            "present": sum(each.present for each in secrets),
            "rounds": settings.rounds,
            "private rounds": settings.private_rounds,
            "epsilon": settings.epsilon,
            "candidates": settings.candidates,
            "parameters": model.parameters,
        },
        delta=float(_DELTA),
        confidence=settings.confidence,
    )
    if plot is not None:
        plot_exposure(report, plot)
    return report


def plant(person: Person, planted: Planted) -> Person:
    """The person with `frequency` short sessions more, each the phrase and the secret.

    They lie among the person's own, as evenly as these allow; the last is never a planted one,
    where they have any, so that the held-out tail is theirs.
    """
    line = f"{PHRASE}{planted.secret}\n"
    own = len(person.sessions)
    sessions = []
    for index, session in enumerate(person.sessions):
        first, last = (planted.frequency * k // own for k in (index, index + 1))
        for _ in range(first, last):
            wall = session[0].wall_ns - SECOND
            sessions.append(tuple(typed(line, wall_ns=wall, started_ns=wall)))
        sessions.append(session)
    return Person(person.id, tuple(sessions))


def exposures(
    vocabulary: Vocabulary,
    config: ModelConfig,
    vector: NDArray[np.float32],
    secrets: Sequence[str],
    candidates: Sequence[str],
) -> NDArray[np.float64]:
    """Bits of each secret: float64[secrets]. Ties count against the attacker."""
    model = InteractionModel(config)
    load_vector(model, vector)
    likelihoods = _likelihoods(vocabulary, model, [*secrets, *candidates])
    of_secrets, others = likelihoods[: len(secrets)], likelihoods[len(secrets) :]
    ranks = 1 + (others[None, :] >= of_secrets[:, None]).sum(axis=1)
    bits: NDArray[np.float64] = log2(len(candidates) + 1) - np.log2(ranks)
    return bits


def plot_exposure(report: Report, out: Path) -> None:
    """Exposure against frequency, as SVG: one line for each protection."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    lines: dict[str, list[tuple[float, float, float]]] = {}
    for row in report.rows:
        name, times = row.case.split(", ")[0], row.figures["typed"]
        if times:
            point = (times, row.figures["median bits"], row.figures["most bits"])
            lines.setdefault(name, []).append(point)
    epsilon = f"ε = {report.settings['epsilon']:g}"
    colours = ("#c2410c", "#1d4ed8", "#0f766e")
    for (name, points), colour in zip(lines.items(), colours, strict=True):
        label = f"{name}, {epsilon}" if name == Protection.NOISED else name
        typed_times, median, most = zip(*points, strict=True)
        axes.plot(typed_times, median, "o-", color=colour, label=f"{label} (median)")
        axes.plot(typed_times, most, ":", color=colour, linewidth=1)
    axes.axhline(1, color="#7f8ea3", linestyle="--", linewidth=1, label="never typed (median)")
    axes.set_xscale("log", base=2)
    frequencies = sorted({point[0] for points in lines.values() for point in points})
    axes.set_xticks(frequencies, [f"{frequency:g}" for frequency in frequencies])
    axes.set(
        xlabel="how often one person typed the secret", ylabel="exposure, bits", ylim=(0, None)
    )
    axes.set_title(
        "What the model gives away of a typed secret (dotted: the worst one)",
        fontsize=11,
        loc="left",
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    save_svg(figure, out)


def _tell(progress: Callable[[str], None], protection: str, rounds: int, number: int) -> None:
    progress(f"{protection}: round {number} of {rounds}")


def _rows(
    settings: ExposureSettings,
    plan: CampaignPlan,
    protection: Protection,
    secrets: Sequence[Planted],
    bits: NDArray[np.float64],
) -> list[Row]:
    """One row for each frequency, and one for the secrets of people who were not there.

    That row has the test of all: the chance that such a difference between seen and unseen comes
    about by itself (Mann and Whitney 1947), and the ε that the best eighth of guesses shows.
    """
    seen = np.array([each.present for each in secrets])
    rows = []
    for frequency in settings.frequencies:
        at = np.array([each.frequency == frequency and each.present for each in secrets])
        if at.any():
            rows.append(
                Row(case=f"{protection}, typed {frequency}", figures=_bits(frequency, bits[at]))
            )
    p_value = float(stats.mannwhitneyu(bits[seen], bits[~seen], alternative="greater").pvalue)
    error = (1 - settings.confidence) / 2
    measured, order = 0.0, np.argsort(bits)
    for guesses in (max(1, len(bits) // 8), max(1, len(bits) // 4)):
        right = int(seen[order[-guesses:]].sum())
        shown = epsilon_of_guesses(len(bits), guesses, right, delta=float(plan.delta), error=error)
        measured = max(measured, shown)
    rows.append(
        Row(
            case=f"{protection}, never typed",
            claimed_epsilon=settings.epsilon if protection is Protection.NOISED else None,
            measured_epsilon=round(measured, 4),
            figures=_bits(0, bits[~seen]) | {"p seen = unseen": round(p_value, 6)},
        )
    )
    return rows


def _bits(frequency: int, bits: NDArray[np.float64]) -> dict[str, float]:
    return {
        "typed": frequency,
        "secrets": len(bits),
        "median bits": round(float(np.median(bits)), 2),
        "most bits": round(float(bits.max()), 2),
    }


def _likelihoods(
    vocabulary: Vocabulary, model: InteractionModel, secrets: Sequence[str]
) -> NDArray[np.float64]:
    """Log-likelihood of each secret after the phrase: float64[secrets]."""
    tokens = torch.from_numpy(
        np.stack([vocabulary.encode(typed(PHRASE + s, wall_ns=0, started_ns=0)) for s in secrets])
    )
    with torch.inference_mode():
        chances = torch.log_softmax(model(tokens[:, :-1]), dim=2)
    own = chances.gather(2, tokens[:, 1:, None])[:, -_LETTERS:, 0]
    likelihoods: NDArray[np.float64] = own.double().sum(1).numpy()
    return likelihoods


def _secrets(count: int, rng: np.random.Generator) -> list[str]:
    letters = rng.integers(len(_ALPHABET), size=(count, _LETTERS))
    return ["".join(_ALPHABET[letter] for letter in row) for row in letters]
