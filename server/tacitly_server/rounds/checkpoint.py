"""The last released round, on disk, with everything needed to go on from it.

    checkpoint.npz            the newest
    checkpoint.previous.npz   the one before: used if the newest is damaged

Written to a temporary file, synced, renamed; a crash leaves the old or the new one, whole.
The content's SHA-256 is inside, so a truncated or altered file is told from a good one.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from tacitly_common.campaign import CampaignPlan
from tacitly_common.errors import UNDECODABLE, TacitlyError
from tacitly_server.home import CampaignDirectory
from tacitly_server.private_files import sync_directory
from tacitly_server.rounds.optimizer import OptimizerState
from tacitly_server.rounds.receipts import Receipt, model_sha256

_SCHEMA: Final = 1
_HEADER, _DIGEST, _MODEL, _MOMENT = "header", "sha256", "model", "moment."


class CheckpointError(TacitlyError):
    """A checkpoint or the initial model cannot be read or written, or is another plan's."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after a released round; round 0 is the initial model, without a receipt.

    `model` is float32[parameters].
    """

    plan_hash: str
    round: int
    attempt: int
    model: NDArray[np.float32]
    optimizer: OptimizerState
    receipt: Receipt | None


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema_version: int
    plan_hash: str
    round: int
    attempt: int
    optimizer_steps: int
    receipt: Receipt | None


def previous(path: Path) -> Path:
    """Where the checkpoint before the one at `path` is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Make `checkpoint` the newest, and the newest the previous. Durable on return.

    Raises:
        CheckpointError: full disk, no permission; the files are as they were.
    """
    header = _Header(
        schema_version=_SCHEMA,
        plan_hash=checkpoint.plan_hash,
        round=checkpoint.round,
        attempt=checkpoint.attempt,
        optimizer_steps=checkpoint.optimizer.steps,
        receipt=checkpoint.receipt,
    )
    parts: dict[str, NDArray[np.generic]] = {
        _HEADER: np.frombuffer(msgspec.json.encode(header), dtype=np.uint8),
        _MODEL: checkpoint.model,
    }
    for name, moment in checkpoint.optimizer.moments.items():
        parts[_MOMENT + name] = moment
    parts[_DIGEST] = np.frombuffer(_digest(parts), dtype=np.uint8)
    temporary = path.with_name(f"{path.name}.new")
    older = path.with_name(f"{path.name}.old")
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, **parts)  # type: ignore[arg-type]
            stream.flush()
            os.fsync(stream.fileno())
        if path.exists():  # a second name first, so that `path` is never missing
            older.unlink(missing_ok=True)
            older.hardlink_to(path)
            older.replace(previous(path))
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"{path}: {error.strerror}; free disk space and start again"
        ) from error


def read_checkpoint(path: Path, plan: CampaignPlan) -> Checkpoint:
    """The checkpoint at `path`, checked against its digest and the plan.

    Raises:
        CheckpointError: missing, truncated, altered, or another plan's.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            parts = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no checkpoint") from None
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise CheckpointError(f"{path}: damaged ({type(error).__name__})") from error
    stored = parts.pop(_DIGEST, None)
    if stored is None or stored.tobytes() != _digest(parts):
        raise CheckpointError(f"{path}: damaged (its content does not match its SHA-256)")
    try:
        header = msgspec.json.decode(parts[_HEADER].tobytes(), type=_Header)
    except (KeyError, *UNDECODABLE) as error:
        raise CheckpointError(f"{path}: not a checkpoint of this version ({error})") from error
    if header.schema_version != _SCHEMA or header.plan_hash != plan.hash:
        raise CheckpointError(f"{path}: of another plan or version; use the campaign's own")
    model = parts.get(_MODEL)
    if model is None or model.dtype != np.float32 or model.shape != (plan.model.parameters,):
        raise CheckpointError(f"{path}: holds no float32[{plan.model.parameters}] model")
    moments = {
        name.removeprefix(_MOMENT): part for name, part in parts.items() if name.startswith(_MOMENT)
    }
    state = OptimizerState(header.optimizer_steps, moments)
    return Checkpoint(header.plan_hash, header.round, header.attempt, model, state, header.receipt)


def read_initial(directory: CampaignDirectory, plan: CampaignPlan) -> Checkpoint:
    """Round 0: the initial model, whose hash the plan names.

    Raises:
        CheckpointError: missing, malformed, or not the plan's.
    """
    path = directory.initial_model
    try:
        model = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:
        raise CheckpointError(
            f"{path}: no readable initial model ({type(error).__name__}); "
            f"remove {directory.root} and create the campaign anew"
        ) from error
    if (
        model.dtype != np.float32
        or model.shape != (plan.model.parameters,)
        or model_sha256(model) != plan.initial_model_hash
    ):
        raise CheckpointError(f"{path}: not the model whose SHA-256 the plan names")
    return Checkpoint(plan.hash, 0, 0, np.array(model), OptimizerState(), None)


def _digest(parts: Mapping[str, NDArray[np.generic]]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(parts):
        part = parts[name]
        digest.update(f"{name} {part.dtype.str} {part.shape}\n".encode())
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.digest()
