"""Masked rounds under SIGKILL: `python -m tacitly_simulations.bench.masked_kills`.

A whole deployment: server, SuperLink and agents in processes of their own. In every attempt a share
of the agents is killed, each with all its processes and each after it has answered a phase drawn at
random, and started again at once. At the end

- every round was released once, and the model after it is, bit for bit, the one before moved by the
  sum of vectors that agents wrote down themselves before they masked them (`masked_node.py`);
- whatever left a device was charged in its ledger before, what a device was charged the server was
  too, for the same price, and both ledgers verify.
"""

import itertools
import json
import math
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import numpy as np
from numpy.typing import NDArray

from tacitly_client.home import read_enrolment
from tacitly_common.campaign import (
    CampaignPlan,
    CohortPlan,
    MaskingPlan,
    SubjectMechanism,
    revise,
)
from tacitly_common.errors import TacitlyError
from tacitly_common.events import data_epochs
from tacitly_common.mechanisms.rounded_gaussian import centred, decode_mean
from tacitly_common.model import initial_vector
from tacitly_common.model_config import ModelConfig
from tacitly_common.vocabulary import Vocabulary
from tacitly_common.wire.phases import Phase
from tacitly_server.bundle import app_hash
from tacitly_server.ledger.export import verify_database
from tacitly_server.ledger.place import witness_of
from tacitly_server.rounds import optimizer
from tacitly_server.rounds.checkpoint import read_checkpoint
from tacitly_server.rounds.receipts import Outcome, Receipt, model_sha256, read_receipts
from tacitly_simulations.bench.masked_node import survivors, vectors
from tacitly_simulations.bench.plan import RECORD, TOKENS, rounds_plan
from tacitly_simulations.datasets.synthetic import synthetic_person
from tacitly_simulations.demo.deployment import Agent, Deployment

_PROGRAM: Final = "tacitly_simulations.bench.masked_agent"
_EVENTS: Final = 2_000
_LOOK_SECONDS: Final = 0.2
_POLL_SECONDS: Final = 2.0
_PATIENCE_SECONDS: Final = 1_800.0

Attempt = tuple[int, int]


class KillsError(TacitlyError):
    """The campaign stood still; the message says where to look."""


@dataclass(slots=True)
class Tally:
    """What happened; `problems` is empty if all held."""

    kills: Counter[str] = field(default_factory=Counter)
    released: int = 0
    lost: int = 0
    contributors: Counter[int] = field(default_factory=Counter)
    bytes_up: float = 0.0
    bytes_down: float = 0.0
    problems: list[str] = field(default_factory=list)


def kills_plan(
    agents: int, rounds: int, group_size: int, deadline: int, epochs: Any
) -> CampaignPlan:
    """A small model, groups of `group_size`, and half of the agents enough for a release."""
    model = ModelConfig(vocabulary_size=Vocabulary(TOKENS).size, embedding=8, hidden=16)
    initial = initial_vector(model, 0)
    plan = rounds_plan(
        "masked-kills",
        rounds,
        app_hash=app_hash(),
        initial_model_hash=model_sha256(initial),
        data_epochs=tuple(epochs),
    )
    attempts = 20 * rounds
    return revise(
        plan,
        model=model,
        participation=msgspec.structs.replace(
            plan.participation, per_campaign=attempts, per_epoch=attempts
        ),
        record=msgspec.structs.replace(RECORD, steps=2, cap_epsilon=Decimal(100_000)),
        subject=SubjectMechanism(
            clip_norm=Decimal("0.1"),
            noise_multiplier=Decimal("0.5"),
            encoding="rounded_gaussian",
            grid_bits=12,
        ),
        masking=MaskingPlan(
            dropout=Decimal("0.34"),
            corruption=Decimal("0.1"),
            failure_bits=40,
            group_size=group_size,
            wrap_bits=40,
        ),
        cohort=CohortPlan(
            population=agents,
            target=agents,
            minimum=agents // 2,
            deadline_seconds=deadline,
            selection_timeout_seconds=60,
        ),
        stop=msgspec.structs.replace(plan.stop, lost_in_a_row=attempts),
        delta=Decimal("0.001"),
    )


@dataclass(slots=True)
class Killer:
    """Draws who is to die in each attempt, and after which phase; and kills them when it is so."""

    deployment: Deployment
    share: float
    rng: random.Random
    tally: Tally
    attempt: Attempt = (0, 0)
    doomed: dict[str, Phase] = field(default_factory=dict)

    def look(self) -> None:
        """Once; called again and again."""
        answered = {agent.name: _answered(agent) for agent in self.deployment.agents}
        newest = max((at for phases in answered.values() for at, _ in phases), default=(0, 0))
        if newest > self.attempt:
            self.attempt = newest
            agents = [agent.name for agent in self.deployment.agents]
            victims = self.rng.sample(agents, math.ceil(self.share * len(agents)))
            self.doomed = {name: self.rng.choice(list(Phase)) for name in victims}
        for agent in self.deployment.agents:
            phase = self.doomed.get(agent.name)
            if phase is not None and (self.attempt, phase.name) in answered[agent.name]:
                time.sleep(self.rng.uniform(0, 0.2))
                del self.doomed[agent.name]
                self._kill(agent)
                self.tally.kills[phase.name] += 1
        self.deployment.start_agents(program=_PROGRAM)

    def _kill(self, agent: Agent) -> None:
        if agent.process is not None:
            # The whole session: supervisor, vault, trainer, node, control.
            with suppress(ProcessLookupError):
                os.killpg(agent.process.pid, signal.SIGKILL)
            agent.process.wait()


def run(
    root: Path,
    *,
    agents: int,
    rounds: int,
    group_size: int,
    share: float,
    deadline: int,
    seed: int,
    report: Callable[[str], None] = lambda _line: None,
) -> Tally:
    """Run the campaign to its last round, killing all the while; then look."""
    rng = random.Random(seed)  # noqa: S311 - whom to kill, not what to hide
    people = [synthetic_person(number, _EVENTS) for number in range(agents)]
    epochs = data_epochs(event for person in people for event in person.events)
    plan = kills_plan(agents, rounds, group_size, deadline, epochs)
    initial = initial_vector(plan.model, 0)
    tally = Tally()
    with Deployment.create(root, plan, initial) as deployment:
        names = [f"machine-{number:02d}" for number in range(1, agents + 1)]
        with ThreadPoolExecutor() as pool:
            add = partial(deployment.add_agent, poll_seconds=_POLL_SECONDS)
            list(pool.map(add, names, (person.events for person in people)))
        report(f"{agents} agents are enrolled")
        deployment.start_agents(program=_PROGRAM)
        killer = Killer(deployment, share, rng, tally)
        receipts_file, seen = deployment.server.campaign(plan.hash).receipts, 0
        stands_since = time.monotonic()
        while tally.released < rounds:
            killer.look()
            receipts = read_receipts(receipts_file)
            for receipt in receipts[seen:]:
                stands_since = time.monotonic()
                tally.released += receipt.outcome is Outcome.RELEASED
                tally.lost += receipt.outcome is Outcome.LOST
                report(_line(receipt))
            seen = len(receipts)
            if time.monotonic() > stands_since + _PATIENCE_SECONDS:
                raise KillsError(f"nothing happens any more; see {root / 'logs'}")
            time.sleep(_LOOK_SECONDS)
    _check_models(deployment, initial, tally)
    _check_ledgers(deployment, tally)
    return tally


def _line(receipt: Receipt) -> str:
    phases = " ".join(str(phase.answered) for phase in receipt.phases.values())
    return (
        f"round {receipt.round} attempt {receipt.attempt} {receipt.outcome}: {receipt.usable} of "
        f"{receipt.selected}, answered by phase {phases}, {receipt.groups_unmasked} of "
        f"{receipt.groups} groups, {receipt.seconds:.0f} s"
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that a kill may have torn."""
    if not path.exists():
        return []
    found = []
    for line in path.read_bytes().split(b"\n"):
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def _answered(agent: Agent) -> set[tuple[Attempt, str]]:
    """The attempts and phases that an agent's journal says it has answered."""
    return {
        ((line["round"], line["attempt"]), line["phase"])
        for line in _lines(agent.home.egress_journal)
        if line.get("phase")
    }


def _check_models(deployment: Deployment, model: NDArray[np.float32], tally: Tally) -> None:
    """Compute every released model from what agents wrote down, and compare hashes."""
    plan = deployment.plan
    numbers = {read_enrolment(agent.home).node_id: agent for agent in deployment.agents}
    signed = _signed(deployment, tally)
    state = optimizer.OptimizerState()
    receipts = read_receipts(deployment.server.campaign(plan.hash).receipts)
    for receipt in (each for each in receipts if each.outcome is Outcome.RELEASED):
        at = (receipt.round, receipt.attempt)
        groups = [who for (round_, attempt, _), who in signed.items() if (round_, attempt) == at]
        for taken in _choices(groups, receipt):
            total = np.zeros(plan.model.trainable_parameters, dtype=np.int64)
            for node in itertools.chain.from_iterable(taken):
                name = f"{receipt.round}-{receipt.attempt}.npy"
                total += centred(np.load(vectors(numbers[node].home) / name), plan)
            mean = decode_mean(total, plan, receipt.round)
            delta, moved_state = optimizer.step(plan.optimizer, state, mean)
            moved = optimizer.apply(plan.model, model, delta)
            if model_sha256(moved) == receipt.model_sha256:
                break
        else:
            tally.problems.append(f"round {receipt.round} is not the sum of what agents masked")
            return
        model, state = moved, moved_state
        tally.contributors[receipt.usable] += 1
        upload = receipt.phases["upload"]
        tally.bytes_up += receipt.bytes_up / max(1, upload.answered)
        tally.bytes_down += receipt.bytes_down / receipt.selected
    kept = read_checkpoint(deployment.server.campaign(plan.hash).checkpoint, plan)
    if not np.array_equal(kept.model, model):
        tally.problems.append("the last checkpoint holds another model")


def _signed(deployment: Deployment, tally: Tally) -> dict[tuple[int, int, int], tuple[int, ...]]:
    """The survivors that agents signed, by round, attempt and group: all the same."""
    signed: dict[tuple[int, int, int], tuple[int, ...]] = {}
    for agent in deployment.agents:
        for line in _lines(survivors(agent.home)):
            key, who = (line["round"], line["attempt"], line["group"]), tuple(line["survivors"])
            if signed.setdefault(key, who) != who:
                tally.problems.append(f"agents signed different survivors of {key}")
    return signed


def _choices(groups: list[tuple[int, ...]], receipt: Receipt) -> list[list[tuple[int, ...]]]:
    """The sets of groups that are as many, and have as many members, as a receipt says."""
    return [
        list(taken)
        for taken in itertools.combinations(groups, receipt.groups_unmasked)
        if sum(map(len, taken)) == receipt.usable
    ]


def _check_ledgers(deployment: Deployment, tally: Tally) -> None:
    """What left was charged there, what was charged there was charged here; all adds up."""
    plan, server = deployment.plan, deployment.server
    charged = {
        (subject, (round_, attempt)): cost
        for subject, round_, attempt, cost in _rows(
            server.population_database,
            "SELECT subject, round, attempt, charges.cost_nano_rho"
            " FROM charges JOIN attempts ON attempt_id = id",
        )
    }
    totals = dict(
        _rows(
            server.population_database,
            "SELECT subject, spent_nano_rho FROM budgets WHERE kind = 'lifetime'",
        )
    )
    asked = Counter(subject for subject, _ in charged)
    if totals != {subject: plan.cost_nano_rho * number for subject, number in asked.items()}:
        tally.problems.append("the server's totals are not its charges")
    enrolled = dict(_rows(server.population_database, "SELECT node_id, subject FROM nodes"))
    for agent in deployment.agents:
        subject = enrolled[str(read_enrolment(agent.home).node_id)]
        paid = {
            (round_, attempt): cost
            for round_, attempt, cost in _rows(
                agent.home.ledger, "SELECT round, attempt, cost_nano_rho FROM attempt"
            )
        }
        for at, cost in paid.items():
            if charged.get((subject, at)) != cost:
                tally.problems.append(f"{agent.name} paid for {at}, the server has no such charge")
        left = {at for at, phase in _answered(agent) if phase == Phase.UPLOAD.name}
        if left - set(paid):
            tally.problems.append(f"{agent.name} sent what it had not paid for")
        deployment.run_agent_command(agent, "ledger", "verify")
    tally.problems += verify_database(
        server.population_database, [witness_of(server).public_key], None
    )


def _rows(database: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        return connection.execute(query).fetchall()


@click.command()
@click.option("--agents", default=12, show_default=True, type=click.IntRange(4))
@click.option("--rounds", default=20, show_default=True, type=click.IntRange(1))
@click.option("--group-size", default=6, show_default=True, type=click.IntRange(2))
@click.option("--share", default=0.3, show_default=True, type=click.FloatRange(0, 0.9))
@click.option("--deadline", default=120, show_default=True, type=click.IntRange(10))
@click.option("--seed", default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Keep all files here.")
def main(
    agents: int,
    rounds: int,
    group_size: int,
    share: float,
    deadline: int,
    seed: int,
    out: Path | None,
) -> None:
    """Kill agents of a masked campaign at random phases, and look whether all adds up."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tacitly-masked-") as folder:
        tally = run(
            out or Path(folder) / "deployment",
            agents=agents,
            rounds=rounds,
            group_size=group_size,
            share=share,
            deadline=deadline,
            seed=seed,
            report=click.echo,
        )
    kills = ", ".join(f"{number} after {phase}" for phase, number in sorted(tally.kills.items()))
    click.echo(
        f"{agents} agents, {tally.released} rounds, {tally.lost} attempts lost, "
        f"{tally.kills.total()} kills ({kills}), contributors "
        f"{dict(sorted(tally.contributors.items()))}, a device a round "
        f"{tally.bytes_up / rounds:,.0f} bytes up and {tally.bytes_down / rounds:,.0f} down, "
        f"{len(tally.problems)} problems, {time.monotonic() - began:.0f} s"
    )
    for problem in tally.problems:
        click.echo(problem)
    sys.exit(5 if tally.problems else 0)


if __name__ == "__main__":
    main()
