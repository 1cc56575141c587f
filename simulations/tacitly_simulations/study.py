"""What can be learned, and what privacy costs: every way to predict, on the same held-out tails.

    for row in Study(settings, clients, ...).rows(): ...

Each person's newest fifth is predicted, never trained on; a row pools all persons' predictions.

| method                   | what it learns from                                              |
|--------------------------|------------------------------------------------------------------|
| bigram, trigram, 5-gram  | counts over all persons' older parts, pooled                     |
| trigram, each device ... | counts over each person's own older part                         |
| start model              | nobody, or text that Python ships (`Start.PUBLIC`)               |
| each device alone        | each person's own older part, from the start model               |
| central, not private     | all older parts in one place, from the start model               |
| federated ...            | rounds of the deployment's own server and training code          |

The federated rows run under Flower's simulation engine (`engines/flower.py`). Everybody takes
part in every round: participations = rounds, cohort = persons.

A row "as if N persons" is a what-if, not a result: the recorded persons' mean update stands for
the mean of N persons' updates, and the noise on it is what N persons would add (z·C/N).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from tacitly_client.training.baseline import PlainSettings
from tacitly_client.training.local import train_without_privacy
from tacitly_client.training.windows import split_by_time, training_windows
from tacitly_common.accounting.planner import least_noise_multiplier
from tacitly_common.campaign import (
    CampaignPlan,
    CohortPlan,
    LegalBasis,
    ParticipationLimits,
    References,
    ServerOptimizerName,
    ServerOptimizerPlan,
    StopRules,
    SubjectMechanism,
    TokenPlan,
    make_plan,
)
from tacitly_common.errors import ValidationError
from tacitly_common.evaluation import NOTHING, Evaluation, evaluate
from tacitly_common.model_config import ModelConfig
from tacitly_common.vocabulary import Vocabulary
from tacitly_server.bundle import app_hash
from tacitly_server.rounds.optimizer import apply
from tacitly_server.rounds.receipts import Receipt, model_sha256
from tacitly_simulations.engines.client_file import SimulatedClients, write_clients
from tacitly_simulations.engines.flower import simulate
from tacitly_simulations.engines.privacy import Privacy, one_group
from tacitly_simulations.engines.trainers import Work
from tacitly_simulations.ngram import NgramScore, pooled_ngram
from tacitly_simulations.population import Client, token_plan
from tacitly_simulations.start_model import start_model
from tacitly_simulations.study_settings import (
    ALL_RECORDS,
    ALONE,
    CENTRAL,
    EMBEDDING,
    HIDDEN,
    ONE_ROUND,
    RECORDS,
    Calibration,
    Start,
    StudySettings,
    largest_delta,
    record_epsilon,
)

SCHEMA_VERSION: Final = 1
_MOMENTUM: Final = 0.8  # the server's, in rounds without noise
# Without a bound on the noise nothing needs clipping: no update comes near.
_NO_CLIP: Final = Decimal(1_000)
_GRID_BITS: Final = 24
# Rounding at 2^-12 of the clip norm adds under a percent to the norm of 100,000 coordinates.
_MASKED_GRID_BITS: Final = 12
_WORD_BITS: Final = 32
_NOISE_OF_A_WHAT_IF: Final = Decimal("1e-9")
# A study runs in the lab and asks nobody: one month stands for all, and it does not expire.
_DATA_EPOCHS: Final = ("2026-01",)
_NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One method's score. `epsilon` is None where no subject-level privacy holds.

    `bits`: of one coordinate on its way to the server; None where nothing is sent.
    """

    method: str
    epsilon: float | None
    bits: int | None = None
    top1: float
    top3: float
    perplexity: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `tacitly-sim run --format json` prints."""

    schema_version: int = SCHEMA_VERSION
    data: str
    persons: int
    training_tokens: int
    held_out_tokens: int
    trained_parameters: int
    settings: StudySettings
    record_epsilon: float | None
    calibrations: list[Calibration]
    rows: list[Row]

    @property
    def title(self) -> str:
        """What the rows are about."""
        return f"{self.data}: {self.persons} persons, {self.held_out_tokens:,} held-out tokens"

    def to_json(self) -> str:
        """One document."""
        return msgspec.json.format(msgspec.json.encode(self)).decode()


def run_study(
    data: str,
    people: list[Client],
    options: Mapping[str, object],
    *,
    processes: int,
    progress: Callable[[str], None],
) -> Report:
    """The study of these people that `options`, the fields of `StudySettings`, ask for.

    Raises:
        ValidationError: an option is out of bounds or names no tensor of the model.
    """
    try:
        settings = msgspec.convert(options, StudySettings)
    except msgspec.ValidationError as error:
        raise ValidationError(str(error)) from error
    with TemporaryDirectory(prefix="tacitly-study-") as work:
        study = Study(settings, data, token_plan(data), people, Path(work), processes, progress)
        return study.report()


@dataclass(frozen=True)
class Study:
    """The rows of one data set. `work` is an empty folder for the engine's campaigns.

    `processes` train at once: a matter of speed alone. `progress` is told what goes on.
    """

    settings: StudySettings
    data: str
    tokens: TokenPlan
    clients: list[Client] = field(repr=False)
    work: Path
    processes: int
    progress: Callable[[str], None] = lambda _line: None

    def report(self) -> Report:
        """Run everything.

        Raises:
            ValidationError: the settings name a tensor that the model has not.
        """
        trained_parameters = self.model.trainable_parameters
        rows = []
        for row in self.rows():
            epsilon = "" if row.epsilon is None else f", ε = {row.epsilon:g}"
            self.progress(
                f"{row.method}{epsilon}: "
                f"top-1 {row.top1:.1%}, top-3 {row.top3:.1%}, perplexity {row.perplexity:.2f}"
            )
            rows.append(row)
        return Report(
            data=self.data,
            persons=len(self.clients),
            training_tokens=sum(len(older) for older, _ in self._parts),
            held_out_tokens=sum(len(newer) for _, newer in self._parts),
            trained_parameters=trained_parameters,
            settings=self.settings,
            record_epsilon=(
                record_epsilon(self.settings.rounds, 1e-5) if self.settings.record_level else None
            ),
            calibrations=[
                self.calibration(epsilon, cohort)
                for cohort in self._cohorts
                for epsilon in self.settings.epsilons
            ],
            rows=rows,
        )

    def rows(self) -> Iterator[Row]:
        """Every row, in the order of the module's table."""
        settings = self.settings
        if settings.baselines:
            for name, order in (("bigram", 2), ("trigram", 3), ("5-gram", 5)):
                streams = [client.tokens for client in self.clients]
                yield _row(name, pooled_ngram(streams, order))
            yield _row("trigram, each device alone", self._own_trigram())
            yield _row(f"start model ({settings.start})", self._score(self.start_model))
            yield _row("each device alone", self._alone())
            yield _row("central, not private", self._score(self.central_model()))
            yield self._federated("federated, not private", Privacy.NONE)
        if settings.record_level:
            yield self._federated("federated, record level alone", Privacy.RECORD)
        level = Privacy.SUBJECT_AND_RECORD if settings.record_level else Privacy.SUBJECT
        for cohort in self._cohorts:
            what_if = "" if cohort == len(self.clients) else f", as if {cohort} persons"
            for epsilon in settings.epsilons:
                name = f"federated, {level} level{what_if}"
                yield self._federated(name, level, self.calibration(epsilon, cohort))

    def calibration(self, epsilon: float, cohort: int) -> Calibration:
        """The noise for `cohort` persons who all take part in every private round."""
        rounds = self.settings.private_rounds
        delta = float(largest_delta(cohort))
        return Calibration(
            epsilon=epsilon,
            delta=delta,
            cohort=cohort,
            participations=rounds,
            noise_multiplier=least_noise_multiplier(epsilon, delta, rounds),
        )

    @property
    def _cohorts(self) -> tuple[int, ...]:
        return self.settings.as_if or (len(self.clients),)

    @cached_property
    def _parts(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        return [split_by_time(client.tokens) for client in self.clients]

    @cached_property
    def _windows(self) -> list[NDArray[np.int64]]:
        return [training_windows(older, ALL_RECORDS) for older, _ in self._parts]

    @cached_property
    def model(self) -> ModelConfig:
        """The shape of every model here."""
        return ModelConfig(
            vocabulary_size=Vocabulary(self.tokens).size,
            embedding=EMBEDDING,
            hidden=HIDDEN,
            trainable=self.settings.train,
            adapter_rank=self.settings.adapter_rank or UNSET,
        )

    @cached_property
    def start_model(self) -> NDArray[np.float32]:
        """What training begins with: float32[parameters]."""
        if self.settings.start is Start.PUBLIC:
            self.progress("training the start model on public text")
        settings = self.settings
        return start_model(self.model, Vocabulary(self.tokens), settings.start, settings.seed)

    def central_model(self) -> NDArray[np.float32]:
        """Trained on all older parts in one place: float32[parameters]."""
        self.progress("training in one place")
        windows = np.concatenate(self._windows)
        return self._trained(windows, CENTRAL, self._rng(1))

    def _own_trigram(self) -> NgramScore:
        scores = [pooled_ngram([client.tokens], 3) for client in self.clients]
        weights = [score.predictions for score in scores]
        return NgramScore(
            top1=float(np.average([score.top1 for score in scores], weights=weights)),
            top3=float(np.average([score.top3 for score in scores], weights=weights)),
            perplexity=float(
                np.exp(np.average([np.log(score.perplexity) for score in scores], weights=weights))
            ),
            predictions=sum(weights),
        )

    def _alone(self) -> Evaluation:
        score = NOTHING
        for number, (windows, (_, newer)) in enumerate(
            zip(self._windows, self._parts, strict=True), start=1
        ):
            self.progress(f"training device {number} of {len(self.clients)} alone")
            model = self._trained(windows, ALONE, self._rng(2, number))
            score += evaluate(self.model, model, [newer])
        return score

    def federated_model(
        self, method: str, privacy: Privacy, calibration: Calibration | None = None
    ) -> NDArray[np.float32]:
        """What the rounds release last: float32[parameters]. `method` names it in the progress."""
        plan = self._plan(privacy, calibration)

        def on_round(receipt: Receipt) -> None:
            self.progress(
                f"{method}{f', ε = {calibration.epsilon:g}' if calibration else ''}: "
                f"round {receipt.round} of {plan.rounds}, {receipt.seconds:.1f} s"
            )

        directory = self.work / plan.hash[:16] / privacy.name.lower()
        directory.mkdir(parents=True)
        windows = (training_windows(older, plan.record) for older, _ in self._parts)
        write_clients(directory / "clients.npy", windows)
        seed = self.settings.seed
        return simulate(
            directory,
            Work(plan, privacy, ONE_ROUND, seed),
            self.start_model,
            SimulatedClients(directory / "clients.npy", len(self.clients), seed),
            processes=self.processes,
            on_round=on_round,
        ).model

    def _federated(
        self, method: str, privacy: Privacy, calibration: Calibration | None = None
    ) -> Row:
        model = self.federated_model(method, privacy, calibration)
        plan = self._plan(privacy, calibration)
        bits = _WORD_BITS if plan.masking is None else plan.field_bits
        epsilon = calibration.epsilon if calibration else None
        return _row(method, self._score(model), epsilon, bits)

    def _plan(self, privacy: Privacy, calibration: Calibration | None) -> CampaignPlan:
        """The campaign of one federated row. Without a calibration its noise is never drawn."""
        settings, persons = self.settings, len(self.clients)
        if calibration is None:
            rounds, delta = settings.rounds, largest_delta(persons)
            learning_rate, momentum = 1.0, _MOMENTUM
            subject = SubjectMechanism(
                clip_norm=_NO_CLIP, noise_multiplier=Decimal(1), grid_bits=_GRID_BITS
            )
        else:
            rounds, delta = calibration.participations, largest_delta(calibration.cohort)
            learning_rate, momentum = settings.private_learning_rate, settings.private_momentum
            # The persons here add, together, the share of the noise that is z·C/N of a mean.
            as_if = calibration.noise_multiplier * persons / calibration.cohort
            subject = SubjectMechanism(
                clip_norm=Decimal(str(settings.clip_norm)),
                noise_multiplier=as_if.quantize(_NOISE_OF_A_WHAT_IF, ROUND_CEILING),
                encoding="rounded_gaussian" if settings.masked else "gaussian_grid",
                grid_bits=_MASKED_GRID_BITS if settings.masked else _GRID_BITS,
            )
        return make_plan(
            name="study",
            purpose="evaluation",
            legal_basis=LegalBasis.CONSENT,
            tokens=self.tokens,
            data_epochs=_DATA_EPOCHS,
            model=self.model,
            initial_model_hash=model_sha256(self.start_model),
            app_hash=app_hash(),
            rounds=rounds,
            participation=ParticipationLimits(per_campaign=rounds, per_epoch=rounds),
            delta=delta,
            subject=subject,
            record=RECORDS if privacy.protects_records else ALL_RECORDS,
            cohort=CohortPlan(
                population=max(persons, calibration.cohort if calibration else 0),
                target=persons,
                minimum=persons,
                deadline_seconds=86_400,
                selection_timeout_seconds=600,
            ),
            optimizer=ServerOptimizerPlan(
                name=ServerOptimizerName.MOMENTUM,
                learning_rate=Decimal(str(learning_rate)),
                momentum=Decimal(str(momentum)),
            ),
            stop=StopRules(lost_in_a_row=rounds),
            references=References(dpia="none: a study", works_agreement="none: a study"),
            expires=_NEVER,
            masking=one_group(persons) if settings.masked and calibration else None,
        )

    def _trained(
        self, windows: NDArray[np.int64], how: PlainSettings, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        update = train_without_privacy(self.model, self.start_model, windows, how, rng)
        return apply(self.model, self.start_model, update.astype(np.float64))

    def _score(self, model: NDArray[np.float32]) -> Evaluation:
        return evaluate(self.model, model, [newer for _, newer in self._parts])

    def _rng(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.settings.seed, *purpose))


def _row(
    method: str,
    score: NgramScore | Evaluation,
    epsilon: float | None = None,
    bits: int | None = None,
) -> Row:
    return Row(
        method=method,
        epsilon=epsilon,
        bits=bits,
        top1=score.top1,
        top3=score.top3,
        perplexity=score.perplexity,
    )
