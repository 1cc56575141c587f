"""Certificates of devices: what they say, how long, and whose are taken."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tacitly_common.contract.signatures import public_hex
from tacitly_common.errors import ValidationError
from tacitly_common.wire.desk_errors import DeskNotAuthorisedError
from tacitly_server.enrolment import authority as authorities
from tacitly_server.enrolment.authority import Authority, ends_soon
from tacitly_server.home import ServerHome

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(b"d" * 32)
NODE = 2**64 - 1


def made(root: Path, *, now: datetime = NOW) -> Authority:
    root.mkdir()
    authorities.create(ServerHome(root), now=now)
    return Authority.read(ServerHome(root))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return made(tmp_path / "home")


def certify(authority: Authority, *, now: datetime = NOW) -> bytes:
    return authority.certify(NODE, bytes.fromhex(public_hex(KEY)), now=now)


def test_a_certificate_names_node_and_key_for_a_year(authority: Authority) -> None:
    device = authority.read_device(certify(authority), now=NOW)
    assert (device.node_id, device.public_key) == (NODE, public_hex(KEY))
    assert device.ends == NOW + timedelta(days=365)
    certificate = x509.load_der_x509_certificate(certify(authority))
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert not constraints.value.ca


@pytest.mark.parametrize("days", [-2, 366])
def test_out_of_its_dates_it_is_refused_with_them(authority: Authority, days: int) -> None:
    with pytest.raises(DeskNotAuthorisedError, match="from 2026-10-31 to 2027-11-01, and it is"):
        authority.read_device(certify(authority), now=NOW + timedelta(days=days))


def test_it_is_renewed_in_its_last_sixty_days(authority: Authority) -> None:
    device = authority.read_device(certify(authority), now=NOW)
    assert not ends_soon(device, now=NOW + timedelta(days=304))
    assert ends_soon(device, now=NOW + timedelta(days=306))


def test_it_never_outlives_its_authority(authority: Authority) -> None:
    late = NOW + timedelta(days=3600)
    device = authority.read_device(certify(authority, now=late), now=late)
    assert device.ends == authority.certificate.not_valid_after_utc


def test_another_authority_of_the_same_name_is_not_ours(
    authority: Authority, tmp_path: Path
) -> None:
    forged = certify(made(tmp_path / "other"))
    with pytest.raises(DeskNotAuthorisedError, match="not one of this server's"):
        authority.read_device(forged, now=NOW)


def test_a_flipped_bit_is_found(authority: Authority) -> None:
    document = bytearray(certify(authority))
    signature = x509.load_der_x509_certificate(bytes(document)).signature
    # How many of the signature's last bits DER leaves unused: says nothing, and may be ignored.
    ignored = document.rindex(signature) - 1
    for at in range(len(document)):
        if at == ignored:
            continue
        document[at] ^= 1
        with pytest.raises(DeskNotAuthorisedError):
            authority.read_device(bytes(document), now=NOW)
        document[at] ^= 1


def test_the_key_is_private_and_shown_nowhere(authority: Authority, tmp_path: Path) -> None:
    home = ServerHome(tmp_path / "home")
    assert home.authority_key.stat().st_mode & 0o777 == 0o600
    assert repr(authority) == "Authority()"
    home.authority_key.chmod(0o644)
    with pytest.raises(ValidationError, match="chmod 600"):
        Authority.read(home)


def test_parts_of_two_authorities_do_not_pass_for_one(authority: Authority, tmp_path: Path) -> None:
    made(tmp_path / "other")
    home, other = ServerHome(tmp_path / "home"), ServerHome(tmp_path / "other")
    home.authority_key.write_bytes(other.authority_key.read_bytes())
    with pytest.raises(ValidationError, match=r"is not authority\.crt's key; put .* back"):
        Authority.read(home)
