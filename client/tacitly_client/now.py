"""What the agent does at the moment, put together from what its processes show. No content."""

from datetime import datetime
from pathlib import Path

import msgspec

from tacitly_client.capture.clock import Clock
from tacitly_client.capture.state import Doing, read_state
from tacitly_client.daemon.conditions import Hindrance
from tacitly_client.daemon.state import Training, VaultState
from tacitly_client.home import AgentHome
from tacitly_client.live_file import read_live
from tacitly_client.pause import read_pause
from tacitly_client.processes import is_held


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """| field           | meaning                                                            |
    |-----------------|--------------------------------------------------------------------|
    | capture, reason | what the capture process does, and why if that is not plain        |
    | paused          | by the person's word, whether or not a process runs                |
    | paused_until_ns | wall time; None: until `resume`                                    |
    | training        | what becomes of the trainer, and what it waits for                 |
    | processes       | the names of the agent's processes that live                       |
    """

    capture: Doing
    reason: str
    paused: bool
    paused_until_ns: int | None
    training: Training
    training_waits_for: tuple[Hindrance, ...]
    processes: tuple[str, ...]

    @property
    def headline(self) -> str:
        """Whether anything is captured, in a few words."""
        if not self.paused:
            if self.capture is Doing.PAUSED:  # its process has yet to look
                return "about to go on"
            return f"{self.capture.value}{f': {self.reason}' if self.reason else ''}"
        if self.paused_until_ns is None:
            return "paused until `tacitly-agent resume`"
        return f"paused until {local_time(self.paused_until_ns)}"


def local_time(wall_ns: int) -> str:
    """A time of day here, with the day unless that is today."""
    at = datetime.fromtimestamp(wall_ns / 1e9).astimezone()
    today = at.date() == datetime.now().astimezone().date()
    return f"{at:%H:%M}" if today else f"{at:%Y-%m-%d %H:%M}"


def locks(home: AgentHome) -> dict[str, Path]:
    """The lock that each process of the agent holds while it lives, by the process's name."""
    return {
        "vault": home.vault_lock,
        "node": home.node_lock,
        "control": home.control_lock,
        "tray": home.tray_lock,
        "capture": home.capture_lock,
    }


def read_now(home: AgentHome, clock: Clock) -> Now:
    """The state now."""
    shown, paused = read_state(home.capture_state), read_pause(home, clock)
    vault = read_live(home.vault_state, VaultState) or VaultState(Training.NONE)
    return Now(
        capture=shown.doing,
        reason=shown.reason,
        paused=paused.paused,
        paused_until_ns=paused.until_ns,
        training=vault.training,
        training_waits_for=vault.hindrances,
        processes=tuple(name for name, lock in locks(home).items() if is_held(lock)),
    )
