"""Our SuperLink as a process of its own on loopback, for tests that talk to it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plans import small_plan
from stock_flower import eventually, free_port
from tacitly_common.campaign import CampaignPlan
from tacitly_server.bundle import app_hash
from tacitly_server.control import Control
from tacitly_server.home import ServerHome
from tacitly_server.initialise import initialise
from tacitly_server.rounds.receipts import model_sha256

OTHER_LOOPBACK = "127.0.0.2"


def new_campaign(**changes: Any) -> tuple[CampaignPlan, NDArray[np.float32]]:
    """A plan for our server's application, and its initial model."""
    model = np.zeros(small_plan(**changes).model.parameters, np.float32)
    hashes = {"app_hash": app_hash(), "initial_model_hash": model_sha256(model)}
    return small_plan(**{**hashes, **changes}), model


@dataclass(frozen=True)
class OurSuperLink:
    """A running SuperLink of ours."""

    home: ServerHome
    port: int

    @property
    def ca_certificate(self) -> Path:
        return self.home.tls / "ca.crt"

    def control(self) -> Control:
        return Control.of(self.home, self.port)


def command(home: ServerHome, port: int, *arguments: str) -> list[str]:
    """The command line of our SuperLink."""
    given = ["--home", str(home.root), "--port", str(port), *arguments]
    return [sys.executable, "-m", "tacitly_server.superlink", *given]


@contextmanager
def our_superlink(root: Path, *arguments: str) -> Iterator[OurSuperLink]:
    """Start one in `root` and wait until it answers; end it on leaving."""
    home = ServerHome(root)
    initialise(home, [OTHER_LOOPBACK], now=datetime.now(UTC))
    running = OurSuperLink(home, free_port())
    with (home.logs / "superlink.log").open("ab") as log:
        process = subprocess.Popen(command(home, running.port, *arguments), stdout=log, stderr=log)
    try:
        with running.control() as control:
            eventually(control.healthy)
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
