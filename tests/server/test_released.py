"""A released model as devices may have it: signed after the release, and again after any crash."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from campaign_lab import Lab
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tacitly_common.contract.model_receipt import (
    VerifiedModel,
    check_model,
    check_receipt,
)
from tacitly_common.contract.signatures import private_pem, public_hex
from tacitly_server.campaigns.officers_log import OfficersLog
from tacitly_server.campaigns.released import Publisher, Released, read_released
from tacitly_server.private_files import write_private
from tacitly_server.rounds.checkpoint import Checkpoint

AT = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


def publisher(lab: Lab, *, hour: int = 9) -> Publisher:
    opened = Publisher.open(lab.made.home, lab.plan)
    return Publisher(opened.plan, opened.path, opened.key, now=lambda: AT.replace(hour=hour))


def published(lab: Lab) -> VerifiedModel:
    """What a device makes of the file, by the officers' log."""
    released = read_released(lab.directory.released_model, most_bytes=1 << 20)
    grant_key = OfficersLog(lab.made.home.officers_log).contract().grant_key
    receipt = check_receipt(released.receipt, lab.plan, grant_key=grant_key)
    return check_model(receipt, released.part, lab.plan)


def test_each_release_is_published_and_verifies(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    rounds: list[int] = []
    publish = publisher(lab)

    def on_release(checkpoint: Checkpoint) -> None:
        publish(checkpoint)
        rounds.append(published(lab).receipt.round)

    lab.run(on_release=on_release)
    assert rounds == [1, 2, 3]
    model = published(lab)
    np.testing.assert_array_equal(model.vector, lab.checkpoint().model)
    assert model.receipt.released_at == AT


def test_before_the_first_release_there_is_nothing(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    assert read_released(lab.directory.released_model, most_bytes=99) == Released()


def test_what_a_crash_left_out_is_published_at_the_next_start(tmp_path: Path) -> None:
    lab = Lab(tmp_path)

    def crash(_checkpoint: Checkpoint) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        lab.run(on_release=crash)
    assert not lab.directory.released_model.exists()
    seen: list[int] = []

    def on_release(checkpoint: Checkpoint) -> None:
        publisher(lab)(checkpoint)
        seen.append(published(lab).receipt.round)

    lab.run(on_release=on_release)
    assert seen == [1, 2, 3]


def test_the_same_checkpoint_again_keeps_its_first_date(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.run(on_release=publisher(lab))
    before = lab.directory.released_model.read_bytes()
    publisher(lab, hour=17)(lab.checkpoint())
    assert lab.directory.released_model.read_bytes() == before


def test_after_a_change_of_the_grant_key_it_is_signed_anew(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.run(on_release=publisher(lab))
    new = Ed25519PrivateKey.generate()
    write_private(lab.made.home.grant_key, private_pem(new))
    publisher(lab, hour=17)(lab.checkpoint())
    released = read_released(lab.directory.released_model)
    receipt = check_receipt(released.receipt, lab.plan, grant_key=public_hex(new))
    assert receipt.released_at.hour == 17


def test_a_part_begins_at_its_offset_and_is_no_longer_than_asked(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.run(on_release=publisher(lab))
    whole = lab.checkpoint().model.astype("<f4").tobytes()
    path = lab.directory.released_model
    assert read_released(path, offset=10, most_bytes=5).part == whole[10:15]
    assert read_released(path, offset=len(whole), most_bytes=5).part == b""
    assert read_released(path, offset=1 << 32, most_bytes=5).part == b""
    assert read_released(path).part == b""
