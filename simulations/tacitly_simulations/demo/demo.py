"""`tacitly-sim demo`: a real deployment on this machine, watched from outside.

1. People: synthetic, or recorded. The newest fifth of each one's events is held out.
2. A public starting model and a plan.
3. Server and agents as separate processes; each person's events go into one agent's store.
4. Watch the receipts; score each released model on the held-out events, here, outside the
   protocol.
5. Stop everything and write the report from what the processes left on disk.
"""

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tacitly_client.ledger import DeviceLedger
from tacitly_client.training.windows import split_by_time
from tacitly_common.accounting.record import epsilon_of_rdp
from tacitly_common.accounting.subject import cap_nano_rho, epsilon_of
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
from tacitly_common.errors import TacitlyError, ValidationError
from tacitly_common.evaluation import Evaluation, evaluate
from tacitly_common.events import data_epochs
from tacitly_common.model_config import ModelConfig
from tacitly_common.vocabulary import Vocabulary
from tacitly_server.bundle import app_hash
from tacitly_server.rounds.checkpoint import previous, read_checkpoint
from tacitly_server.rounds.receipts import Outcome, Receipt, model_sha256, read_receipts
from tacitly_simulations.demo.deployment import Agent, Deployment
from tacitly_simulations.demo.people import Cast, coauthor_cast, public_model, synthetic_cast
from tacitly_simulations.demo.report import Machine, Report, Round, Sent, write_report
from tacitly_simulations.ngram import pooled_ngram

# What a lost attempt costs is not lost to the demo: everybody may pay for a few more.
_SPARE_ATTEMPTS: Final = 4
_ROUND_PATIENCE_SECONDS: Final = 150.0
_MARKER: Final = "tacitly-demo"
_RECORD: Final = RecordMechanism(
    window_tokens=32,
    max_windows=512,
    sample_rate=Decimal("0.5"),
    steps=10,
    noise_multiplier=Decimal("0.5"),
    clip_norm=Decimal("0.4"),
    learning_rate=Decimal(12),
    cap_epsilon=Decimal(10_000),
)
# A protective epsilon, for the line that says how many people it would take.
_PROTECTIVE_EPSILON: Final = 8.0


class DemoError(TacitlyError):
    """The deployment did not get through its rounds; the message says where to look."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What the demo's evaluator knows beside the deployment: the held-out tails, int64[n] each."""

    plan: CampaignPlan
    tails: list[NDArray[np.int64]]

    def score(self, model: NDArray[np.float32]) -> Evaluation:
        """How well a model does on everybody's held-out events."""
        return evaluate(self.plan.model, model, self.tails)


def run_demo(out: Path, *, data_dir: Path | None, agents: int, rounds: int) -> None:
    """Run the demo and write `out`/report.html.

    Raises:
        DemoError: no round was released for some minutes.
        ValidationError: `out` holds something that is not an earlier demo.
    """
    import torch

    torch.set_num_threads(1)
    console = Console(highlight=False)
    began = time.monotonic()
    _empty(out)
    with console.status("preparing people and a public starting model"):
        cast = synthetic_cast(agents) if data_dir is None else coauthor_cast(data_dir, agents)
        streams = _streams(cast)
        config = ModelConfig(
            vocabulary_size=Vocabulary(cast.tokens).size,
            embedding=32,
            hidden=64,
            trainable=("output.weight", "output.bias"),
        )
        model = public_model(config, cast.tokens, _RECORD)
        plan = _plan(cast, config, model, rounds)
        watched = Watched(plan, [split_by_time(stream)[1] for stream in streams])
    console.print(f"[bold]{cast.label}[/bold]", soft_wrap=True)
    _print_plan(console, plan)
    with Deployment.create(out / "deployment", plan, model) as deployment:
        with console.status("installing agents, each with its own keys, store and ledger"):
            _install(deployment, cast)
        # Counted now: days that were learned from go when the campaign is over.
        stored = {agent.name: _stored(agent) for agent in deployment.agents}
        deployment.start_agents()
        finished = [_start_round(watched, model)]
        _print_header(console)
        _print_round(console, finished[0], plan)
        for item in _watch(console, deployment, watched, rounds):
            finished.append(item)
            _print_round(console, item, plan)
    report = Report(
        data_label=cast.label,
        plan=plan,
        epsilon_allowed=epsilon_of(plan.cap_nano_rho, float(plan.delta)),
        epsilon_one_device=_epsilon_one_device(deployment),
        epsilon_record_level=_epsilon_record_level(deployment),
        protective_epsilon=_PROTECTIVE_EPSILON,
        protective_cohort=_protective_cohort(plan, rounds),
        rounds=tuple(finished),
        baselines=(("trigram of everybody's events in one place", pooled_ngram(streams, 3).top1),),
        machines=tuple(
            Machine(agent.name, stored[agent.name], tuple(_sent(agent)))
            for agent in deployment.agents
        ),
    )
    write_report(out / "report.html", report)
    console.print(
        f"\n{len(deployment.agents)} machines, {rounds} rounds, "
        f"{time.monotonic() - began:.0f} s. What left each machine: [bold]{out / 'report.html'}[/]"
    )


def _empty(out: Path) -> None:
    """Remove an earlier demo, and nothing else."""
    if out.exists() and any(out.iterdir()):
        if not (out / _MARKER).exists():
            raise ValidationError(f"{out} is not empty and no earlier demo; give another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARKER).touch()


def _streams(cast: Cast) -> list[NDArray[np.int64]]:
    vocabulary = Vocabulary(cast.tokens)
    return [vocabulary.encode(person.events) for person in cast.people]


def _plan(cast: Cast, config: ModelConfig, model: NDArray[np.float32], rounds: int) -> CampaignPlan:
    people = len(cast.people)
    attempts = rounds + _SPARE_ATTEMPTS
    return make_plan(
        name="demo",
        purpose="next-interaction",
        legal_basis=LegalBasis.CONSENT,
        tokens=cast.tokens,
        data_epochs=data_epochs(event for person in cast.people for event in person.events),
        model=config,
        initial_model_hash=model_sha256(model),
        app_hash=app_hash(),
        rounds=rounds,
        participation=ParticipationLimits(per_campaign=attempts, per_epoch=attempts),
        delta=Decimal("0.001"),
        subject=SubjectMechanism(clip_norm=Decimal(2), noise_multiplier=Decimal("0.06")),
        record=_RECORD,
        cohort=CohortPlan(
            population=people,
            target=people,
            minimum=people - 2,
            deadline_seconds=60,
            selection_timeout_seconds=60,
        ),
        optimizer=ServerOptimizerPlan(
            name=ServerOptimizerName.MOMENTUM,
            learning_rate=Decimal(1),
            momentum=Decimal("0.5"),
        ),
        stop=StopRules(lost_in_a_row=attempts),
        references=References(
            dpia="none: a demonstration", works_agreement="none: a demonstration"
        ),
        expires=datetime.now(UTC).replace(microsecond=0) + timedelta(days=1),
    )


def _install(deployment: Deployment, cast: Cast) -> None:
    names = [f"machine-{number:02d}" for number in range(1, len(cast.people) + 1)]
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(
                lambda pair: deployment.add_agent(pair[0], pair[1].events),
                zip(names, cast.people, strict=True),
            )
        )
    deployment.agents.sort(key=lambda agent: agent.name)


def _watch(
    console: Console, deployment: Deployment, watched: Watched, rounds: int
) -> Iterator[Round]:
    """Each released round as it comes, scored; lost attempts are mentioned and waited out."""
    directory = deployment.server.campaign(watched.plan.hash)
    seen = released = 0
    deadline = time.monotonic() + _ROUND_PATIENCE_SECONDS
    with console.status("round 1") as status:
        while released < rounds:
            receipts = read_receipts(directory.receipts)
            for receipt in receipts[seen:]:
                deadline = time.monotonic() + _ROUND_PATIENCE_SECONDS
                if receipt.outcome is Outcome.LOST:
                    console.print(f"round {receipt.round}: attempt lost {receipt.refusals}")
                    continue
                released += 1
                status.update(f"round {released + 1}")
                yield _round(watched, deployment, receipt, receipts)
            seen = len(receipts)
            if time.monotonic() > deadline:
                raise DemoError(
                    f"no round was released for {_ROUND_PATIENCE_SECONDS:.0f} s; "
                    f"see {deployment.root / 'logs'} and {deployment.server.logs}"
                )
            time.sleep(0.2)


def _start_round(watched: Watched, model: NDArray[np.float32]) -> Round:
    score = watched.score(model)
    return Round(0, 0, score.top1, score.top3, score.perplexity, 0.0, 0, 0.0)


def _round(
    watched: Watched, deployment: Deployment, receipt: Receipt, receipts: list[Receipt]
) -> Round:
    """A released round's line. The newest checkpoint may be a round ahead by now."""
    plan = watched.plan
    newest = deployment.server.campaign(plan.hash).checkpoint
    checkpoint = read_checkpoint(newest, plan)
    if model_sha256(checkpoint.model) != receipt.model_sha256:
        checkpoint = read_checkpoint(previous(newest), plan)
    score = watched.score(checkpoint.model)
    paid = receipts.index(receipt) + 1
    return Round(
        number=receipt.round,
        cohort=receipt.usable,
        top1=score.top1,
        top3=score.top3,
        perplexity=score.perplexity,
        epsilon=epsilon_of(paid * plan.cost_nano_rho, float(plan.delta)),
        bytes_up=receipt.bytes_up,
        seconds=receipt.seconds,
    )


def _epsilon_one_device(deployment: Deployment) -> float:
    """At most what the server's operator learns of one device from its own noised updates.

    A share has a `minimum`-th of the sum's variance, so a participation costs `minimum` times
    as much against whoever sees the share alone.
    """
    plan = deployment.plan
    paid = max(len(_paid(agent)) for agent in deployment.agents)
    return epsilon_of(paid * plan.cost_nano_rho * plan.cohort.minimum, float(plan.delta))


def _epsilon_record_level(deployment: Deployment) -> float:
    """The most any device spent at the record level."""
    delta, spent = float(deployment.plan.delta), []
    for agent in deployment.agents:
        with DeviceLedger.open(agent.home.ledger) as ledger:
            spent.append(epsilon_of_rdp(ledger.record_rdp(deployment.plan.hash), delta))
    return max(spent)


def _protective_cohort(plan: CampaignPlan, rounds: int) -> int:
    """People a round needs for this noise on the mean at the protective ε.

    The noise on the mean is z·C/n: a z larger by some factor needs a cohort larger by it.
    """
    per_round = cap_nano_rho(_PROTECTIVE_EPSILON, float(plan.delta)) / rounds
    factor = (plan.cost_nano_rho / per_round) ** 0.5
    return int(np.ceil(factor * plan.cohort.target))


class _Reply(msgspec.Struct, frozen=True):
    """A journal's line of an answer to a task."""

    round: int
    code: str
    bytes: int
    sha256: str


class _JournalLine(msgspec.Struct, frozen=True):
    """Any line: `call` names what was asked of the desk, and is empty in an answer's."""

    call: str = ""


def _sent(agent: Agent) -> list[Sent]:
    lines = agent.home.egress_journal.read_bytes().splitlines()
    replies = [
        msgspec.json.decode(line, type=_Reply)
        for line in lines
        if not msgspec.json.decode(line, type=_JournalLine).call
    ]
    return [Sent(reply.round, reply.code.lower(), reply.bytes, reply.sha256) for reply in replies]


def _paid(agent: Agent) -> list[Sent]:
    return [sent for sent in _sent(agent) if sent.code == "ok"]


def _stored(agent: Agent) -> int:
    from tacitly_client.store import EventStore

    with EventStore.open(agent.home.store) as store:
        return store.count()


def _print_plan(console: Console, plan: CampaignPlan) -> None:
    console.print(
        f"{plan.cohort.target} machines train {plan.model.trainable_parameters:,} of the model's "
        f"{plan.model.parameters:,} parameters; plan {plan.hash[:16]}\n",
        soft_wrap=True,
    )


def _print_header(console: Console) -> None:
    console.print(
        f"[dim]{'round':>5} {'machines':>9} {'top-1':>7} {'top-3':>7} {'perplexity':>11}"
        f"{'ε / allowed':>15} {'bytes sent':>11} {'seconds':>8}[/dim]"
    )


def _print_round(console: Console, item: Round, plan: CampaignPlan) -> None:
    budget = f"{item.epsilon:.0f} / {epsilon_of(plan.cap_nano_rho, float(plan.delta)):.0f}"
    console.print(
        f"{item.number:>5} {item.cohort or 'start':>9} {item.top1:>7.1%} {item.top3:>7.1%} "
        f"{item.perplexity:>11.2f}{budget:>15} {item.bytes_up:>11,} {item.seconds:>8.1f}"
    )
