"""An agent's home with real files, for tests that run the trainer."""

import hashlib
import ssl
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from officers import AT, Log
from plans import small_plan
from scripted_desk import authority, certificate
from tacitly_client.campaigns import join
from tacitly_client.contract_store import ContractStore
from tacitly_client.files import write_whole
from tacitly_client.home import AgentHome, AgentSettings, Enrolment, TrainWhen
from tacitly_client.ledger import DeviceLedger
from tacitly_client.store import EventStore
from tacitly_common.campaign import CampaignPlan, revise
from tacitly_common.contract.signatures import private_pem
from tacitly_common.events import Event, EventKind
from tacitly_common.model import initial_vector
from tacitly_common.model_config import ModelConfig
from tacitly_common.vocabulary import Vocabulary

TEXT: Final = "the quick brown fox jumps over the lazy dog and then it rests for a while " * 6
JOB_COST: Final = small_plan().cost_nano_rho


def training_plan(*, record: dict[str, Any] | None = None, **changes: Any) -> CampaignPlan:
    """`small_plan` with a model over its real vocabulary and that model's hash."""
    base = small_plan(**changes)
    fitting = ModelConfig(vocabulary_size=Vocabulary(base.tokens).size, embedding=4, hidden=8)
    plan = revise(
        base,
        model=changes.get("model", fitting),
        record=msgspec.structs.replace(base.record, **(record or {})),
    )
    return revise(plan, initial_model_hash=hashlib.sha256(model_bytes(plan)).hexdigest())


def model_bytes(plan: CampaignPlan) -> bytes:
    """The model that the plan's first round starts from."""
    return initial_vector(plan.model, 0).astype("<f4").tobytes()


def make_home(
    root: Path,
    plan: CampaignPlan,
    *,
    text: str = TEXT,
    lifetime_attempts: int = 100,
    linger_seconds: float = 60.0,
) -> AgentHome:
    """A home whose store holds `text` as it was typed, a key each 100 ms."""
    home = AgentHome(root)
    home.create()
    settings = AgentSettings(
        server="127.0.0.1:1",
        lifetime_cap_nano_rho=lifetime_attempts * plan.cost_nano_rho,
        trainer_linger_seconds=linger_seconds,
        train_when=TrainWhen.ALWAYS,
    )
    home.settings.write_bytes(msgspec.json.encode(settings))
    agree(home, Log().start(plan), joined=plan)
    base = 1_700_000_000 * 10**9
    events = [
        Event(EventKind.KEY_DOWN, n * 10**8, base + n * 10**8, key) for n, key in enumerate(text)
    ]
    with EventStore.create(home.store) as store:
        store.append(events)
    DeviceLedger.create(home.ledger).close()
    return home


def agree(
    home: AgentHome, log: Log, *, joined: CampaignPlan | None = None, desk: str = "127.0.0.1:1"
) -> None:
    """Leave in a home what enrolment at a desk leaves, and join a campaign."""
    home.create()
    key = Ed25519PrivateKey.generate()
    write_whole(home.device_key, private_pem(key))
    for path, der in (
        (home.device_certificate, certificate(key.public_key(), "42")),
        (home.authority_certificate, authority()),
    ):
        path.write_text(ssl.DER_cert_to_PEM_cert(der))
    genesis = log.entries[0].hash
    ContractStore(home).begin(log.lines, genesis=genesis)
    home.enrolment.write_bytes(
        msgspec.json.encode(Enrolment(desk=desk, genesis=genesis, node_id=42))
    )
    if joined is not None:
        join(home, joined, "what was asked", now=AT)
