"""The server's signed word for a released model, and what a device checks before it uses one.

    document = sign_receipt(receipt, key).to_json()
    receipt = check_receipt(document, plan, grant_key=contract.grant_key)
    check_newer(receipt, held)
    model = check_model(receipt, content, plan)         # any of them: ModelRefusedError

A released model is a function of noised sums alone, so anybody may have it. The signature says
that it is the campaign's, so that no device suggests from a model that somebody else made.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from tacitly_common.campaign import CampaignPlan
from tacitly_common.contract.signatures import SignatureError, sign, verify
from tacitly_common.errors import UNDECODABLE, TacitlyError
from tacitly_common.validation import in_range, sha256_hex, utc

MODEL_RECEIPT_SCHEMA_VERSION: Final = 1
MOST_RECEIPT_BYTES: Final = 2_048
_PURPOSE: Final = "model receipt"


class ModelRefusedError(TacitlyError):
    """A model is not what the server signed, not the plan's, or older than the one held."""

    exit_code = 5


class ModelReceipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model a campaign released. `model_sha256` is of its little-endian float32 bytes.

    `attempt` orders models of one round: a server that lost its newest checkpoint makes that round
    again, under a higher number.
    """

    schema_version: int = MODEL_RECEIPT_SCHEMA_VERSION
    plan_hash: str
    round: int
    attempt: int
    model_sha256: str
    vocabulary_version: int
    released_at: datetime

    def __post_init__(self) -> None:
        sha256_hex(plan_hash=self.plan_hash, model_sha256=self.model_sha256)
        in_range(1, 1_000_000, round=self.round)
        in_range(0, 2**31, attempt=self.attempt)
        utc(released_at=self.released_at)

    @property
    def place(self) -> tuple[int, int]:
        """Round and attempt: of two models of a campaign the greater is the newer."""
        return self.round, self.attempt

    def to_json(self) -> bytes:
        """Canonical JSON: what is signed."""
        return msgspec.json.encode(self, order="sorted")


class SignedReceipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A receipt with the signature of the server's grant key."""

    receipt: ModelReceipt
    signature: str

    def to_json(self) -> bytes:
        """Canonical JSON, without a line break: how it is kept and travels."""
        return msgspec.json.encode(self, order="sorted")


@dataclass(frozen=True, slots=True)
class VerifiedModel:
    """A model that passed every check. `vector` is float32[plan.model.parameters], read-only."""

    plan: CampaignPlan
    receipt: ModelReceipt
    vector: NDArray[np.float32] = field(repr=False)


def sign_receipt(receipt: ModelReceipt, key: Ed25519PrivateKey) -> SignedReceipt:
    """The receipt under the grant key."""
    return SignedReceipt(receipt=receipt, signature=sign(key, _PURPOSE, receipt.to_json()))


def check_receipt(document: bytes, plan: CampaignPlan, *, grant_key: str) -> ModelReceipt:
    """The receipt of one of `plan`'s models, signed with `grant_key`, 64 hex digits.

    Raises:
        ModelRefusedError: it is none, somebody else's, or another plan's.
    """
    try:
        signed = msgspec.json.decode(document[: MOST_RECEIPT_BYTES + 1], type=SignedReceipt)
    except UNDECODABLE:
        raise ModelRefusedError("the model's receipt is malformed; fetch it again") from None
    receipt = signed.receipt
    if receipt.plan_hash != plan.hash:
        raise ModelRefusedError(
            f"the model is of campaign {receipt.plan_hash[:16]}, not of {plan.hash[:16]}; "
            "tell an officer"
        )
    try:
        verify(grant_key, _PURPOSE, receipt.to_json(), signed.signature)
    except SignatureError:
        raise ModelRefusedError(
            "the model's receipt is not signed with the grant key that the officers' log names; "
            "fetch it again, and tell an officer if that does not help"
        ) from None
    known = (MODEL_RECEIPT_SCHEMA_VERSION, plan.tokens.vocabulary_version)
    if (receipt.schema_version, receipt.vocabulary_version) != known:
        raise ModelRefusedError(
            f"the model's receipt is of schema {receipt.schema_version} and vocabulary "
            f"{receipt.vocabulary_version}, expected {known[0]} and {known[1]}; "
            "use a Tacitly of the campaign's version"
        )
    if receipt.round > plan.rounds:
        raise ModelRefusedError(
            f"the model is of round {receipt.round}, the plan has {plan.rounds}; tell an officer"
        )
    return receipt


def check_newer(receipt: ModelReceipt, held: ModelReceipt | None) -> None:
    """Return if a receipt may take the place of the one that is held; the same one may.

    Raises:
        ModelRefusedError: it is older, or names another model for the same attempt.
    """
    if held is None or receipt.place > held.place:
        return
    if receipt.place < held.place:
        raise ModelRefusedError(
            f"the model is of round {receipt.round} attempt {receipt.attempt}, this machine has "
            f"round {held.round} attempt {held.attempt} already and keeps it"
        )
    if receipt.model_sha256 != held.model_sha256:
        raise ModelRefusedError(
            f"two models are signed for round {held.round} attempt {held.attempt}; "
            "this machine keeps the first; tell an officer"
        )


def check_model(receipt: ModelReceipt, content: bytes, plan: CampaignPlan) -> VerifiedModel:
    """The model of a receipt that `check_receipt` returned.

    Raises:
        ModelRefusedError: the content has another length or hash, or numbers that are not finite.
    """
    expected = 4 * plan.model.parameters
    if len(content) != expected:
        raise ModelRefusedError(
            f"the model has {len(content)} bytes, the plan's has {expected}; fetch it again"
        )
    if hashlib.sha256(content).hexdigest() != receipt.model_sha256:
        raise ModelRefusedError("the model is not the one its receipt names; fetch it again")
    vector = np.frombuffer(content, dtype="<f4")
    if not np.isfinite(vector).all():
        raise ModelRefusedError("the model holds numbers that are not finite; tell an officer")
    return VerifiedModel(plan, receipt, vector)
