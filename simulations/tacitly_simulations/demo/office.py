"""The demo's privacy officers: keys of their own, and decisions through `tacitly-officer`.

One proposes, the two others approve, as a real deployment asks for. They trust the server's
`ca.crt` and the hash of the log's first entry, like devices do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from tacitly_common.accounting.subject import epsilon_of
from tacitly_common.campaign import CampaignPlan
from tacitly_common.contract.policy import Policy

OFFICERS: Final = ("ada", "bea", "cyn")
Run = Callable[[list[str]], bytes]


def policy_for(plan: CampaignPlan, *, campaigns: int = 1) -> Policy:
    """A policy that the plan just keeps, with budgets for so many campaigns like it."""
    worst = epsilon_of(campaigns * plan.cap_nano_rho, float(plan.delta))
    epsilon = Decimal(math.ceil(worst) + 1)
    return Policy(
        purposes=(plan.purpose,),
        highest_level=plan.tokens.level,
        minimum_noise_multiplier=plan.subject.noise_multiplier,
        maximum_clip_norm=plan.subject.clip_norm,
        minimum_cohort=plan.cohort.minimum,
        delta=plan.delta,
        lifetime_epsilon=epsilon,
        epoch_epsilon=epsilon,
        workers_informed="none: a demonstration",
        contact="nobody: a demonstration",
    )


@dataclass(slots=True)
class Office:
    """Three officers whose files are in `root`. `run` runs a command that must succeed."""

    root: Path
    run: Run
    genesis: str = ""

    def begin_log(self, server: Path, policy: Policy) -> None:
        """Make the officers' keys and begin the log of the server at this home."""
        self.root.mkdir(parents=True)
        policy_file = self.root / "policy.json"
        policy_file.write_bytes(msgspec.json.encode(policy))
        officers = []
        for name in OFFICERS:
            made = self.run(["tacitly-officer", "key", "new", "--out", str(self._key(name))])
            officers += ["--officer", f"{name}={made.decode().strip()}"]
        begun = self.run(
            [
                "tacitly-server", "contract", "begin",
                "--home", str(server),
                "--organisation", "Demo",
                "--policy", str(policy_file),
                *officers,
            ]
        )  # fmt: skip
        self.genesis = begun.decode().strip()

    def start(self, plan: CampaignPlan, model: NDArray[np.float32], *, desk: str, ca: Path) -> None:
        """Propose a plan with its model, approve it twice, and start it."""
        plan_file, model_file = self.root / "plan.json", self.root / "initial.npy"
        plan_file.write_bytes(plan.to_json())
        np.save(model_file, model)
        place = ["--server", desk, "--ca", str(ca), "--genesis", self.genesis]
        proposer, *others = OFFICERS
        self._decide(proposer, place, "propose", str(plan_file), "--model", str(model_file))
        for name in others:
            self._decide(name, place, "approve", plan.hash)
        self._decide(proposer, place, "start", plan.hash)

    def _decide(self, name: str, place: list[str], *act: str) -> None:
        own = ["--name", name, "--key", str(self._key(name)), "--yes"]
        self.run(["tacitly-officer", "campaign", *act, *place, *own])

    def _key(self, name: str) -> Path:
        return self.root / f"{name}.key"
