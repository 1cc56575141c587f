"""The agent's node as shipped, but that it writes down what it masks: for `masked_kills.py`.

    node/vectors/ROUND-ATTEMPT.npy   the residues, uint32[coordinates], before they are masked
    node/survivors.jsonl             what it signed: round, attempt, group, node ids

It protects nobody. The product has neither a setting nor a message that does this: it is another
program, and which one runs is chosen on the machine itself.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacitly_client.daemon.process import run_process
from tacitly_client.home import AgentHome
from tacitly_client.sandbox import node_rules


def vectors(home: AgentHome) -> Path:
    """Where a node's residues are."""
    return home.node / "vectors"


def survivors(home: AgentHome) -> Path:
    """Where a node writes what it signed."""
    return home.node / "survivors.jsonl"


def serve(home: AgentHome) -> None:
    """Until SIGTERM or SIGINT."""
    from tacitly_client.node import masked
    from tacitly_client.node.__main__ import serve as serve_as_shipped
    from tacitly_client.node.masking import DeviceRound

    vectors(home).mkdir(exist_ok=True)

    class Telling(DeviceRound):
        """A round that writes its secrets down."""

        def mask(self, residues: NDArray[np.uint32]) -> bytes:
            name = f"{self.terms.round}-{self.terms.attempt}.npy"
            with (vectors(home) / name).open("wb") as file:
                np.save(file, residues)
                file.flush()
                os.fsync(file.fileno())
            return super().mask(residues)

        def confirm(self, survivors_: bytes) -> bytes:
            confirmation = super().confirm(survivors_)
            members = self._checked().members
            said = {
                "round": self.terms.round,
                "attempt": self.terms.attempt,
                "group": self.terms.group,
                "survivors": [members[number].node_id for number in sorted(self._survivors)],
            }
            with survivors(home).open("ab") as file:
                file.write(json.dumps(said).encode() + b"\n")
            return confirmation

    masked.DeviceRound = Telling  # type: ignore[attr-defined]
    serve_as_shipped(home)


if __name__ == "__main__":
    sys.exit(run_process(__doc__, node_rules, serve))
