"""Where an agent keeps its things: one directory per agent, mode 0700.

agent.json     server address and what the person allows (`AgentSettings`)
ca.crt         the certificate authority of the server, given at enrolment
node.key       this device's EC key for Flower, PEM, 0600
plan.json      the campaign plan this device agreed to
store/         the encrypted event store and its key
ledger.db      this device's budget
outbox/        the last noised results, kept to be re-sent byte for byte
egress.jsonl   one line for each message that left (sizes and hashes, no content)
node.lock      held by the one process that may be this device on the wire
node.id        Flower's number of this device, there while that process is connected
trainer.log    what the trainer processes wrote to stderr
capture.permit what the capture process is permitted at the moment, with a heartbeat
capture.state  what the capture process does at the moment
capture.lock   held by the one capture process
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from tacitly_common.errors import ValidationError
from tacitly_common.validation import positive


@dataclass(frozen=True, slots=True)
class AgentHome:
    """The paths below one agent's directory."""

    root: Path

    @property
    def settings(self) -> Path:
        """`AgentSettings` as JSON."""
        return self.root / "agent.json"

    @property
    def ca_certificate(self) -> Path:
        """PEM of the server's certificate authority."""
        return self.root / "ca.crt"

    @property
    def node_key(self) -> Path:
        """PEM of this device's private EC key, 0600."""
        return self.root / "node.key"

    @property
    def plan(self) -> Path:
        """The campaign plan, canonical JSON."""
        return self.root / "plan.json"

    @property
    def store(self) -> Path:
        """Directory of the event store."""
        return self.root / "store"

    @property
    def ledger(self) -> Path:
        """SQLite file of the device ledger."""
        return self.root / "ledger.db"

    @property
    def outbox(self) -> Path:
        """Directory of the noised results that have been paid for."""
        return self.root / "outbox"

    @property
    def egress_journal(self) -> Path:
        """JSON lines: what left this machine."""
        return self.root / "egress.jsonl"

    @property
    def node_lock(self) -> Path:
        """Lock file of the one node process."""
        return self.root / "node.lock"

    @property
    def node_id(self) -> Path:
        """Flower's number of this device while it is connected; left behind by a kill."""
        return self.root / "node.id"

    @property
    def trainer_log(self) -> Path:
        """What the trainer processes wrote to stderr."""
        return self.root / "trainer.log"

    @property
    def capture_permit(self) -> Path:
        """What the capture process is permitted at the moment; missing: nothing."""
        return self.root / "capture.permit"

    @property
    def capture_state(self) -> Path:
        """What the capture process does at the moment, if one holds `capture_lock`."""
        return self.root / "capture.state"

    @property
    def capture_lock(self) -> Path:
        """Lock file of the one capture process."""
        return self.root / "capture.lock"


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is set once for an agent.

    `lifetime_cap_nano_rho` is the person's own ceiling over all campaigns. A trainer process
    ends after `trainer_linger_seconds` without a task, and the torch it holds with it.
    """

    server: str
    lifetime_cap_nano_rho: int
    poll_seconds: float = 3.0
    idle_poll_seconds: float = 60.0
    heartbeat_seconds: float = 30.0
    trainer_linger_seconds: float = 60.0

    def __post_init__(self) -> None:
        positive(
            lifetime_cap_nano_rho=self.lifetime_cap_nano_rho,
            poll_seconds=self.poll_seconds,
            idle_poll_seconds=self.idle_poll_seconds,
            heartbeat_seconds=self.heartbeat_seconds,
            trainer_linger_seconds=self.trainer_linger_seconds,
        )


def read_settings(home: AgentHome) -> AgentSettings:
    """The settings of an initialised agent.

    Raises:
        ValidationError: missing, unreadable or malformed; the message says what to run.
    """
    try:
        return msgspec.json.decode(home.settings.read_bytes(), type=AgentSettings)
    except FileNotFoundError:
        raise ValidationError(
            f"{home.root} holds no agent; run `tacitly-agent init --home {home.root} ...` first"
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise ValidationError(f"{home.settings}: {error}") from error
