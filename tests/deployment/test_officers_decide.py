"""A campaign from proposal to stop, through the commands that people type. Real processes.

Three officers with keys of their own, a server that begins with nothing, three persons who join.
Rounds run because two officers approved; they end because one said so.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from homes import TEXT, model_bytes, training_plan
from leak_search import typed
from officers import lax_policy
from stock_flower import eventually, free_port
from tacitly_common.campaign import CampaignPlan, CohortPlan
from tacitly_common.events import to_json_line
from tacitly_server.bundle import app_hash
from tacitly_server.home import ServerHome
from tacitly_server.rounds.receipts import Outcome, Receipt, read_receipts

OFFICERS = ("ada", "bea", "cyn")
PERSONS = ("pia", "quin", "rosa")


@dataclass
class Site:
    """A server, its officers' key files and its persons' agents, below one directory."""

    root: Path
    ports: tuple[int, int] = field(default_factory=lambda: (free_port(), free_port()))
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def home(self) -> ServerHome:
        return ServerHome(self.root / "server")

    def command(self, *words: object, stdin: bytes = b"", **environment: str) -> str:
        """What a command prints; it must succeed."""
        done = self.run(*words, stdin=stdin, **environment)
        assert done.returncode == 0, (words, done.stderr.decode())
        return done.stdout.decode()

    def run(
        self, *words: object, stdin: bytes = b"", **environment: str
    ) -> subprocess.CompletedProcess[bytes]:
        name, *arguments = map(str, words)
        return subprocess.run(
            [Path(sys.executable).with_name(name), *arguments],
            input=stdin,
            capture_output=True,
            env={**os.environ, **environment},
            check=False,
        )

    def server(self, *words: object) -> str:
        return self.command("tacitly-server", *words, "--home", self.home.root)

    def environment(self, officer: str) -> dict[str, str]:
        return {
            "TACITLY_OFFICER_SERVER": f"127.0.0.1:{self.ports[1]}",
            "TACITLY_OFFICER_CA": str(self.home.tls / "ca.crt"),
            "TACITLY_OFFICER_KEY": str(self.root / f"{officer}.key"),
            "TACITLY_OFFICER_NAME": officer,
        }

    def officer(self, name: str, *words: object) -> dict[str, Any]:
        """The document of an officer's command about campaigns."""
        command = ("tacitly-officer", "campaign", *words, "--format", "json")
        document: dict[str, Any] = json.loads(self.command(*command, **self.environment(name)))
        return document

    def start(self, name: str, *words: object) -> None:
        """Start a process that is ended with the site."""
        program, *arguments = map(str, words)
        with (self.root / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [Path(sys.executable).with_name(program), *arguments], stdout=log, stderr=log
            )
        self.stack.callback(process.wait)
        self.stack.callback(process.terminate)

    def receipts(self, plan: CampaignPlan) -> list[Receipt]:
        return read_receipts(self.home.campaign(plan.hash).receipts)

    def released(self, plan: CampaignPlan) -> int:
        return sum(r.outcome is Outcome.RELEASED for r in self.receipts(plan))

    def health(self) -> dict[str, Any]:
        command = ("tacitly-server", "health", "--home", self.home.root)
        status: dict[str, Any] = json.loads(self.run(*command).stdout)["status"]
        return status


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    with made.stack:
        yield made


def begin(site: Site) -> None:
    """Keys, policy, the log's beginning, and the server."""
    site.server("init")
    keys = []
    for name in OFFICERS:
        key_file = site.root / f"{name}.key"
        public_key = site.command("tacitly-officer", "key", "new", "--out", key_file).strip()
        keys += ["--officer", f"{name}={public_key}"]
    policy = site.root / "policy.json"
    policy.write_bytes(msgspec.json.encode(lax_policy()))
    site.server("contract", "begin", "--organisation", "Example", *keys, "--policy", policy)
    ports = ("--port", site.ports[0], "--enrolment-port", site.ports[1])
    site.start("server", "tacitly-server", "up", "--home", site.home.root, *ports)
    # The desk answers before SuperLink does, and enrols nobody until then.
    health = ("tacitly-server", "health", "--home", site.home.root)
    eventually(lambda: site.run(*health).returncode == 0)


def enrol(site: Site, person: str) -> Path:
    """A person's agent with something typed in its store."""
    invitation, home = site.root / f"{person}.invitation", site.root / person
    invitation.write_text(site.server("invite", "--person", person, "--address", "127.0.0.1"))
    # At any time: nobody sits at the machine that tests run on, and it may be busy.
    fast = ("--poll-seconds", 0.5, "--idle-poll-seconds", 0.5, "--train-when", "always")
    site.command(
        "tacitly-agent", "enrol", invitation, "--home", home, "--lifetime-epsilon", 100, *fast
    )
    recording = b"\n".join(to_json_line(event) for event in typed(TEXT))
    site.command("tacitly-agent", "replay", "--home", home, "-", stdin=recording)
    return home


def test_two_approve_rounds_run_and_one_alone_ends_them(site: Site) -> None:
    cohort = CohortPlan(
        population=100, target=3, minimum=2, deadline_seconds=60, selection_timeout_seconds=5
    )
    plan = training_plan(app_hash=app_hash(), rounds=200, participations=200, cohort=cohort)
    plan_file, model = site.root / "plan.json", site.root / "start.npy"
    plan_file.write_bytes(plan.to_json())
    np.save(model, np.frombuffer(model_bytes(plan), np.float32))
    begin(site)
    homes = [enrol(site, person) for person in PERSONS]

    site.officer("ada", "propose", plan_file, "--model", model)
    site.officer("bea", "approve", plan.hash)
    early = site.run("tacitly-officer", "campaign", "start", plan.hash, **site.environment("bea"))
    assert early.returncode == 4
    # The proposer of three cannot approve: a third officer's word is needed.
    alone = site.run("tacitly-officer", "campaign", "approve", plan.hash, **site.environment("ada"))
    assert alone.returncode == 6
    assert site.officer("cyn", "approve", plan.hash)["standing"] == "approved"
    assert site.receipts(plan) == []
    assert site.officer("ada", "start", plan.hash)["standing"] == "running"

    for person, home in zip(PERSONS, homes, strict=True):
        site.command("tacitly-agent", "join", plan.hash, "--home", home, "--yes")
        site.start(person, "tacitly-agent", "run", "--home", home)
    eventually(lambda: site.released(plan) >= 2, within_seconds=120)
    (running,) = site.officer("bea", "list")["campaigns"]
    assert (running["standing"], running["released_rounds"] >= 2) == ("running", True)
    assert running["granted_until"] > ""

    stopped_at = time.monotonic()
    site.officer("cyn", "stop", plan.hash, "--reason", "enough")
    eventually(lambda: site.health()["serverapp_pid"] is None, within_seconds=20)
    assert time.monotonic() - stopped_at < 15
    assert "was stopped by an officer" in site.health()["problem"]
    receipts, spent = site.receipts(plan), charges(site)
    time.sleep(8)  # several rounds' time
    assert site.receipts(plan) == receipts
    assert charges(site) == spent
    assert len(receipts) < plan.rounds
    (listed,) = site.officer("bea", "list")["campaigns"]
    assert (listed["standing"], listed["released_rounds"]) == ("stopped", site.released(plan))
    assert site.server("campaign", "list").split("\t")[2] == "stopped"

    # What the rounds have released is what a person may suggest with, on their own machine.
    released = [receipt for receipt in receipts if receipt.outcome is Outcome.RELEASED][-1]
    home = homes[0]
    site.command("tacitly-agent", "model", "fetch", plan.hash, "--home", home)
    shown = site.command("tacitly-agent", "model", "show", "--home", home, "--format", "json")
    assert json.loads(shown)["model_sha256"] == released.model_sha256
    offered = site.command("tacitly-agent", "suggest", "--text", "the qu", "--home", home)
    assert offered.startswith("word")


def charges(site: Site) -> dict[str, Any]:
    """What the population ledger says of every campaign's attempts."""
    command = ("tacitly-officer", "ledger", "show", "--home", site.home.root, "--format", "json")
    document: dict[str, Any] = json.loads(site.command(*command))
    return document
