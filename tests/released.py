"""Released models as a server signs them."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homes import model_bytes
from officers import GRANT_KEY
from tacitly_common.campaign import CampaignPlan
from tacitly_common.contract.model_receipt import ModelReceipt, sign_receipt

RELEASED_AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


def receipt_for(plan: CampaignPlan, model: bytes, **changes: Any) -> ModelReceipt:
    """An honest receipt of round 3, but for `changes`."""
    honest = ModelReceipt(
        plan_hash=plan.hash,
        round=3,
        attempt=0,
        model_sha256=hashlib.sha256(model).hexdigest(),
        vocabulary_version=plan.tokens.vocabulary_version,
        released_at=RELEASED_AT,
    )
    return msgspec.structs.replace(honest, **changes)


def release(
    plan: CampaignPlan,
    model: bytes | None = None,
    *,
    key: Ed25519PrivateKey = GRANT_KEY,
    **changes: Any,
) -> tuple[bytes, bytes]:
    """A signed receipt and its model; the plan's initial one if None."""
    content = model_bytes(plan) if model is None else model
    return sign_receipt(receipt_for(plan, content, **changes), key).to_json(), content
