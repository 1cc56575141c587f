"""Devices at the desk: a real process over TLS beside a real SuperLink."""

from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from desk import Desk, Device, desk_beside_superlink
from tacitly_common.contract.acts import Revoke
from tacitly_common.contract.log import read_log
from tacitly_common.contract.signatures import public_hex
from tacitly_common.wire.desk_client import ask
from tacitly_common.wire.desk_errors import (
    DeskConflictError,
    DeskInputError,
    DeskNotAuthorisedError,
)
from tacitly_common.wire.desk_pb2 import ModelResponse
from tacitly_common.wire.desk_pb2_grpc import EnrolmentStub
from tacitly_server.enrolment.registry import Registry
from tacitly_server.ledger.subjects import Subjects, subject_name


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk_beside_superlink(tmp_path_factory.mktemp("desk") / "home") as running:
        yield running


def nodes(desk: Desk) -> dict[int, str]:
    with desk.superlink.control() as control:
        return {node.node_id: node.status for node in control.nodes()}


def test_a_device_is_registered_bound_and_certified(desk: Desk) -> None:
    invitation = desk.invite("ada")
    device = Device(desk)
    answer = device.enrol(invitation.token)
    assert nodes(desk)[answer.node_id] == "registered"
    with Subjects(desk.home.population_database) as subjects:
        secret = desk.home.subject_secret.read_bytes()
        assert subjects.enrolled()[answer.node_id] == subject_name(secret, "ada")
    certificate = x509.load_der_x509_certificate(answer.certificate)
    certificate.verify_directly_issued_by(x509.load_der_x509_certificate(answer.authority))
    assert certificate.public_key() == device.key.public_key()
    assert certificate.subject.rfc4514_string() == f"CN={answer.node_id}"
    assert read_log(answer.entries, genesis=invitation.genesis) == desk.log.contract()


def test_the_same_request_again_gets_the_same_answer(desk: Desk) -> None:
    token = desk.invite().token
    device = Device(desk)
    first = device.enrol(token)
    before = nodes(desk)
    assert device.enrol(token) == first
    assert nodes(desk) == before


def test_two_devices_of_a_person_are_two_nodes_of_one_subject(desk: Desk) -> None:
    one, other = desk.device("eve"), desk.device("eve")
    assert one.answer.node_id != other.answer.node_id
    with Subjects(desk.home.population_database) as subjects:
        enrolled = subjects.enrolled()
    assert enrolled[one.answer.node_id] == enrolled[other.answer.node_id]


def test_a_token_admits_no_other_keys(desk: Desk) -> None:
    token = desk.invite().token
    first = Device(desk)
    first.enrol(token)
    for thief in (
        Device(desk),
        Device(desk, node_key=first.node_key),
        Device(desk, key=first.key),
    ):
        with pytest.raises(DeskNotAuthorisedError, match="was used with other keys"):
            thief.enrol(token)


def test_an_unknown_and_an_expired_token_each_say_so(desk: Desk) -> None:
    with pytest.raises(DeskNotAuthorisedError, match="not one of this server's"):
        Device(desk).enrol("A" * 32)
    with pytest.raises(DeskNotAuthorisedError, match=r"expired on .* ask for a new one"):
        Device(desk).enrol(desk.invite(days=1, ago_days=2).token)


def test_keys_that_were_enrolled_before_are_refused_and_the_token_is_not_lost(desk: Desk) -> None:
    first = desk.device()
    token = desk.invite("bob").token
    for again in (Device(desk, node_key=first.node_key), Device(desk, key=first.key)):
        with pytest.raises(DeskConflictError, match="was enrolled before; make new ones"):
            again.enrol(token)
    assert Device(desk).enrol(token).node_id


def test_a_device_key_that_the_caller_does_not_hold_is_not_certified(desk: Desk) -> None:
    request = Device(desk).request(desk.invite().token)
    request.device_key = bytes.fromhex(public_hex(Ed25519PrivateKey.generate()))
    with pytest.raises(DeskNotAuthorisedError, match="enrol request"):
        ask(EnrolmentStub(desk.channel()).Enrol, request)


@pytest.mark.parametrize(
    "spoiled",
    [
        {"node_key": b"PRIVATE THING"},
        {"node_key": b"\x30" * 100_000},
        {"device_key": b"\x01" * 31},
        {"token": "A" * 10_000},
    ],
)
def test_what_is_no_key_or_token_is_bad_input_and_not_shown(
    desk: Desk, spoiled: dict[str, bytes | str]
) -> None:
    request = Device(desk).request("A" * 32)
    for name, value in spoiled.items():
        setattr(request, name, value)
    with pytest.raises(DeskInputError) as refusal:
        ask(EnrolmentStub(desk.channel()).Enrol, request)
    assert "PRIVATE" not in str(refusal.value)
    assert len(str(refusal.value)) < 200


def test_a_key_on_no_nist_curve_is_bad_input(desk: Desk) -> None:
    device = Device(desk, node_key=ec.generate_private_key(ec.SECP256K1()))
    with pytest.raises(DeskInputError, match="NIST curve"):
        device.enrol(desk.invite().token)


def test_a_refresh_brings_what_officers_signed_since(desk: Desk) -> None:
    device = desk.device()
    held = [bytes(entry) for entry in device.answer.entries]
    assert not device.refresh(log_length=len(held)).entries
    new = desk.append("ada", Revoke(officer="dan", reason="left"))
    answer = device.refresh(log_length=len(held))
    assert list(answer.entries) == [new.to_json()]
    assert read_log([*held, *answer.entries]) == desk.log.contract()
    assert not answer.certificate


def test_a_refresh_by_another_key_is_refused(desk: Desk) -> None:
    device = desk.device()
    device.key = Ed25519PrivateKey.generate()
    with pytest.raises(DeskNotAuthorisedError, match="refresh request"):
        device.refresh()


@pytest.mark.parametrize("skew_seconds", [-400, 400])
def test_a_stale_or_early_refresh_is_refused_with_the_difference(
    desk: Desk, skew_seconds: int
) -> None:
    with pytest.raises(DeskNotAuthorisedError, match=r"(400|399|401) s .* set the clock"):
        desk.device().refresh(skew_seconds=skew_seconds)


def test_a_certificate_of_another_authority_is_refused(desk: Desk) -> None:
    device = desk.device()
    for document in (b"", b"nonsense", device.answer.authority):
        device.answer.certificate = document
        with pytest.raises(DeskNotAuthorisedError, match="not one of this server's"):
            device.refresh()


@pytest.mark.parametrize("fields", [{"attempts": 1 << 41}, {"ledger_head": "not a hash"}])
def test_a_report_that_is_none_is_bad_input(desk: Desk, fields: dict[str, int | str]) -> None:
    with pytest.raises(DeskInputError):
        desk.device().refresh(**fields)


def test_any_device_may_have_a_released_model_in_parts(desk: Desk) -> None:
    device, content = desk.device(), bytes(range(256)) * 8_192
    plan_hash = "ab" * 32
    assert device.model(plan_hash) == ModelResponse()
    file = desk.home.campaign(plan_hash).released_model
    file.parent.mkdir(parents=True)
    file.write_bytes(b'{"a":"receipt"}\n' + content)
    first = device.model(plan_hash, most_bytes=1 << 30)
    assert (first.receipt, first.part) == (b'{"a":"receipt"}', content[: 1 << 20])
    rest = device.model(plan_hash, offset=len(first.part))
    assert (rest.receipt, first.part + rest.part) == (first.receipt, content)
    assert device.model(plan_hash, most_bytes=0) == ModelResponse(receipt=first.receipt)


@pytest.mark.parametrize("plan_hash", ["", "../../grant.key", "AB" * 32, "ab" * 32 + "/.."])
def test_what_is_no_campaign_names_no_file(desk: Desk, plan_hash: str) -> None:
    with pytest.raises(DeskInputError, match="plan_hash must be 64"):
        desk.device().model(plan_hash)


def test_a_model_is_for_enrolled_devices(desk: Desk) -> None:
    device = desk.device("gil")
    device.withdraw()
    with pytest.raises(DeskNotAuthorisedError, match="was withdrawn"):
        device.model("ab" * 32)
    stranger = desk.device("hal")
    stranger.key = Ed25519PrivateKey.generate()
    with pytest.raises(DeskNotAuthorisedError, match="model request"):
        stranger.model("ab" * 32)


def test_who_withdraws_is_out_for_good_and_the_person_may_come_back(desk: Desk) -> None:
    token = desk.invite("flo").token
    device = Device(desk)
    device.enrol(token)
    device.withdraw()
    device.withdraw()  # the answer may have been lost
    assert nodes(desk).get(device.answer.node_id, "unregistered") == "unregistered"
    with pytest.raises(DeskNotAuthorisedError, match="was withdrawn"):
        device.refresh()
    with pytest.raises(DeskNotAuthorisedError, match="was withdrawn"):
        device.enrol(token)
    again = desk.device("flo")
    with Registry(desk.home.population_database) as registry:
        left, back = (registry.device(d.answer.node_id) for d in (device, again))
    assert left
    assert back
    assert left.subject == back.subject
