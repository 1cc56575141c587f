"""What officers agreed on, written into a server's home as if they had sent it."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from officers import AT, KEYS, genesis
from tacitly_common.campaign import CampaignPlan
from tacitly_common.contract.acts import (
    Act,
    Approve,
    Entry,
    Limit,
    ProposeChange,
    ProposePlan,
    Start,
    begin,
)
from tacitly_common.contract.log import next_entry
from tacitly_common.contract.policy import Policy
from tacitly_common.contract.signatures import private_pem, public_hex, read_private_pem
from tacitly_server.campaigns.officers_log import OfficersLog
from tacitly_server.home import ServerHome
from tacitly_server.private_files import write_private


def begin_log(home: ServerHome, **changes: Any) -> OfficersLog:
    """A log of four officers, with the server's own grant key, which is made if missing."""
    if not home.grant_key.exists():
        write_private(home.grant_key, private_pem(Ed25519PrivateKey.generate()))
    key = read_private_pem(home.grant_key.read_bytes(), source=home.grant_key)
    log = OfficersLog(home.officers_log)
    log.begin(begin(genesis(grant_key=public_hex(key), **changes), at=AT))
    return log


def sign(home: ServerHome, signer: str, act: Act) -> Entry:
    """Append an act to the server's log."""
    log = OfficersLog(home.officers_log)
    entry = next_entry(log.contract(), act, signer=signer, key=KEYS[signer], at=AT)
    log.append(entry)
    return entry


def approve(home: ServerHome, plan: CampaignPlan) -> None:
    """Propose a plan and approve it twice."""
    proposal = sign(home, "ada", ProposePlan(plan=plan.to_json().decode())).hash
    sign(home, "bea", Approve(proposal=proposal))
    sign(home, "cyn", Approve(proposal=proposal))


def start(home: ServerHome, plan: CampaignPlan) -> None:
    """`approve` a plan and start it."""
    approve(home, plan)
    sign(home, "dan", Start(plan_hash=plan.hash))


def stop(home: ServerHome, plan: CampaignPlan, *, after_round: int = 0) -> None:
    """Let a plan run no further than that."""
    sign(home, "dan", Limit(plan_hash=plan.hash, last_round=after_round, reason="test"))


def change_policy(home: ServerHome, policy: Policy) -> None:
    """Agree on another policy."""
    proposal = sign(home, "ada", ProposeChange(policy=policy)).hash
    sign(home, "bea", Approve(proposal=proposal))
    sign(home, "cyn", Approve(proposal=proposal))
