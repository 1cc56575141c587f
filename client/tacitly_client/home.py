"""Where an agent keeps its things: one directory per agent, mode 0700.

agent.json     server address and what the person allows (`AgentSettings`)
store/         the encrypted event store and its key
ledger.db      this device's budget
outbox/        the last noised results, kept to be re-sent byte for byte
trainer.log    what the trainer processes wrote to stderr
capture.permit what the capture process is permitted at the moment, with a heartbeat
capture.state  what the capture process does at the moment
capture.lock   held by the one capture process
content.json   what the person chose to have stored, per application (choices.py)
browsers/      what browsers' extensions tell of their focused field (capture/gate/browsers.py)

node/ is all that the process with the network may open (sandbox.py), and it alone needs:

ca.crt         the certificate authority of the server, given at enrolment
node.key       this device's EC key for Flower, PEM, 0600
device.key     this device's Ed25519 key: signs what it asks of the desk, PEM, 0600
device.crt     the enrolment authority's certificate of device.key, PEM
authority.crt  the enrolment authority, PEM
enrolment.json what is pinned since enrolment (`Enrolment`); written last: without it, none
contract.jsonl this device's copy of the officers' log (contract_store.py)
contract.problem  why the last refresh was refused, by the name of its code
plan.json      the campaign plan this device's person joined; none: not there
models/        released models, each with the server's signed receipt (models.py)
egress.jsonl   one line for each message that left (sizes and hashes, no content)
node.lock      held by the one process that may be this device on the wire
node.id        Flower's number of this device, there while that process is connected

person/ is what the person said; the process with the network reads it and cannot write it:

consent.jsonl  receipts: what was agreed to and withdrawn (consent.py)
notices/       the texts that were agreed to, by their SHA-256
asked.txt      what the tray asked last
pause.json     whether capture and training are paused (pause.py); missing: never paused

run/ is of use only while the agent runs:

agent.lock     held by the one supervisor
tray.lock      held by the one tray
agent.state    which processes run (daemon/state.py)
vault.sock     where the node asks the vault for a trainer
vault.lock     held by the one vault
vault.state    what becomes of the trainer (daemon/state.py)
control.sock   where the person's programs ask (control/)
control.lock   held by the one control service
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec

from tacitly_common.errors import UNDECODABLE, ValidationError
from tacitly_common.validation import positive, sha256_hex

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class AgentHome:
    """The paths below one agent's directory."""

    root: Path

    def create(self) -> None:
        """Make the directories that must be there, for their owner alone."""
        for directory in (self.root, self.node, self.person):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o700)

    @property
    def node(self) -> Path:
        """Directory of what the process with the network may open."""
        return self.root / "node"

    @property
    def person(self) -> Path:
        """Directory of what the person said."""
        return self.root / "person"

    @property
    def run(self) -> Path:
        """Directory of sockets, locks and states."""
        return self.root / "run"

    @property
    def agent_lock(self) -> Path:
        """Lock file of the one supervisor."""
        return self.run / "agent.lock"

    @property
    def agent_state(self) -> Path:
        """Which processes run."""
        return self.run / "agent.state"

    @property
    def vault_socket(self) -> Path:
        """Where the node asks the vault."""
        return self.run / "vault.sock"

    @property
    def vault_lock(self) -> Path:
        """Lock file of the one vault."""
        return self.run / "vault.lock"

    @property
    def vault_state(self) -> Path:
        """What becomes of the trainer."""
        return self.run / "vault.state"

    @property
    def control_socket(self) -> Path:
        """Where the person's programs ask."""
        return self.run / "control.sock"

    @property
    def control_lock(self) -> Path:
        """Lock file of the one control service."""
        return self.run / "control.lock"

    @property
    def settings(self) -> Path:
        """`AgentSettings` as JSON."""
        return self.root / "agent.json"

    @property
    def ca_certificate(self) -> Path:
        """PEM of the server's certificate authority."""
        return self.node / "ca.crt"

    @property
    def node_key(self) -> Path:
        """PEM of this device's private EC key, 0600."""
        return self.node / "node.key"

    @property
    def device_key(self) -> Path:
        """PEM of this device's private Ed25519 key, 0600."""
        return self.node / "device.key"

    @property
    def device_certificate(self) -> Path:
        """PEM of the enrolment authority's certificate of `device_key`."""
        return self.node / "device.crt"

    @property
    def authority_certificate(self) -> Path:
        """PEM of the enrolment authority."""
        return self.node / "authority.crt"

    @property
    def enrolment(self) -> Path:
        """`Enrolment` as JSON."""
        return self.node / "enrolment.json"

    @property
    def contract(self) -> Path:
        """The officers' log, an entry a line."""
        return self.node / "contract.jsonl"

    @property
    def contract_problem(self) -> Path:
        """The name of the code that the last refresh was refused with; else not there."""
        return self.node / "contract.problem"

    @property
    def plan(self) -> Path:
        """The plan of the campaign that was joined, canonical JSON; else not there."""
        return self.node / "plan.json"

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
    def models(self) -> Path:
        """Directory of released models; missing until one was fetched."""
        return self.node / "models"

    @property
    def egress_journal(self) -> Path:
        """JSON lines: what left this machine."""
        return self.node / "egress.jsonl"

    @property
    def node_lock(self) -> Path:
        """Lock file of the one node process."""
        return self.node / "node.lock"

    @property
    def node_id(self) -> Path:
        """Flower's number of this device while it is connected; left behind by a kill."""
        return self.node / "node.id"

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
        """What the capture process does at the moment (capture/state.py)."""
        return self.root / "capture.state"

    @property
    def capture_lock(self) -> Path:
        """Lock file of the one capture process."""
        return self.root / "capture.lock"

    @property
    def consent(self) -> Path:
        """Receipts of consent, JSON lines; missing: none was ever given."""
        return self.person / "consent.jsonl"

    @property
    def notices(self) -> Path:
        """Directory of the texts that were agreed to, "SHA256.txt"."""
        return self.person / "notices"

    @property
    def asked(self) -> Path:
        """What the tray asked last; whoever refused it is not asked the same again."""
        return self.person / "asked.txt"

    @property
    def tray_lock(self) -> Path:
        """Lock file of the one tray process."""
        return self.run / "tray.lock"

    @property
    def pause(self) -> Path:
        """Whether the person has paused capture; missing: never paused."""
        return self.person / "pause.json"

    @property
    def choices(self) -> Path:
        """What the person chose to have stored; missing: the defaults."""
        return self.root / "content.json"

    @property
    def browsers(self) -> Path:
        """Directory of the notes of browsers' hosts."""
        return self.root / "browsers"


class TrainWhen(StrEnum):
    """When a round may train on this machine."""

    IDLE = "idle"  # while nobody would notice (daemon/conditions.py)
    ALWAYS = "always"  # whenever a round asks


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is set once for an agent.

    `lifetime_cap_nano_rho` is the person's own ceiling over all campaigns. A trainer process
    ends after `trainer_linger_seconds` without a task, and the torch it holds with it. Every
    `refresh_seconds` the desk is asked what the officers have signed since.
    """

    server: str
    lifetime_cap_nano_rho: int
    poll_seconds: float = 3.0
    idle_poll_seconds: float = 60.0
    heartbeat_seconds: float = 30.0
    trainer_linger_seconds: float = 60.0
    refresh_seconds: float = 3_600.0
    train_when: TrainWhen = TrainWhen.IDLE

    def __post_init__(self) -> None:
        positive(
            lifetime_cap_nano_rho=self.lifetime_cap_nano_rho,
            poll_seconds=self.poll_seconds,
            idle_poll_seconds=self.idle_poll_seconds,
            heartbeat_seconds=self.heartbeat_seconds,
            trainer_linger_seconds=self.trainer_linger_seconds,
            refresh_seconds=self.refresh_seconds,
        )


class Enrolment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What this device relies on since it was enrolled, and never takes from a server again.

    `desk` is "host:port"; `genesis` the hash of the officers' log's first entry; `node_id`
    Flower's number of this device.
    """

    desk: str
    genesis: str
    node_id: int

    def __post_init__(self) -> None:
        sha256_hex(genesis=self.genesis)


def read_settings(home: AgentHome) -> AgentSettings:
    """The settings of an enrolled agent.

    Raises:
        ValidationError: missing, unreadable or malformed; the message says what to run.
    """
    return _read(home, home.settings, AgentSettings)


def read_enrolment(home: AgentHome) -> Enrolment:
    """What was pinned when the agent was enrolled.

    Raises:
        ValidationError: missing, unreadable or malformed; the message says what to run.
    """
    return _read(home, home.enrolment, Enrolment)


def _read(home: AgentHome, path: Path, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        raise ValidationError(
            f"{home.root} holds no enrolled agent; run `tacitly-agent enrol INVITATION "
            f"--home {home.root}` first"
        ) from None
    except (OSError, *UNDECODABLE) as error:
        raise ValidationError(f"{path}: {error}") from error
