"""What the agent's processes do, for whoever shows it (live_file.py)."""

from enum import StrEnum

import msgspec

from tacitly_client.daemon.conditions import Hindrance


class Training(StrEnum):
    """What becomes of the trainer."""

    NONE = "no round at the moment"
    WAITING = "waiting"
    RUNNING = "training"


class VaultState(msgspec.Struct, frozen=True):
    """`run/vault.state`; `hindrances` is why it waits."""

    training: Training
    hindrances: tuple[Hindrance, ...] = ()


class PartState(msgspec.Struct, frozen=True):
    """One process: its id while it runs, how often it was started again."""

    name: str
    pid: int | None
    restarts: int


class AgentState(msgspec.Struct, frozen=True):
    """`run/agent.state`: the supervisor and its processes."""

    pid: int
    parts: tuple[PartState, ...]
