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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tacitly_client.training.windows import split_by_time
from tacitly_common.accounting.subject import cap_nano_rho, epsilon_of
from tacitly_common.campaign import CampaignPlan
from tacitly_common.errors import ValidationError
from tacitly_common.events import data_epochs
from tacitly_common.vocabulary import Vocabulary
from tacitly_simulations.demo.deployment import Deployment
from tacitly_simulations.demo.evidence import (
    epsilon_one_device,
    epsilon_record_level,
    epsilon_server,
    sent,
    stored,
)
from tacitly_simulations.demo.people import Cast, coauthor_cast, public_model, synthetic_cast
from tacitly_simulations.demo.plan import RECORD, demo_plan, model_config
from tacitly_simulations.demo.report import Machine, Report, write_report
from tacitly_simulations.demo.rounds import (
    Watched,
    print_header,
    print_plan,
    print_round,
    start_round,
    watch,
)
from tacitly_simulations.ngram import pooled_ngram

_MARKER: Final = "tacitly-demo"
_NOISE_MULTIPLIER: Final = Decimal("0.06")
# A protective epsilon, for the line that says how many people it would take.
_PROTECTIVE_EPSILON: Final = 8.0


def run_demo(out: Path, *, data_dir: Path | None, agents: int, rounds: int) -> None:
    """Run the demo and write `out`/report.html.

    Raises:
        DemoError: no round was released for some minutes.
        ValidationError: `out` holds something that is not an earlier demo.
    """
    stage = Stage.set(out)
    with stage.console.status("preparing people and a public starting model"):
        cast = synthetic_cast(agents) if data_dir is None else coauthor_cast(data_dir, agents)
        vocabulary = Vocabulary(cast.tokens)
        streams = [vocabulary.encode(person.events) for person in cast.people]
        model = public_model(model_config(cast.tokens), cast.tokens, RECORD)
        plan = demo_plan(
            cast.tokens,
            data_epochs(event for person in cast.people for event in person.events),
            model,
            people=agents,
            minimum=agents - 2,
            rounds=rounds,
            noise_multiplier=_NOISE_MULTIPLIER,
        )
    stage.introduce(cast.label, plan)
    with Deployment.create(out / "deployment", plan, model) as deployment:
        with stage.console.status("installing agents, each with its own keys, store and ledger"):
            _install(deployment, cast)
        # Counted now: days that were learned from go when the campaign is over.
        counts = [stored(agent) for agent in deployment.agents]
        deployment.start_agents()
        stage.conduct(deployment, cast.label, streams, model, rounds, counts)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a demo is shown, and where its report goes."""

    out: Path
    console: Console
    began: float

    @classmethod
    def set(cls, out: Path) -> "Stage":
        """Remove an earlier demo, and nothing else.

        Raises:
            ValidationError: `out` holds something that is not an earlier demo.
        """

        _empty(out)
        return cls(out, Console(highlight=False), time.monotonic())

    def introduce(self, label: str, plan: CampaignPlan) -> None:
        """Say whose events these are and what will be done."""
        self.console.print(f"[bold]{label}[/bold]", soft_wrap=True)
        print_plan(self.console, plan)

    def conduct(
        self,
        deployment: Deployment,
        label: str,
        streams: Sequence[NDArray[np.int64]],
        model: NDArray[np.float32],
        rounds: int,
        counts: Sequence[int],
    ) -> None:
        """Watch all rounds of running agents, and write the report.

        Args:
            streams: everybody's tokens, int64[n] each; their tails are what is guessed.
            model: where the campaign starts, float32[parameters].
            counts: how many events each agent's store held before.

        Raises:
            DemoError: no round was released for some minutes.
        """
        plan = deployment.plan
        watched = Watched(plan, [split_by_time(stream)[1] for stream in streams])
        finished = [start_round(watched, model)]
        print_header(self.console)
        print_round(self.console, finished[0], plan)
        for item in watch(self.console, deployment, watched, rounds):
            finished.append(item)
            print_round(self.console, item, plan)
        machines = [
            Machine(agent.name, count, tuple(sent(agent)))
            for agent, count in zip(deployment.agents, counts, strict=True)
        ]
        report = Report(
            data_label=label,
            plan=plan,
            epsilon_allowed=epsilon_of(plan.cap_nano_rho, float(plan.delta)),
            epsilon_server=epsilon_server(deployment),
            epsilon_one_device=epsilon_one_device(deployment),
            epsilon_record_level=epsilon_record_level(deployment),
            protective_epsilon=_PROTECTIVE_EPSILON,
            protective_cohort=_protective_cohort(plan, rounds),
            rounds=tuple(finished),
            baselines=(
                ("trigram of everybody's events in one place", pooled_ngram(streams, 3).top1),
            ),
            machines=tuple(machines),
        )
        write_report(self.out / "report.html", report)
        self.console.print(
            f"\n{len(machines)} machines, {rounds} rounds, {time.monotonic() - self.began:.0f} s. "
            f"What left each machine: [bold]{self.out / 'report.html'}[/]"
        )


def _empty(out: Path) -> None:
    """Remove an earlier demo, and nothing else."""
    if out.exists() and any(out.iterdir()):
        if not (out / _MARKER).exists():
            raise ValidationError(f"{out} is not empty and no earlier demo; give another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARKER).touch()


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


def _protective_cohort(plan: CampaignPlan, rounds: int) -> int:
    """People a round needs for this noise on the mean at the protective ε.

    The noise on the mean is z·C/n: a z larger by some factor needs a cohort larger by it.
    """
    per_round = cap_nano_rho(_PROTECTIVE_EPSILON, float(plan.delta)) / rounds
    factor = (plan.cost_nano_rho / per_round) ** 0.5
    return int(np.ceil(factor * plan.cohort.target))
