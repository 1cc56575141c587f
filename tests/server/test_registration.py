"""A device's key for Flower: read closed, and registered once at a real SuperLink."""

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from our_server import our_superlink
from tacitly_common.wire.desk_errors import DeskConflictError, DeskInputError
from tacitly_server.control import Control
from tacitly_server.enrolment.registration import (
    fingerprint,
    read_node_key,
    register,
    unregister,
)


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    with (
        our_superlink(tmp_path_factory.mktemp("server") / "home") as running,
        running.control() as client,
    ):
        yield client


@pytest.fixture
def key() -> ec.EllipticCurvePublicKey:
    return ec.generate_private_key(ec.SECP384R1()).public_key()


def der(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_a_key_is_registered_once(control: Control, key: ec.EllipticCurvePublicKey) -> None:
    before = len(control.nodes())
    assert register(control, key) == register(control, key)
    assert len(control.nodes()) == before + 1


def test_a_key_that_was_shut_out_needs_a_new_one(
    control: Control, key: ec.EllipticCurvePublicKey
) -> None:
    node_id = register(control, key)
    unregister(control, node_id)
    unregister(control, node_id)
    with pytest.raises(DeskConflictError, match="cannot come back; enrol with new keys"):
        register(control, key)


def test_a_node_that_nobody_registered_is_out_already(control: Control) -> None:
    unregister(control, 12_345)


def test_a_key_is_read_and_named_by_its_content(key: ec.EllipticCurvePublicKey) -> None:
    read = read_node_key(der(key))
    assert read == key
    assert fingerprint(read) == fingerprint(key)
    assert len(fingerprint(key)) == 64


def test_what_is_no_key_on_a_nist_curve_is_refused_and_not_shown() -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    others = [
        b"",
        b"PRIVATE THING",
        der(private.public_key()),
        der(ec.generate_private_key(ec.SECP256K1()).public_key()),
        private.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        b"0" * 1_000_000,
    ]
    for document in others:
        with pytest.raises(DeskInputError, match="not a public key on a NIST curve") as refusal:
            read_node_key(document)
        assert "PRIVATE" not in str(refusal.value)
        assert len(str(refusal.value)) < 100
