"""What goes between the desk and its callers: generated code, signatures, errors."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tacitly_common
from officers import KEYS
from tacitly_common.contract.desk import signed_fields
from tacitly_common.contract.signatures import SignatureError, public_hex
from tacitly_common.errors import TacitlyError, ValidationError
from tacitly_common.wire.desk_client import desk_channel
from tacitly_common.wire.desk_errors import (
    DeskApprovalNeededError,
    DeskBudgetError,
    DeskConflictError,
    DeskError,
    DeskInputError,
    DeskNotAuthorisedError,
    DeskVerificationError,
    error_of,
    status_of,
)
from tacitly_common.wire.desk_pb2 import (
    CampaignsRequest,
    EnrolRequest,
    RefreshRequest,
    WithdrawRequest,
)
from tacitly_common.wire.desk_requests import SignedRequest, check_request, sign_request

WIRE = Path(tacitly_common.__file__).parent / "wire"
SIXTY_FOUR_BITS = st.integers(0, 2**64 - 1)
SIGNED_64_BITS = st.integers(-(2**63), 2**63 - 1)
FIELDS = st.lists(st.binary(max_size=4) | st.text(max_size=4) | SIXTY_FOUR_BITS, max_size=4)
REQUESTS = (
    st.builds(EnrolRequest, token=st.text(), node_key=st.binary(), device_key=st.binary())
    | st.builds(
        RefreshRequest,
        certificate=st.binary(),
        log_length=SIXTY_FOUR_BITS,
        attempts=SIXTY_FOUR_BITS,
        ledger_head=st.text(),
        sent_at_unix_seconds=SIGNED_64_BITS,
    )
    | st.builds(WithdrawRequest, certificate=st.binary(), sent_at_unix_seconds=SIGNED_64_BITS)
    | st.builds(CampaignsRequest, officer=st.text(), sent_at_unix_seconds=SIGNED_64_BITS)
)
ADA = public_hex(KEYS["ada"])


def test_the_generated_code_is_what_make_proto_makes(tmp_path: Path) -> None:
    source = WIRE.parent.parent
    outputs = [f"--{kind}={tmp_path}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={source}", *outputs,
         source / "tacitly_common/wire/desk.proto"],
        check=True,
    )  # fmt: skip
    made = sorted((tmp_path / "tacitly_common" / "wire").iterdir())
    assert [path.name for path in made] == ["desk_pb2.py", "desk_pb2.pyi", "desk_pb2_grpc.py"]
    for path in made:
        assert (WIRE / path.name).read_text() == path.read_text(), "run `make proto`"


def as_bytes(value: bytes | str | int) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@given(FIELDS, FIELDS)
def test_different_fields_are_signed_differently(one: list[Any], other: list[Any]) -> None:
    same = [as_bytes(value) for value in one] == [as_bytes(value) for value in other]
    assert (signed_fields(*one) == signed_fields(*other)) == same


@given(st.lists(st.binary(min_size=1, max_size=6), min_size=2, max_size=4), st.data())
def test_a_byte_that_moves_to_the_next_field_changes_what_is_signed(
    fields: list[bytes], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(fields) - 2))
    moved = list(fields)
    moved[at], moved[at + 1] = fields[at][:-1], fields[at][-1:] + fields[at + 1]
    assert signed_fields(*fields) != signed_fields(*moved)


@given(REQUESTS)
def test_a_request_is_good_with_its_signers_key_alone(request: SignedRequest) -> None:
    sign_request(request, KEYS["ada"])
    again = type(request).FromString(request.SerializeToString())
    check_request(again, ADA)
    with pytest.raises(SignatureError):
        check_request(again, public_hex(KEYS["bea"]))


@given(REQUESTS, st.data())
def test_every_field_of_a_request_is_signed(request: SignedRequest, data: st.DataObject) -> None:
    sign_request(request, KEYS["ada"])
    names = [field.name for field in request.DESCRIPTOR.fields if field.name != "signature"]
    name = data.draw(st.sampled_from(names))
    value = getattr(request, name)
    other = value ^ 1 if isinstance(value, int) else value + {bytes: b"x", str: "x"}[type(value)]
    setattr(request, name, other)
    with pytest.raises(SignatureError):
        check_request(request, ADA)


def test_a_refresh_is_no_withdrawal() -> None:
    refresh = RefreshRequest(certificate=b"c")
    sign_request(refresh, KEYS["ada"])
    withdrawal = WithdrawRequest(certificate=b"c", signature=refresh.signature)
    with pytest.raises(SignatureError):
        check_request(withdrawal, ADA)


class _Failed(grpc.RpcError):
    def __init__(self, status: grpc.StatusCode) -> None:
        super().__init__()
        self._status = status

    def code(self) -> grpc.StatusCode:
        return self._status

    def details(self) -> str:
        return "because"


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        (DeskInputError, 2),
        (DeskBudgetError, 3),
        (DeskApprovalNeededError, 4),
        (DeskVerificationError, 5),
        (DeskConflictError, 6),
        (DeskError, 7),
        (DeskNotAuthorisedError, 8),
    ],
)
def test_an_error_of_the_desk_is_the_same_for_its_caller(
    kind: type[DeskError], exit_code: int
) -> None:
    arrived = error_of(_Failed(status_of(kind("because"))))
    assert type(arrived) is kind
    assert arrived.exit_code == exit_code
    assert "because" in str(arrived)


def test_every_status_becomes_an_error_with_an_exit_code() -> None:
    for status in grpc.StatusCode:
        arrived = error_of(_Failed(status))
        assert arrived.exit_code in {2, 3, 4, 5, 6, 7, 8}
    assert error_of(_Failed(grpc.StatusCode.UNAUTHENTICATED)).exit_code == 8
    assert status_of(TacitlyError("other")) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("address", ["", "host", "host:", "host:99999", "https://host:1", "a b:1"])
def test_an_address_that_is_none_is_refused_before_anything_is_sent(address: str) -> None:
    with pytest.raises(ValidationError, match="HOST:PORT"):
        desk_channel(address, b"PEM")
    with pytest.raises(ValidationError, match=r"ca\.crt"):
        desk_channel("host:1", b"")
