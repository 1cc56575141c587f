"""A campaign's rounds as they are released, scored outside the protocol, and how they are shown."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tacitly_common.accounting.subject import epsilon_of
from tacitly_common.campaign import CampaignPlan
from tacitly_common.errors import TacitlyError
from tacitly_common.evaluation import Evaluation, evaluate
from tacitly_server.rounds.checkpoint import previous, read_checkpoint
from tacitly_server.rounds.receipts import Outcome, Receipt, model_sha256, read_receipts
from tacitly_simulations.demo.deployment import Deployment
from tacitly_simulations.demo.report import Round

_ROUND_PATIENCE_SECONDS: Final = 150.0


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


def watch(
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


def start_round(watched: Watched, model: NDArray[np.float32]) -> Round:
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


def print_plan(console: Console, plan: CampaignPlan) -> None:
    console.print(
        f"{plan.cohort.target} machines train {plan.model.trainable_parameters:,} of the model's "
        f"{plan.model.parameters:,} parameters; plan {plan.hash[:16]}\n",
        soft_wrap=True,
    )


def print_header(console: Console) -> None:
    console.print(
        f"[dim]{'round':>5} {'machines':>9} {'top-1':>7} {'top-3':>7} {'perplexity':>11}"
        f"{'ε / allowed':>15} {'bytes sent':>11} {'seconds':>8}[/dim]"
    )


def print_round(console: Console, item: Round, plan: CampaignPlan) -> None:
    budget = f"{item.epsilon:.0f} / {epsilon_of(plan.cap_nano_rho, float(plan.delta)):.0f}"
    console.print(
        f"{item.number:>5} {item.cohort or 'start':>9} {item.top1:>7.1%} {item.top3:>7.1%} "
        f"{item.perplexity:>11.2f}{budget:>15} {item.bytes_up:>11,} {item.seconds:>8.1f}"
    )
