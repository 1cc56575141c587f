"""The operator's client against a real SuperLink of ours; registration of devices."""

import ssl
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from our_server import OurSuperLink, our_superlink
from stock_flower import free_port
from tacitly_common.errors import LedgerError, ValidationError
from tacitly_server.bundle import bundle
from tacitly_server.control import Control, ControlError
from tacitly_server.enrolment import fingerprint, read_public_key, register
from tacitly_server.ledger.subjects import Subjects, subject_name


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurSuperLink]:
    with our_superlink(tmp_path_factory.mktemp("server") / "home") as running:
        yield running


@pytest.fixture
def control(server: OurSuperLink) -> Iterator[Control]:
    with server.control() as client:
        yield client


@pytest.fixture
def key() -> ec.EllipticCurvePublicKey:
    return ec.generate_private_key(ec.SECP384R1()).public_key()


def test_a_run_is_started_seen_and_stopped(control: Control) -> None:
    run_id = control.start(bundle(), campaign="a" * 64)
    run = control.runs()[0]
    assert (run.run_id, run.campaign, run.finished) == (run_id, "a" * 64, False)
    control.stop(run_id)
    control.stop(run_id)
    run = control.runs()[0]
    assert (run.finished, run.sub_status) == (True, "stopped")


def test_an_unknown_run_and_an_unknown_node_are_named(control: Control) -> None:
    with pytest.raises(ControlError, match="RUN_ID_NOT_FOUND"):
        control.stop(1)
    with pytest.raises(ControlError, match="NODE_NOT_FOUND"):
        control.unregister(1)


def test_a_wrong_token_is_said(server: OurSuperLink) -> None:
    trusting = ssl.create_default_context(cafile=server.ca_certificate)
    url = f"https://127.0.0.1:{server.port}"
    with (
        Control(url, trusting, "guessed") as stranger,
        pytest.raises(ControlError, match="refused the token"),
    ):
        stranger.nodes()


def test_no_server_is_said_with_the_command(server: OurSuperLink) -> None:
    with (
        Control.of(server.home, free_port()) as client,
        pytest.raises(ControlError, match="start it with `tacitly-server up`"),
    ):
        client.nodes()


def test_a_proxy_of_the_environment_is_not_used(
    server: OurSuperLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    with server.control() as client:
        assert client.healthy()


def test_a_device_is_registered_once_and_bound_to_its_person(
    server: OurSuperLink, control: Control, key: ec.EllipticCurvePublicKey
) -> None:
    first = register(server.home, control, key, person="ada")
    again = register(server.home, control, key, person="ada")
    assert (first.new, again.new, first.node_id) == (True, False, again.node_id)
    subject = subject_name(server.home.subject_secret.read_bytes(), "ada")
    with Subjects(server.home.population_database) as subjects:
        assert subjects.enrolled()[first.node_id] == subject


def test_a_key_of_another_person_is_refused(
    server: OurSuperLink, control: Control, key: ec.EllipticCurvePublicKey
) -> None:
    register(server.home, control, key, person="ada")
    with pytest.raises(LedgerError, match="enrolled for another subject"):
        register(server.home, control, key, person="bob")


def test_an_unregistered_device_needs_a_new_key(
    server: OurSuperLink, control: Control, key: ec.EllipticCurvePublicKey
) -> None:
    node_id = register(server.home, control, key, person="ada").node_id
    control.unregister(node_id)
    with pytest.raises(ControlError, match="cannot come back; set the device up anew"):
        register(server.home, control, key, person="ada")


def test_pem_and_openssh_are_the_same_key(key: ec.EllipticCurvePublicKey) -> None:
    forms = [
        (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH),
    ]
    read = [read_public_key(key.public_bytes(*form)) for form in forms]
    assert [fingerprint(one) for one in read] == [fingerprint(key)] * 2


def test_what_is_no_key_on_a_nist_curve_is_refused_and_not_shown() -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    public_keys = (private.public_key(), ec.generate_private_key(ec.SECP256K1()).public_key())
    others = [
        b"PRIVATE THING",
        *(
            key.public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            for key in public_keys
        ),
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    ]
    for document in others:
        with pytest.raises(ValidationError, match="is not a public key on a NIST curve") as refusal:
            read_public_key(document, source="given.pub")
        assert document.decode() not in str(refusal.value)
