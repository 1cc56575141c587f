"""Twenty SIGKILLs at random moments over a whole deployment, and then the books are balanced.

Agents, their nodes, vaults and trainers, SuperLink, SuperExec and ServerApp are killed without
warning while a campaign runs. Killed agents are started again at once, as a service manager would;
the parts of agents and server by their supervisors. The run must complete, and at every moment
each result that left a device must have been paid for, on the device and on the server.
"""

import hashlib
import itertools
import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from homes import TEXT, model_bytes, training_plan
from leak_search import typed
from stock_flower import eventually
from tacitly_client.daemon.state import AgentState
from tacitly_client.home import AgentHome
from tacitly_client.live_file import read_live
from tacitly_common.campaign import CampaignPlan, CohortPlan
from tacitly_common.mechanisms.gaussian import decode_mean
from tacitly_common.processes import living_children
from tacitly_server.bundle import app_hash
from tacitly_server.ledger.subjects import subject_name
from tacitly_server.rounds import optimizer
from tacitly_server.rounds.checkpoint import read_checkpoint
from tacitly_server.rounds.receipts import Outcome, Receipt, model_sha256, read_receipts
from tacitly_simulations.demo.deployment import Deployment

SEED = 20
NAMES = ("ada", "bea", "cyn", "dan")
ROUNDS = 10
VICTIMS = (
    *(3 * ["agent"] + 2 * ["node"] + 2 * ["vault"] + 4 * ["trainer"]),
    *(3 * ["SuperLink"] + 3 * ["SuperExec"] + 3 * ["app"]),
)
PAUSE_SECONDS = (0.0, 3.0)

Attempt = tuple[int, int]


@dataclass(frozen=True)
class Books:
    """What was written at one moment, read in the order of the comments."""

    # 1. Attempts for which each device says that an update left it.
    sent: dict[str, set[Attempt]]
    # 2. What the server published.
    receipts: list[Receipt]
    # 3. (device, attempt) -> cost and state, from each device's ledger.
    devices: dict[tuple[str, Attempt], tuple[int, str]]
    # 4. (subject, attempt) -> cost and state, from the server's ledger.
    server: dict[tuple[str, Attempt], tuple[int, str]]
    # 5. subject -> what it has spent, as the server's ledger says.
    totals: dict[str, int]


class Site:
    """A running deployment whose books are read again and again."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.campaign = deployment.server.campaign(deployment.plan.hash)
        secret = deployment.server.subject_secret.read_bytes()
        self.subjects = {name: subject_name(secret, name) for name in NAMES}
        self.books = self.read()

    def read(self) -> Books:
        agents = self.deployment.agents
        return Books(
            sent={agent.name: sent(agent.home) for agent in agents},
            receipts=read_receipts(self.campaign.receipts),
            devices={
                (agent.name, (round_, attempt)): (cost, state)
                for agent in agents
                for round_, attempt, cost, state in rows(
                    agent.home.ledger, "SELECT round, attempt, cost_nano_rho, state FROM attempt"
                )
            },
            server={
                (subject, (round_, attempt)): (cost, state)
                for subject, round_, attempt, cost, state in rows(
                    self.deployment.server.population_database,
                    "SELECT subject, round, attempt, charges.cost_nano_rho, state"
                    " FROM charges JOIN attempts ON attempt_id = id",
                )
            },
            totals=dict(
                rows(
                    self.deployment.server.population_database,
                    "SELECT subject, spent_nano_rho FROM budgets WHERE kind = 'lifetime'",
                )
            ),
        )

    def look(self) -> None:
        """Nothing written before is gone, and everything that left is paid for."""
        before, self.books = self.books, self.read()
        for was, now in (
            (before.devices, self.books.devices),
            (before.server, self.books.server),
        ):
            for key, (cost, state) in was.items():
                assert now[key][0] == cost
                assert now[key][1] == state or state == "charged"
        assert all(self.books.totals[name] >= spent for name, spent in before.totals.items())
        self.check_paid()

    def check_paid(self) -> None:
        """Each update that left is paid by its device, each payment of a device by the server."""
        books = self.books
        for name, attempts in books.sent.items():
            for attempt in attempts:
                assert books.devices[name, attempt][1] == "released"
        for name, attempt in books.devices:
            assert (self.subjects[name], attempt) in books.server
        paid = Counter(attempt for _, attempt in books.server)
        for receipt in books.receipts:
            assert paid[receipt.round, receipt.attempt] == receipt.selected >= receipt.usable

    def victim(self, kind: str, rng: random.Random) -> int | None:
        """The process id of one of these that lives now."""
        if kind == "agent":
            agents = [one.process.pid for one in self.deployment.agents if one.process is not None]
            return rng.choice(agents)
        if kind in ("node", "vault", "trainer"):
            shown = [read_live(one.home.agent_state, AgentState) for one in self.deployment.agents]
            parts = [part for state in shown if state is not None for part in state.parts]
            named = "vault" if kind == "trainer" else kind
            pids = [part.pid for part in parts if part.name == named and part.pid is not None]
            if kind == "trainer":
                pids = [pid for vault in pids for pid in living_children(vault)]
            return rng.choice(pids) if pids else None
        assert self.deployment.supervisor is not None
        server = {part(pid): pid for pid in living_children(self.deployment.supervisor.pid)}
        if kind == "app":
            apps = living_children(server["superexec"]) if "superexec" in server else []
            return apps[0] if apps else None
        return server.get(kind.lower())

    def tend(self) -> None:
        """Start killed agents again, and look."""
        self.deployment.start_agents()
        self.look()

    def watch(self, seconds: float) -> None:
        """Tend for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.tend()
            time.sleep(0.2)

    def kill(self, kind: str, rng: random.Random) -> bool:
        """Whether one of these was there to kill."""
        self.tend()
        pid = self.victim(kind, rng)
        if pid is None:
            return False
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def reached(self, rounds: int) -> bool:
        """Whether so many rounds are released."""
        self.tend()
        return len(self.released()) >= rounds

    def released(self) -> list[Receipt]:
        """The receipts of the rounds that were."""
        return [one for one in self.books.receipts if one.outcome is Outcome.RELEASED]


def part(pid: int) -> str:
    """ "superlink" or "superexec"."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return next((word.rpartition(".")[2] for word in words if "tacitly_server." in word), "")


def rows(database: Path, query: str) -> list[Any]:
    """Of a ledger that may not be there yet."""
    if not database.exists():
        return []
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        try:
            return connection.execute(query).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return []


def journal(home: AgentHome) -> list[dict[str, Any]]:
    """The lines that are whole: a kill may have torn any."""
    if not home.egress_journal.exists():
        return []
    lines = home.egress_journal.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines if line.endswith(b"}")]


def sent(home: AgentHome) -> set[Attempt]:
    """The attempts for which an update left."""
    return {(line["round"], line["attempt"]) for line in journal(home) if line.get("code") == "OK"}


def kill_plan() -> CampaignPlan:
    return training_plan(
        app_hash=app_hash(),
        rounds=ROUNDS,
        # Each lost attempt costs as much as a released one.
        participations=20 * ROUNDS,
        cohort=CohortPlan(
            population=100,
            target=len(NAMES),
            minimum=2,
            deadline_seconds=12,
            selection_timeout_seconds=5,
        ),
    )


@pytest.mark.timeout(1800)
def test_twenty_kills_lose_no_round_and_no_charge(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    plan = kill_plan()
    initial = np.frombuffer(model_bytes(plan), np.float32)
    with Deployment.create(tmp_path / "deployment", plan, initial) as deployment:
        for name in NAMES:
            deployment.add_agent(name, typed(TEXT), poll_seconds=1.0)
        site = Site(deployment)
        deployment.start_agents()
        for number, kind in enumerate(rng.sample(VICTIMS, len(VICTIMS))):
            # Spread over the campaign, at any moment of a round.
            eventually(partial(site.reached, number // 3), within_seconds=300)
            site.watch(rng.uniform(*PAUSE_SECONDS))
            eventually(partial(site.kill, kind, rng))
            print(f"killed {kind} after round {len(site.released())}")
        assert len(site.released()) < ROUNDS, "the last kill came too late to matter"
        eventually(partial(site.reached, ROUNDS), within_seconds=600)
    site.look()
    books, cost = site.books, plan.cost_nano_rho

    # Every round was released once, in order, and no attempt is left open.
    assert [receipt.round for receipt in site.released()] == list(range(1, ROUNDS + 1))
    outcomes = {attempt: state for (_, attempt), (_, state) in books.server.items()}
    assert outcomes == {(r.round, r.attempt): r.outcome.value for r in books.receipts}
    # What everybody has spent is exactly what was charged.
    assert all(paid == cost for paid, _ in [*books.server.values(), *books.devices.values()])
    charged = Counter(subject for subject, _ in books.server)
    assert books.totals == {subject: cost * number for subject, number in charged.items()}
    updates = {
        (agent.name, attempt): kept_update(agent.home, plan, attempt)
        for agent in deployment.agents
        for attempt in sent(agent.home)
    }
    # The model is the initial one, moved by nothing but updates that were paid for.
    model = replay(plan, initial, site.released(), updates)
    checkpoint = read_checkpoint(site.campaign.checkpoint, plan)
    assert checkpoint.round == ROUNDS
    np.testing.assert_array_equal(checkpoint.model, model)


def kept_update(home: AgentHome, plan: CampaignPlan, attempt: Attempt) -> NDArray[np.int32]:
    """The result of an attempt that was sent, which the journal names by its hash."""
    round_, number = attempt
    kept = (home.outbox / f"{plan.hash}-{round_}-{number}.update").read_bytes()
    lines = (line for line in journal(home) if (line.get("round"), line.get("attempt")) == attempt)
    hashes = {line["sha256"] for line in lines if line.get("code") == "OK"}
    assert hashes == {hashlib.sha256(kept).hexdigest()}
    return np.frombuffer(kept, "<i4")


def replay(
    plan: CampaignPlan,
    model: NDArray[np.float32],
    released: list[Receipt],
    updates: dict[tuple[str, Attempt], NDArray[np.int32]],
) -> NDArray[np.float32]:
    """The last model, computed again from the updates that left the devices.

    A receipt says how many updates a round used and not whose: those whose sum gives the
    receipt's model are looked for among all that were sent.
    """
    state = optimizer.OptimizerState()
    for receipt in released:
        at = (receipt.round, receipt.attempt)
        sent_then = [update for (_, attempt), update in updates.items() if attempt == at]
        for used in itertools.combinations(sent_then, receipt.usable):
            mean = decode_mean(np.sum(used, axis=0, dtype=np.int64), plan)
            delta, moved_state = optimizer.step(plan.optimizer, state, mean)
            moved = optimizer.apply(plan.model, model, delta)
            if model_sha256(moved) == receipt.model_sha256:
                break
        else:
            pytest.fail(f"round {receipt.round} holds what no device sent")
        model, state = moved, moved_state
    return model
