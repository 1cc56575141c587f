import os
import resource
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from campaign_home import CampaignHome, make_home

from plans import small_plan
from tacitly_server.rounds.checkpoint import (
    Checkpoint,
    CheckpointError,
    previous,
    read_checkpoint,
    read_initial,
    save_checkpoint,
)
from tacitly_server.rounds.optimizer import OptimizerState
from tacitly_server.rounds.receipts import (
    Outcome,
    Receipt,
    ReceiptError,
    append_receipt,
    cut_torn_line,
    model_sha256,
    read_receipts,
)
from tacitly_server.rounds.recovery import newest_usable


@pytest.fixture
def made(tmp_path: Path) -> CampaignHome:
    return make_home(tmp_path)


def receipt_of(plan_hash: str, round_number: int, **changes: Any) -> Receipt:
    fields: dict[str, Any] = {
        "plan_hash": plan_hash,
        "round": round_number,
        "attempt": 2,
        "outcome": Outcome.RELEASED,
        "selected": 8,
        "usable": 7,
        "refusals": {"no_answer": 1},
        "noise_multiplier": Decimal("3.78"),
        "cost_nano_rho": 34_993_422,
        "model_sha256": "c" * 64,
        "seconds": 1.5,
        "bytes_up": 1_000,
    }
    return Receipt(**(fields | changes))


def checkpoint_of(made: CampaignHome, round_number: int) -> Checkpoint:
    rng = np.random.default_rng(round_number)
    d = made.plan.model.trainable_parameters
    return Checkpoint(
        made.plan.hash,
        round_number,
        2,
        rng.normal(size=made.plan.model.parameters).astype(np.float32),
        OptimizerState(round_number, {"first": rng.normal(size=d), "second": rng.normal(size=d)}),
        receipt_of(made.plan.hash, round_number),
    )


def assert_same(read: Checkpoint, saved: Checkpoint) -> None:
    assert (read.plan_hash, read.round, read.attempt) == (
        saved.plan_hash,
        saved.round,
        saved.attempt,
    )
    assert read.receipt == saved.receipt
    assert read.optimizer.steps == saved.optimizer.steps
    assert set(read.optimizer.moments) == set(saved.optimizer.moments)
    np.testing.assert_array_equal(read.model, saved.model)
    for name, moment in saved.optimizer.moments.items():
        np.testing.assert_array_equal(read.optimizer.moments[name], moment)


def test_everything_needed_to_resume_comes_back(made: CampaignHome) -> None:
    saved = checkpoint_of(made, 1)
    save_checkpoint(made.directory.checkpoint, saved)
    assert_same(read_checkpoint(made.directory.checkpoint, made.plan), saved)


def test_the_last_two_are_kept_and_nothing_else(made: CampaignHome) -> None:
    path = made.directory.checkpoint
    saved = [checkpoint_of(made, r) for r in (1, 2, 3)]
    for checkpoint in saved:
        save_checkpoint(path, checkpoint)
    assert_same(read_checkpoint(path, made.plan), saved[2])
    assert_same(read_checkpoint(previous(path), made.plan), saved[1])
    names = {p.name for p in made.directory.root.iterdir()}
    assert names == {"plan.json", "initial.npy", path.name, previous(path).name}


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_says_so_and_the_one_before_is_used(
    made: CampaignHome, share: float
) -> None:
    path = made.directory.checkpoint
    for round_number in (1, 2):
        save_checkpoint(path, checkpoint_of(made, round_number))
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz: damaged"):
        read_checkpoint(path, made.plan)
    assert_same(newest_usable(made.directory, made.plan), checkpoint_of(made, 1))


def test_one_flipped_byte_of_content_is_noticed(made: CampaignHome) -> None:
    path = made.directory.checkpoint
    save_checkpoint(path, checkpoint_of(made, 1))
    content = bytearray(path.read_bytes())
    place = content.find(checkpoint_of(made, 1).model.tobytes())
    assert place > 0
    content[place + 17] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path, made.plan)


def test_content_that_was_replaced_consistently_fails_its_digest(made: CampaignHome) -> None:
    path = made.directory.checkpoint
    save_checkpoint(path, checkpoint_of(made, 1))
    with np.load(path) as archive:
        parts = {name: archive[name] for name in archive.files}
    parts["model"] = parts["model"] + np.float32(1)
    with path.open("wb") as stream:
        np.savez(stream, **parts)
    with pytest.raises(CheckpointError, match="SHA-256"):
        read_checkpoint(path, made.plan)


def test_with_both_damaged_nothing_is_guessed(made: CampaignHome) -> None:
    path = made.directory.checkpoint
    for round_number in (1, 2):
        save_checkpoint(path, checkpoint_of(made, round_number))
    for damaged in (path, previous(path)):
        damaged.write_bytes(b"")
    with pytest.raises(CheckpointError, match="restore one from a backup"):
        newest_usable(made.directory, made.plan)


def test_without_any_the_initial_model_is_round_zero(made: CampaignHome) -> None:
    start = newest_usable(made.directory, made.plan)
    assert (start.round, start.attempt, start.receipt) == (0, 0, None)
    assert model_sha256(start.model) == made.plan.initial_model_hash


@pytest.mark.parametrize("kind", ["missing", "garbage", "another model", "wide"])
def test_an_initial_model_that_is_not_the_plans_is_refused(made: CampaignHome, kind: str) -> None:
    path = made.directory.initial_model
    model = np.load(path)
    match kind:
        case "missing":
            path.unlink()
        case "garbage":
            path.write_bytes(b"garbage")
        case "another model":
            np.save(path, model + np.float32(1))
        case "wide":
            np.save(path, model.astype(np.float64))
    with pytest.raises(CheckpointError, match=r"initial\.npy"):
        read_initial(made.directory, made.plan)


def test_another_plans_checkpoint_is_refused(made: CampaignHome) -> None:
    path = made.directory.checkpoint
    save_checkpoint(path, checkpoint_of(made, 1))
    with pytest.raises(CheckpointError, match="another plan"):
        read_checkpoint(path, small_plan(name="other"))


def test_a_full_disk_leaves_the_checkpoints_as_they_were(made: CampaignHome) -> None:
    path = made.directory.checkpoint
    for round_number in (1, 2):
        save_checkpoint(path, checkpoint_of(made, round_number))
    before = {p: p.read_bytes() for p in made.directory.root.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(CheckpointError, match="free disk space"):
            save_checkpoint(path, checkpoint_of(made, 3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {p: p.read_bytes() for p in made.directory.root.iterdir()} == before


def test_receipts_are_appended_and_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    receipts = [receipt_of("a" * 64, r) for r in (1, 2, 3)]
    assert read_receipts(path) == []
    for receipt in receipts:
        append_receipt(path, receipt)
    assert read_receipts(path) == receipts


def test_a_line_torn_by_a_crash_is_cut_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    first, second = receipt_of("a" * 64, 1), receipt_of("a" * 64, 2)
    append_receipt(path, first)
    with path.open("ab") as stream:
        stream.write(b'{"plan_hash":"aaa')
    assert read_receipts(path) == [first]
    cut_torn_line(path)
    append_receipt(path, second)
    assert read_receipts(path) == [first, second]


def test_a_receipt_that_fits_in_part_is_an_error_and_can_be_cut(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    first, second = receipt_of("a" * 64, 1), receipt_of("a" * 64, 2)
    append_receipt(path, first)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, hard))
    try:
        with pytest.raises(ReceiptError, match="too large"):
            append_receipt(path, second)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    cut_torn_line(path)
    append_receipt(path, second)
    assert read_receipts(path) == [first, second]


def test_a_damaged_receipt_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    append_receipt(path, receipt_of("a" * 64, 1))
    with path.open("ab") as stream:
        stream.write(b'{"round": 2}\n')
    with pytest.raises(ReceiptError, match="line 2"):
        read_receipts(path)
