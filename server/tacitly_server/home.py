"""Where the server keeps its state: one directory, mode 0700.

tls/                 ca.crt ca.key server.crt server.key (keys 0600)
control.token        bearer token of the operator (0600)
superexec.secret     shared by SuperLink and SuperExec (0600)
subject.secret       key of the HMAC that names subjects (0600)
grant.key            signs grants; officers know its public half (0600)
authority.key        certifies devices' own keys, with authority.crt (0600)
officers.log         what officers agreed on (campaigns/officers_log.py)
ledger.key           signs the ledger's checkpoints (0600)
ledger.pub           its public half, 64 hex digits: for auditors
superlink.db         Flower's own state
population.db        subjects and the population ledger
ledger-witness.jsonl what was charged, outside the database
ledger.json          where ledger and witness are, if not here (0600, optional)
audit.jsonl          what was asked of the operator's interfaces
fleet.jsonl          what devices, and callers from outside, asked
desk.jsonl           what was asked of the enrolment desk
alarms.jsonl         devices whose ledgers contradict the population ledger
status.json          what `tacitly-server up` last saw
supervisor.lock      held while `tacitly-server up` runs
logs/                output of the processes it runs
flower/              FLWR_HOME: the unpacked bundle
campaigns/HASH/      one campaign: plan.json, initial.npy, grant.json, checkpoint.npz,
                     receipts.jsonl, model.released
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

# How the ServerApp process, which Flower starts, learns where the state is.
HOME_VARIABLE: Final = "TACITLY_SERVER_HOME"


@dataclass(frozen=True, slots=True)
class CampaignDirectory:
    """The paths of one campaign."""

    root: Path

    @property
    def plan(self) -> Path:
        """The plan, canonical JSON."""
        return self.root / "plan.json"

    @property
    def initial_model(self) -> Path:
        """float32[parameters], `numpy.save` format."""
        return self.root / "initial.npy"

    @property
    def checkpoint(self) -> Path:
        """Everything needed to resume after the last released round."""
        return self.root / "checkpoint.npz"

    @property
    def grant(self) -> Path:
        """The newest grant, as it travels."""
        return self.root / "grant.json"

    @property
    def receipts(self) -> Path:
        """JSON lines: one receipt for each finished attempt."""
        return self.root / "receipts.jsonl"

    @property
    def released_model(self) -> Path:
        """The newest released model, signed, as devices get it (`campaigns/released.py`)."""
        return self.root / "model.released"


@dataclass(frozen=True, slots=True)
class ServerHome:
    """The paths below the server's directory."""

    root: Path

    @property
    def tls(self) -> Path:
        """Directory of certificates and their keys."""
        return self.root / "tls"

    @property
    def control_token(self) -> Path:
        """Bearer token of the Control API."""
        return self.root / "control.token"

    @property
    def superexec_secret(self) -> Path:
        """Secret of the Runtime API."""
        return self.root / "superexec.secret"

    @property
    def subject_secret(self) -> Path:
        """HMAC key that names subjects."""
        return self.root / "subject.secret"

    @property
    def grant_key(self) -> Path:
        """Ed25519 key that signs grants."""
        return self.root / "grant.key"

    @property
    def authority_key(self) -> Path:
        """EC key of the enrolment authority."""
        return self.root / "authority.key"

    @property
    def authority_certificate(self) -> Path:
        """The enrolment authority's own certificate, PEM."""
        return self.root / "authority.crt"

    @property
    def officers_log(self) -> Path:
        """JSON lines: what officers agreed on."""
        return self.root / "officers.log"

    @property
    def superlink_database(self) -> Path:
        """SQLite file of Flower's SuperLink."""
        return self.root / "superlink.db"

    @property
    def population_database(self) -> Path:
        """SQLite file of subjects and the population ledger."""
        return self.root / "population.db"

    @property
    def ledger_key(self) -> Path:
        """Ed25519 key that signs the ledger's checkpoints."""
        return self.root / "ledger.key"

    @property
    def ledger_public_key(self) -> Path:
        """The public half of `ledger_key`, hex."""
        return self.root / "ledger.pub"

    @property
    def ledger_witness(self) -> Path:
        """JSON lines: what was charged, to be compared with the ledger after a restore."""
        return self.root / "ledger-witness.jsonl"

    @property
    def ledger_place(self) -> Path:
        """JSON: another database and another witness (`ledger/place.py`)."""
        return self.root / "ledger.json"

    @property
    def audit_log(self) -> Path:
        """JSON lines of Control calls, and of refused ones at the operator's address."""
        return self.root / "audit.jsonl"

    @property
    def fleet_log(self) -> Path:
        """JSON lines of Fleet calls, and of everything refused at another address."""
        return self.root / "fleet.jsonl"

    @property
    def desk_log(self) -> Path:
        """JSON lines of the calls of devices and officers, answered or refused."""
        return self.root / "desk.jsonl"

    @property
    def alarms(self) -> Path:
        """JSON lines: what devices' ledgers contradict."""
        return self.root / "alarms.jsonl"

    @property
    def status(self) -> Path:
        """JSON: what the supervisor last saw."""
        return self.root / "status.json"

    @property
    def supervisor_lock(self) -> Path:
        """Locked by the running supervisor."""
        return self.root / "supervisor.lock"

    @property
    def logs(self) -> Path:
        """Directory of the output of SuperLink and SuperExec."""
        return self.root / "logs"

    @property
    def flower(self) -> Path:
        """Flower's own directory (FLWR_HOME)."""
        return self.root / "flower"

    @property
    def campaigns(self) -> Path:
        """Directory of all campaigns."""
        return self.root / "campaigns"

    def campaign(self, plan_hash: str) -> CampaignDirectory:
        """The directory of the campaign whose plan has this hash."""
        return CampaignDirectory(self.campaigns / plan_hash)
