"""A campaign's newest released model as devices may have it: `model.released`, one file.

    a line       the signed receipt (tacitly_common.contract.model_receipt), canonical JSON
    the rest     the model, little-endian float32

Written by the campaign's own process, which holds the grant key; the desk hands it out and signs
nothing. It is derived from the checkpoint, so what a crash left out is written at the next start.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tacitly_common.campaign import CampaignPlan
from tacitly_common.contract.model_receipt import (
    MOST_RECEIPT_BYTES,
    ModelReceipt,
    ModelRefusedError,
    check_receipt,
    sign_receipt,
)
from tacitly_common.contract.signatures import public_hex, read_private_pem
from tacitly_server.home import ServerHome
from tacitly_server.private_files import read_private, write_private
from tacitly_server.rounds.checkpoint import Checkpoint
from tacitly_server.rounds.receipts import model_sha256


@dataclass(frozen=True, slots=True)
class Released:
    """A part of a released model. `receipt` is empty if there is none yet."""

    receipt: bytes = b""
    part: bytes = b""


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes the models of one campaign."""

    plan: CampaignPlan
    path: Path
    key: Ed25519PrivateKey
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @classmethod
    def open(cls, home: ServerHome, plan: CampaignPlan) -> "Publisher":
        """Of a campaign that is filed in `home`.

        Raises:
            ValidationError: there is no grant key, or others can read it.
        """
        key = read_private_pem(read_private(home.grant_key), source=home.grant_key)
        return cls(plan, home.campaign(plan.hash).released_model, key)

    def __call__(self, checkpoint: Checkpoint) -> None:
        """Sign and publish a checkpoint's model, if it is not what is published already.

        Raises:
            OSError: it could not be written; what was published before still is.
        """
        digest = model_sha256(checkpoint.model)
        with suppress(ModelRefusedError):
            published = check_receipt(
                read_released(self.path).receipt, self.plan, grant_key=public_hex(self.key)
            )
            if (*published.place, published.model_sha256) == (
                checkpoint.round,
                checkpoint.attempt,
                digest,
            ):
                return
        receipt = ModelReceipt(
            plan_hash=self.plan.hash,
            round=checkpoint.round,
            attempt=checkpoint.attempt,
            model_sha256=digest,
            vocabulary_version=self.plan.tokens.vocabulary_version,
            released_at=self.now().replace(microsecond=0),
        )
        content = checkpoint.model.astype("<f4", copy=False).tobytes()
        write_private(self.path, sign_receipt(receipt, self.key).to_json() + b"\n" + content)


def read_released(path: Path, *, offset: int = 0, most_bytes: int = 0) -> Released:
    """The receipt, and of the model at most so many bytes from `offset` on."""
    try:
        with path.open("rb") as file:
            receipt = file.readline(MOST_RECEIPT_BYTES).removesuffix(b"\n")
            file.seek(offset, 1)
            return Released(receipt, file.read(most_bytes))
    except FileNotFoundError:
        return Released()
