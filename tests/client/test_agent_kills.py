"""Every process of a whole agent is killed again and again while somebody types and it trains.

Supervisor, vault, trainer, node, control, tray and capture run as they ship on a real X server;
the supervisor is started again by a loop, as systemd would. A typist writes numbered lines, so it
can be told which of them are stored. TACITLY_SIGKILLS makes it longer; docs/endpoint.md has the
results of 200.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from test_capture_live import LINE_EVENTS, Typist, lines

import agent_process
from homes import make_home, model_bytes, training_plan
from stock_flower import eventually
from tacitly_client.asking import agree, capture_asked
from tacitly_client.capture.process import FLUSH_SECONDS, FRAME_EVENTS
from tacitly_client.capture.state import Doing, read_state
from tacitly_client.daemon.state import AgentState
from tacitly_client.home import AgentHome
from tacitly_client.ledger import AttemptKey, AttemptState, DeviceLedger, verify
from tacitly_client.live_file import read_live
from tacitly_client.node.identity import create_node_key
from tacitly_client.node.vault_link import TrainerError, TrainerLink
from tacitly_client.store import Damage, EventStore
from tacitly_client.training.pipe import Job
from tacitly_common.campaign import CampaignPlan
from tacitly_common.processes import living_children
from tacitly_common.wire.codes import ReplyCode
from x_display import Server, server

KILLS = int(os.environ.get("TACITLY_SIGKILLS", "12"))
VICTIMS = (
    *(4 * ["capture"] + 3 * ["vault"] + 3 * ["trainer"]),
    *(2 * ["tray"] + 2 * ["node"] + ["control"] + ["supervisor"]),
)
# A tick, a write, and what a busy machine adds.
SLACK_SECONDS = 1.0
PAUSE_SECONDS = (0.0, 5.0)
PATIENCE_SECONDS = 120.0


class Agent:
    """The supervisor, started again whenever it ends."""

    def __init__(self, home: AgentHome, display: Server) -> None:
        self._command = [sys.executable, "-P", agent_process.__file__, str(home.root)]
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "DISPLAY": display.name,
            "LANG": "C.UTF-8",
        }
        self._home = home
        self._ended = threading.Event()
        self._start()
        self._thread = threading.Thread(target=self._keep)
        self._thread.start()

    def pid(self, name: str) -> int | None:
        """The process of that name that lives now."""
        if name == "supervisor":
            return self.process.pid
        if name == "trainer":
            vault = self.pid("vault")
            trainers = living_children(vault) if vault else []
            return trainers[0] if trainers else None
        state = read_live(self._home.agent_state, AgentState)
        parts = {part.name: part.pid for part in state.parts} if state else {}
        return parts.get(name)

    def end(self) -> int:
        """As a person would; the exit code."""
        self._ended.set()
        self._thread.join()
        self.process.terminate()
        return self.process.wait(PATIENCE_SECONDS)

    def _start(self) -> None:
        with (self._home.root / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command, env=self._environment, stderr=log, stdout=log
            )

    def _keep(self) -> None:
        while not self._ended.wait(0.1):
            if self.process.poll() is not None:
                self._start()


class Rounds(threading.Thread):
    """Has the agent train one attempt after the other, as its node would."""

    def __init__(self, home: AgentHome, plan: CampaignPlan) -> None:
        super().__init__()
        self._plan = plan
        self._ended = threading.Event()
        self._link = TrainerLink(
            home.vault_socket,
            coordinates=plan.model.trainable_parameters,
            stopped=self._ended.is_set,
        )
        self.answered: Counter[str] = Counter()
        self.released: list[AttemptKey] = []

    def run(self) -> None:
        attempt = 0
        while not self._ended.is_set():
            attempt += 1
            job = Job(plan_hash=self._plan.hash, round=1, attempt=attempt)
            try:
                reply = self._link.train(job, model_bytes(self._plan), deadline_seconds=60)
            except TrainerError:
                self.answered["no answer"] += 1
            else:
                self.answered[reply.code.name] += 1
                if reply.code is ReplyCode.OK:
                    self.released.append(AttemptKey(self._plan.hash, 1, attempt))
        self._link.close()

    def stop(self) -> None:
        self._ended.set()
        self.join()


@dataclass
class Stretch:
    """A time in which one capture process captured without a break: what was typed in it."""

    first: int
    sent: list[tuple[float, int]] = field(default_factory=list)

    def settled(self) -> int:
        """Before this line everything must have been stored when the stretch ended."""
        ended, _ = self.sent[-1]
        in_time = ended - FLUSH_SECONDS - SLACK_SECONDS
        by_time = max((line for at, line in self.sent if at <= in_time), default=self.first)
        # A frame that fills is stored sooner, but for what came while that took a moment.
        recent = max((line for at, line in self.sent if at <= ended - SLACK_SECONDS), default=0)
        by_frame = recent - FRAME_EVENTS // LINE_EVENTS - 1
        return max(by_time, by_frame)


class Watcher(threading.Thread):
    """Notes the stretches of capture."""

    def __init__(self, home: AgentHome, agent: Agent, typist: Typist) -> None:
        super().__init__()
        self._home, self._agent, self._typist = home, agent, typist
        self._ended = threading.Event()
        self.stretches: list[Stretch] = []

    def run(self) -> None:
        current: tuple[int | None, Stretch] | None = None
        while not self._ended.wait(0.05):
            before, pid = self._typist.sent, self._agent.pid("capture")
            captures = read_state(self._home.capture_state).doing is Doing.CAPTURING
            if not captures or pid is None or (current and current[0] != pid):
                current = None
            if captures and pid is not None and current is None:
                # The line of this moment may be half seen.
                current = pid, Stretch(before + 2)
                self.stretches.append(current[1])
            if current is not None:
                current[1].sent.append((time.monotonic(), before))

    def stop(self) -> None:
        self._ended.set()
        self.join()


@pytest.fixture(scope="module")
def display() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.mark.timeout(3_600)
def test_kills_lose_the_unflushed_seconds_no_frame_and_no_charge(
    tmp_path: Path, display: Server
) -> None:
    chosen = random.Random(5)
    plan = training_plan(rounds=20, participations=10_000, record={"cap_epsilon": Decimal(10**6)})
    home = make_home(tmp_path / "home", plan, lifetime_attempts=10_000)
    create_node_key(home)
    home.ca_certificate.write_bytes(home.authority_certificate.read_bytes())
    agree(home, capture_asked(home, "en"), now=datetime.now(UTC))
    began_ns = time.time_ns() - 10**9  # times are stored coarsely
    agent = Agent(home, display)
    typist = Typist(display)
    watcher, rounds = Watcher(home, agent, typist), Rounds(home, plan)
    killed: Counter[str] = Counter()

    def captures() -> bool:
        return read_state(home.capture_state).doing is Doing.CAPTURING

    try:
        eventually(captures, within_seconds=PATIENCE_SECONDS)
        for thread in (typist, watcher, rounds):
            thread.start()
        while killed.total() < KILLS:
            time.sleep(chosen.uniform(*PAUSE_SECONDS))
            victim = chosen.choice(VICTIMS)
            pid = agent.pid(victim)
            if pid is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed[victim] += 1
        everything = [name for name in dict.fromkeys(VICTIMS) if name != "trainer"]
        eventually(
            lambda: all(agent.pid(each) for each in everything), within_seconds=PATIENCE_SECONDS
        )
        eventually(captures, within_seconds=PATIENCE_SECONDS)
        answered = rounds.answered["OK"]
        eventually(lambda: rounds.answered["OK"] > answered, within_seconds=PATIENCE_SECONDS)
    finally:
        for ending in (typist, watcher, rounds):
            if ending.ident is not None:
                ending.stop()
        ended = agent.end()
    assert ended == 0

    damages: list[Damage] = []
    with EventStore.open(home.store) as store:
        numbers = lines(list(store.events(began_ns, on_damage=damages.append)))
    print(f"killed {dict(killed)}; {len(numbers)} lines stored of {typist.sent} typed")
    print(f"attempts {dict(rounds.answered)}; {len(watcher.stretches)} stretches of capture")
    assert damages == []
    assert numbers == sorted(set(numbers)), "stored twice, or not in order"
    stored = set(numbers)
    settled = 0
    for stretch in watcher.stretches:
        must = range(stretch.first, stretch.settled())
        settled += len(must)
        assert [line for line in must if line not in stored] == []
    assert settled > 10 * len(watcher.stretches)

    verify(home.ledger)
    with DeviceLedger.open(home.ledger) as ledger:
        assert all(ledger.state(key) is AttemptState.RELEASED for key in rounds.released)
