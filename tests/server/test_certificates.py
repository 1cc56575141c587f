"""The authority, the server's certificate, and what is refused about them."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tacitly_server.certificates import CertificateError, certificate_names, check, create, renew

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAMES = ["127.0.0.1", "localhost", "server.example"]


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    create(tmp_path / "tls", NAMES, now=NOW)
    return tmp_path / "tls"


def handshake(tls: Path, name: str) -> None:
    """A strict TLS handshake, in memory, of a client that asks for `name`."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(tls / "server.crt", tls / "server.key")
    client_context = ssl.create_default_context(cafile=tls / "ca.crt")
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    waiting = [client, server, client, server]
    for side in waiting:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


@pytest.mark.parametrize("name", NAMES)
def test_a_client_that_trusts_the_authority_accepts_each_name(tmp_path: Path, name: str) -> None:
    create(tmp_path / "tls", NAMES, now=datetime.now(UTC))
    handshake(tmp_path / "tls", name)


def test_another_name_is_not_accepted(tmp_path: Path) -> None:
    create(tmp_path / "tls", NAMES, now=datetime.now(UTC))
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(tmp_path / "tls", "elsewhere.example")


def test_an_expired_certificate_fails_in_a_handshake_too(tmp_path: Path) -> None:
    create(tmp_path / "tls", NAMES, now=datetime.now(UTC) - timedelta(days=400))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(tmp_path / "tls", "localhost")


def test_only_the_owner_can_read_keys(tls: Path) -> None:
    assert tls.stat().st_mode & 0o777 == 0o700
    for key in ("ca.key", "server.key"):
        assert (tls / key).stat().st_mode & 0o777 == 0o600


def test_a_fresh_certificate_is_in_order_and_valid_for_late_clocks(tls: Path) -> None:
    assert check(tls, now=NOW) == NOW + timedelta(days=397)
    assert check(tls, now=NOW - timedelta(hours=23))


def test_an_expired_certificate_is_refused_with_the_date_and_the_command(tls: Path) -> None:
    with pytest.raises(
        CertificateError, match=r"server\.crt expired on 2027-04-02 .*`tacitly-server renew`"
    ):
        check(tls, now=NOW + timedelta(days=398))


def test_a_certificate_of_the_future_is_refused(tls: Path) -> None:
    with pytest.raises(
        CertificateError, match=r"not valid before 2026-02-28.*clock says 2026-02-2"
    ):
        check(tls, now=NOW - timedelta(days=2))


def test_renewing_keeps_authority_and_names_and_makes_a_new_key(tls: Path) -> None:
    authority, key = (tls / "ca.crt").read_bytes(), (tls / "server.key").read_bytes()
    later = NOW + timedelta(days=500)

    assert renew(tls, now=later) == check(tls, now=later) == later + timedelta(days=397)

    assert (tls / "ca.crt").read_bytes() == authority
    assert (tls / "server.key").read_bytes() != key
    assert certificate_names(tls) == NAMES


def test_renewing_can_replace_the_names(tls: Path) -> None:
    renew(tls, ["10.0.0.7"], now=NOW)
    assert certificate_names(tls) == ["10.0.0.7"]


def test_a_certificate_never_outlives_its_authority(tls: Path) -> None:
    ends = renew(tls, now=NOW + timedelta(days=3600))
    assert ends == NOW + timedelta(days=3650)


def test_an_expired_authority_is_not_replaced_silently(tls: Path) -> None:
    with pytest.raises(CertificateError, match=r"ended on 2036-02-27.*every device"):
        renew(tls, now=NOW + timedelta(days=3651))


def test_an_authority_is_not_made_twice(tls: Path) -> None:
    with pytest.raises(CertificateError, match="already holds an authority"):
        create(tls, NAMES, now=NOW)


def test_a_key_that_others_can_read_is_refused(tls: Path) -> None:
    (tls / "server.key").chmod(0o640)
    with pytest.raises(ValueError, match=r"can be read by others \(mode 0640\); run `chmod 600"):
        check(tls, now=NOW)


def test_a_certificate_of_another_authority_is_refused(tls: Path, tmp_path: Path) -> None:
    create(tmp_path / "other", NAMES, now=NOW)
    (tls / "server.crt").write_bytes((tmp_path / "other" / "server.crt").read_bytes())
    with pytest.raises(CertificateError, match="was not issued by"):
        check(tls, now=NOW)


def test_a_key_of_another_certificate_is_refused(tls: Path) -> None:
    certificate = (tls / "server.crt").read_bytes()
    renew(tls, now=NOW)
    (tls / "server.crt").write_bytes(certificate)
    with pytest.raises(CertificateError, match=r"not the key of server\.crt"):
        check(tls, now=NOW)


def test_a_damaged_certificate_and_key_are_named(tls: Path) -> None:
    (tls / "server.key").write_bytes(b"not a key")
    with pytest.raises(CertificateError, match=r"server\.key is not an unencrypted PEM key"):
        check(tls, now=NOW)
    (tls / "server.crt").write_bytes(b"not a certificate")
    with pytest.raises(CertificateError, match=r"renew --name HOST"):
        check(tls, now=NOW)
    renew(tls, ["localhost"], now=NOW)
    assert check(tls, now=NOW)


def test_a_lost_part_is_said_with_the_command_that_makes_it_anew(tls: Path) -> None:
    (tls / "server.key").unlink()
    with pytest.raises(CertificateError, match=r"server\.key is missing; run .*renew`"):
        check(tls, now=NOW)
    renew(tls, now=NOW)
    assert check(tls, now=NOW)

    (tls / "server.crt").unlink()
    for act in (check, renew):
        with pytest.raises(CertificateError, match=r"server\.crt: No such file.*renew --name"):
            act(tls, now=NOW)
    renew(tls, NAMES, now=NOW)
    assert check(tls, now=NOW)


def test_what_was_never_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="run `tacitly-server init` first"):
        check(tmp_path, now=NOW)


def test_a_certificate_needs_a_usable_name(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="needs a name"):
        create(tmp_path / "a", [], now=NOW)
    with pytest.raises(CertificateError, match="neither a DNS name nor an address"):
        create(tmp_path / "b", ["sérver"], now=NOW)


def test_the_authority_can_sign_certificates_and_the_server_cannot(tls: Path) -> None:
    for name, signs in (("ca.crt", True), ("server.crt", False)):
        certificate = x509.load_pem_x509_certificate((tls / name).read_bytes())
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert constraints.value.ca is signs
        assert usage.value.key_cert_sign is signs
