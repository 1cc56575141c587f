"""The server's word for a released model: what passes, and everything that does not."""

import hashlib
from datetime import datetime

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homes import model_bytes, training_plan
from officers import GRANT_KEY, STRANGER
from released import RELEASED_AT, receipt_for, release
from tacitly_common.campaign import revise
from tacitly_common.contract.model_receipt import (
    ModelReceipt,
    ModelRefusedError,
    check_model,
    check_newer,
    check_receipt,
)
from tacitly_common.contract.signatures import public_hex
from tacitly_common.errors import ValidationError

PLAN = training_plan()
MODEL = model_bytes(PLAN)
KEY = public_hex(GRANT_KEY)


def test_a_signed_model_passes_and_is_the_released_vector() -> None:
    document, content = release(PLAN)
    model = check_model(check_receipt(document, PLAN, grant_key=KEY), content, PLAN)
    assert model.vector.astype("<f4").tobytes() == MODEL
    assert not model.vector.flags.writeable
    assert (model.receipt.round, model.receipt.released_at) == (3, RELEASED_AT)


def test_the_receipt_is_canonical_json_on_one_line() -> None:
    receipt = receipt_for(PLAN, MODEL)
    assert receipt.to_json() == msgspec.json.encode(receipt, order="sorted")
    assert b"\n" not in release(PLAN)[0]


def test_it_is_refused_when_somebody_else_signed_it() -> None:
    document, _ = release(PLAN, key=STRANGER)
    with pytest.raises(ModelRefusedError, match="not signed with the grant key") as refusal:
        check_receipt(document, PLAN, grant_key=KEY)
    assert refusal.value.exit_code == 5


def test_it_is_refused_for_another_plan() -> None:
    document, _ = release(PLAN)
    other = revise(PLAN, rounds=19)
    with pytest.raises(ModelRefusedError, match="is of campaign"):
        check_receipt(document, other, grant_key=KEY)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"round": PLAN.rounds + 1}, "the plan has"),
        ({"vocabulary_version": 2}, "vocabulary 2, expected"),
        ({"schema_version": 2}, "of schema 2"),
    ],
)
def test_a_signed_receipt_that_does_not_fit_the_plan_is_refused(
    changes: dict[str, int], words: str
) -> None:
    with pytest.raises(ModelRefusedError, match=words):
        check_receipt(release(PLAN, **changes)[0], PLAN, grant_key=KEY)


@given(st.data())
def test_no_byte_of_a_receipt_can_be_changed(data: st.DataObject) -> None:
    document = bytearray(release(PLAN)[0])
    place = data.draw(st.integers(0, len(document) - 1))
    document[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ModelRefusedError):
        check_receipt(bytes(document), PLAN, grant_key=KEY)


@pytest.mark.parametrize("document", [b"", b"\xff", b"{}", b"[" * 4_000, b" " * 100_000 + b"{}"])
def test_what_is_no_receipt_is_refused(document: bytes) -> None:
    with pytest.raises(ModelRefusedError, match="malformed"):
        check_receipt(document, PLAN, grant_key=KEY)


def test_a_receipt_is_dated_in_utc() -> None:
    elsewhere = datetime.fromisoformat("2026-11-20T12:00:00+02:00")
    with pytest.raises(ValidationError, match="UTC"):
        ModelReceipt(
            plan_hash=PLAN.hash,
            round=1,
            attempt=0,
            model_sha256="0" * 64,
            vocabulary_version=1,
            released_at=elsewhere,
        )


def test_a_model_of_another_length_or_content_is_refused() -> None:
    receipt = receipt_for(PLAN, MODEL)
    with pytest.raises(ModelRefusedError, match="bytes, the plan's has"):
        check_model(receipt, MODEL[:-4], PLAN)
    flipped = bytes([MODEL[0] ^ 1]) + MODEL[1:]
    with pytest.raises(ModelRefusedError, match="not the one its receipt names"):
        check_model(receipt, flipped, PLAN)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_signed_model_with_numbers_that_are_none_is_refused(bad: float) -> None:
    vector = np.frombuffer(MODEL, dtype="<f4").copy()
    vector[-1] = bad
    content = vector.tobytes()
    receipt = receipt_for(PLAN, content)
    assert receipt.model_sha256 == hashlib.sha256(content).hexdigest()
    with pytest.raises(ModelRefusedError, match="not finite"):
        check_model(receipt, content, PLAN)


def test_an_older_model_is_refused_and_a_later_attempt_is_newer() -> None:
    held = receipt_for(PLAN, MODEL, round=5, attempt=2)
    for place in ((4, 9), (5, 1)):
        older = receipt_for(PLAN, MODEL, round=place[0], attempt=place[1])
        with pytest.raises(ModelRefusedError, match="this machine has round 5 attempt 2"):
            check_newer(older, held)
    other = "0" * 64
    for place in ((5, 3), (6, 0)):
        newer = receipt_for(PLAN, MODEL, round=place[0], attempt=place[1], model_sha256=other)
        check_newer(newer, held)
    check_newer(held, held)
    check_newer(held, None)


def test_two_models_for_one_attempt_are_told() -> None:
    held = receipt_for(PLAN, MODEL)
    with pytest.raises(ModelRefusedError, match="two models are signed"):
        check_newer(receipt_for(PLAN, MODEL, model_sha256="0" * 64), held)
