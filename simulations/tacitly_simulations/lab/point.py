"""One point of a study: a setting and a seed -> a row of the results table."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from tacitly_client.training.windows import split_by_time, training_windows
from tacitly_common.accounting.planner import least_noise_multiplier
from tacitly_common.accounting.subject import epsilon_of
from tacitly_common.campaign import (
    CampaignPlan,
    CohortPlan,
    LegalBasis,
    ParticipationLimits,
    RecordMechanism,
    References,
    ServerOptimizerName,
    ServerOptimizerPlan,
    StopRules,
    SubjectMechanism,
    make_plan,
)
from tacitly_common.errors import ValidationError
from tacitly_common.model_config import ModelConfig
from tacitly_server.bundle import app_hash
from tacitly_server.rounds.receipts import Outcome, Receipt, model_sha256
from tacitly_simulations.engines.availability import ALWAYS
from tacitly_simulations.engines.client_file import SimulatedClients, write_clients
from tacitly_simulations.engines.correlated_noise import normalised, spread
from tacitly_simulations.engines.privacy import Privacy
from tacitly_simulations.engines.trainers import Work
from tacitly_simulations.lab.description import Engine, Point, shown
from tacitly_simulations.population import Client, Unit, token_plan, tokenizer
from tacitly_simulations.start_model import start_model
from tacitly_simulations.study_settings import largest_delta

if TYPE_CHECKING:
    from tacitly_common.evaluation import Evaluation

_NO_CLIP: Final = Decimal(1_000)  # no update comes near it
_GRID_BITS: Final = 24
_LOST_IN_A_ROW: Final = 20
_WORST: Final = 0.1


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What came out. Every field is the same to the bit when a seeded study is run again.

    `epsilon` is None without subject-level noise; it and `delta` are of the whole run.
    `persons` were recorded, `clients` simulated: those beyond the persons are resampled.
    `top1_worst_decile` is the mean over the tenth of persons (at least one) served worst.
    `noise_to_clip` is the norm of the noise on a mean update in clip norms, z·sqrt(d)/cohort, z
    without the count's share where the clip adapts (`last_clip_norm` is where it came to), over a
    round's own noise where that is correlated.
    Those of `personal` are each person's own model, which nobody else ever has.
    `keys_saved` and `click_top1` (usefulness.py) are None where the data hold no keys or no clicks,
    and where a token is a word.
    """

    key: str
    engine: str
    seed: int
    axes: dict[str, str]
    data: str
    persons: int
    clients: int
    resampled: bool
    cohort: int
    rounds: int
    participations: int
    epsilon: float | None
    delta: float
    noise_multiplier: float | None
    noise_to_clip: float | None
    trained_parameters: int
    attempts_lost: int
    client_rounds: int
    predictions: int
    top1: float
    top3: float
    perplexity: float
    top1_worst_decile: float
    top1_spread: float
    model_sha256: str
    keys_saved: float | None = None
    click_top1: float | None = None
    last_clip_norm: float | None = None
    top1_personal: float | None = None
    top3_personal: float | None = None
    perplexity_personal: float | None = None
    top1_worst_decile_personal: float | None = None


@dataclass(frozen=True)
class People:
    """The recorded persons of a study, each one's older and newer part."""

    data: str
    clients: Sequence[Client] = field(repr=False)

    def parts(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """(trained on, held out) of each."""
        return [split_by_time(client.tokens) for client in self.clients]


@dataclass(frozen=True, slots=True)
class Watching:
    """What is told while a point runs: each attempt, and the clients trained in the running one."""

    on_round: Callable[[Receipt, CampaignPlan], None]
    on_clients: Callable[[int], None]


def run_point(
    point: Point,
    people: People,
    directory: Path,
    *,
    processes: int,
    ray_address: str | None,
    watching: Watching,
) -> Row:
    """Train and score. `directory` holds what lets it go on after a kill.

    It trains in `processes` processes here, or on the Ray cluster at `ray_address`.

    Raises:
        ValidationError: settings that do not fit this data, or each other.
        CampaignEndedError: too few clients were there, too often in a row.
    """
    model = point.model.config(tokenizer(point.data.name, point.data.tokens).size)
    count = point.population.clients or len(people.clients)
    record = _record(point)
    clients_file = _clients_file(directory, point, people, record)
    clients = SimulatedClients(clients_file, count, point.seed)
    start = start_model(
        model,
        tokenizer(people.data, point.data.tokens),
        point.model.start,
        point.seed,
        cache=directory.parent,
    )
    plan = _plan(point, model, record, start, count)
    adaptive = point.plan.adaptive_clip(plan.cohort.target)
    work = Work(
        plan,
        _privacy(point),
        point.local.settings(),
        point.seed,
        clip_by_tensor=point.plan.clip_by == "tensor",
        adaptive_clip=adaptive,
        noise_coefficients=normalised(point.plan.noise_coefficients)
        if point.plan.noise_coefficients
        else (),
    )

    def on_round(receipt: Receipt) -> None:
        watching.on_round(receipt, plan)

    availability = point.population.availability()
    if point.engine is Engine.BATCHED:
        from tacitly_simulations.engines import batched

        simulated = batched.simulate(
            directory / "run",
            work,
            start,
            clients,
            processes=processes,
            ray_address=ray_address,
            availability=availability,
            on_round=on_round,
            on_clients=watching.on_clients,
        )
    else:
        if point.data.tokens is Unit.WORDS:
            raise ValidationError('data.tokens = "words" needs engine = "batched"')
        if work.noise_coefficients:
            raise ValidationError(
                'plan.noise_coefficients need engine = "batched": devices share independent noise; '
                "leave them out"
            )
        if work.clip_by_tensor or adaptive is not None:
            raise ValidationError(
                'plan.clip_by and clip_quantile need engine = "batched": a device clips its whole '
                "update to the plan's norm; leave them out"
            )
        if availability != ALWAYS:
            raise ValidationError(
                'population.online, diurnal and dropout need engine = "batched"; leave them out'
            )
        from tacitly_simulations.engines import flower

        simulated = flower.simulate(
            directory / "run",
            work,
            start,
            clients,
            processes=processes,
            ray_address=ray_address,
            on_round=on_round,
        )
    # Only now: until here this process needs no torch, which takes 150 MB.

    from tacitly_common.evaluation import evaluate_each

    newer = [held_out for _, held_out in people.parts()]
    scores = evaluate_each(model, simulated.model, newer)
    row = _row(point, people, work, clients, simulated.receipts, simulated.model, newer, scores)
    settings = point.personal.settings()
    if settings is None:
        return row
    from tacitly_simulations.lab.personal import personal_scores

    own = personal_scores(
        work,
        simulated.model,
        clients,
        newer,
        train=point.personal.train,
        settings=settings,
        processes=processes,
    )
    return _with_personal(row, own)


def spent_epsilon(plan: CampaignPlan, rounds: int) -> float:
    """ε of who was asked in each of the first `rounds` rounds, as far as the plan lets them be."""
    times = min(rounds, plan.participation.per_campaign)
    return epsilon_of(times * plan.cost_nano_rho, float(plan.delta))


def _row(
    point: Point,
    people: People,
    work: Work,
    clients: SimulatedClients,
    receipts: Sequence[Receipt],
    model: NDArray[np.float32],
    newer: Sequence[NDArray[np.int64]],
    scores: Sequence["Evaluation"],
) -> Row:
    from tacitly_common.evaluation import NOTHING
    from tacitly_simulations.lab.usefulness import click_top1, keys_saved

    plan, adaptive = work.plan, work.adaptive_clip
    epsilon = None if point.plan.epsilon == "none" else point.plan.epsilon
    private = epsilon is not None
    on_device = point.data.tokens is Unit.CHARACTERS  # a device's suggestions know no others
    whole = sum(scores, NOTHING)
    each = _top1_of_each(scores)
    noise = float(plan.subject.noise_multiplier)
    of_updates = noise
    if private and adaptive is not None:
        of_updates = float(adaptive.noise_of_updates(plan.subject.noise_multiplier))
    if work.noise_coefficients:
        of_updates *= spread(work.noise_coefficients, plan.rounds)
    clips = [receipt.clip.norm for receipt in receipts if receipt.clip is not None]
    dimension = plan.model.trainable_parameters
    return Row(
        key=point.key,
        engine=point.engine,
        seed=point.seed,
        axes={name: shown(value) for name, value in point.axes.items()},
        data=people.data,
        persons=clients.persons,
        clients=clients.count,
        resampled=clients.count > clients.persons,
        cohort=plan.cohort.target,
        rounds=plan.rounds,
        participations=plan.participation.per_campaign,
        epsilon=epsilon,
        delta=float(plan.delta),
        noise_multiplier=noise if private else None,
        noise_to_clip=of_updates * math.sqrt(dimension) / plan.cohort.target if private else None,
        trained_parameters=dimension,
        attempts_lost=sum(receipt.outcome is Outcome.LOST for receipt in receipts),
        client_rounds=sum(receipt.usable for receipt in receipts),
        predictions=whole.predictions,
        top1=whole.top1,
        top3=whole.top3,
        perplexity=whole.perplexity,
        top1_worst_decile=_worst_decile(each),
        top1_spread=float(each.std()),
        model_sha256=model_sha256(model),
        keys_saved=(
            keys_saved(plan.model, plan.tokens, model, [c.tokens for c in people.clients])
            if on_device
            else None
        ),
        click_top1=click_top1(plan.model, plan.tokens, model, newer) if on_device else None,
        last_clip_norm=clips[-1] if clips else None,
    )


def _with_personal(row: Row, scores: Sequence["Evaluation"]) -> Row:
    from tacitly_common.evaluation import NOTHING

    whole = sum(scores, NOTHING)
    return msgspec.structs.replace(
        row,
        top1_personal=whole.top1,
        top3_personal=whole.top3,
        perplexity_personal=whole.perplexity,
        top1_worst_decile_personal=_worst_decile(_top1_of_each(scores)),
    )


def _top1_of_each(scores: Sequence["Evaluation"]) -> NDArray[np.float64]:
    """Ascending."""
    return np.sort([score.top1 for score in scores if score.predictions])


def _worst_decile(ascending: NDArray[np.float64]) -> float:
    return float(ascending[: max(1, int(_WORST * len(ascending)))].mean())


def _privacy(point: Point) -> Privacy:
    subject = point.plan.epsilon != "none"
    if point.plan.record_level:
        return Privacy.SUBJECT_AND_RECORD if subject else Privacy.RECORD
    return Privacy.SUBJECT if subject else Privacy.NONE


def _record(point: Point) -> RecordMechanism:
    """With the record level off nothing bounds how much of a person's data a round may use."""
    part = point.record
    return RecordMechanism(
        window_tokens=point.local.window_tokens,
        max_windows=(
            part.max_windows if point.plan.record_level else point.local.max_windows or 1_000_000
        ),
        sample_rate=Decimal(str(part.sample_rate)),
        steps=part.steps,
        noise_multiplier=Decimal(str(part.noise_multiplier)),
        clip_norm=Decimal(str(part.clip_norm)),
        learning_rate=Decimal(str(part.learning_rate)),
        cap_epsilon=Decimal(1_000),
    )


def _clients_file(directory: Path, point: Point, people: People, record: RecordMechanism) -> Path:
    """All points of a study with the same windows share one file."""
    data = msgspec.json.encode(msgspec.structs.replace(point.data, directory=""))
    whose = hashlib.sha256(data).hexdigest()[:8]
    name = f"clients-{whose}-{record.window_tokens}-{record.max_windows}.npy"
    path = directory.parent / name
    if not path.exists():
        unfinished = path.with_name(f"new-{name}")
        write_clients(unfinished, (training_windows(older, record) for older, _ in people.parts()))
        ends = f"{unfinished.name}.ends.npy"
        unfinished.with_name(ends).replace(path.with_name(f"{name}.ends.npy"))
        unfinished.replace(path)
    return path


def _plan(
    point: Point,
    model: ModelConfig,
    record: RecordMechanism,
    start: NDArray[np.float32],
    clients: int,
) -> CampaignPlan:
    part = point.plan
    cohort = part.cohort or clients
    if cohort > clients:
        raise ValidationError(
            f"plan.cohort is {cohort} of {clients} clients; ask for at most {clients}, "
            "or set population.clients"
        )
    participations = part.participations or part.rounds
    delta = largest_delta(clients)
    noise = (
        Decimal(1)  # never drawn
        if part.epsilon == "none"
        else least_noise_multiplier(part.epsilon, float(delta), participations)
    )
    share = (1 - point.population.dropout) * point.population.online
    return make_plan(
        name="study",
        purpose="evaluation",
        legal_basis=LegalBasis.CONSENT,
        tokens=token_plan(point.data.name),
        # A study runs in the lab and asks nobody: one month stands for all, it does not expire.
        data_epochs=("2026-01",),
        model=model,
        initial_model_hash=model_sha256(start),
        app_hash=app_hash(),
        rounds=part.rounds,
        participation=ParticipationLimits(
            per_campaign=participations,
            per_epoch=participations,
            minimum_gap_rounds=part.minimum_gap_rounds,
        ),
        delta=delta,
        subject=SubjectMechanism(
            clip_norm=_NO_CLIP if part.clip_norm == "none" else Decimal(str(part.clip_norm)),
            noise_multiplier=noise,
            grid_bits=_GRID_BITS,
        ),
        record=record,
        cohort=CohortPlan(
            population=clients,
            target=cohort,
            # Room for those who are away or give up; the noise is set for the fewest.
            minimum=max(2, int(cohort * share * 0.8)) if share < 1 else cohort,
            deadline_seconds=86_400,
            selection_timeout_seconds=600,
        ),
        optimizer=ServerOptimizerPlan(
            name=ServerOptimizerName(part.optimizer),
            learning_rate=Decimal(str(part.learning_rate)),
            momentum=Decimal(str(part.momentum)),
        ),
        stop=StopRules(lost_in_a_row=_LOST_IN_A_ROW),
        references=References(dpia="none: a study", works_agreement="none: a study"),
        expires=datetime(9999, 1, 1, tzinfo=UTC),
    )
