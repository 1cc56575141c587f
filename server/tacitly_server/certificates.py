"""The server's own certificate authority and its TLS certificate, on its own disk.

    tls/ca.crt ca.key          private authority, EC P-384, ten years; devices trust only this one
    tls/server.crt server.key  the server's certificate, EC P-384, 397 days

Keys are 0600 in a 0700 directory and are refused if others can read them. `now` is an argument
everywhere: nothing here reads a clock.
"""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from tacitly_common.errors import ValidationError
from tacitly_server.certificate_parts import issued_by, new_authority, private_pem
from tacitly_server.private_files import read_private, write_private

_SERVER_LIFETIME: Final = timedelta(days=397)
_RENEWAL: Final = "run `tacitly-server renew --name HOST`"
_KEY_REPAIR: Final = "run `tacitly-server renew` (server.key), or put it back from a backup"


class CertificateError(ValidationError):
    """A certificate or key is missing, damaged, or out of its dates."""


def create(tls: Path, names: Sequence[str], *, now: datetime) -> None:
    """Make the authority and the server's certificate for `names` (DNS names and addresses).

    Raises:
        CertificateError: `tls` already holds an authority, or `names` is empty.
    """
    if (tls / "ca.crt").exists():
        raise CertificateError(f"{tls} already holds an authority; run `tacitly-server renew`")
    tls.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority, key = new_authority("Tacitly private authority", now=now)
    _write_server(tls, authority, key, names, now)
    write_private(tls / "ca.key", private_pem(key))
    # Last: an authority without its parts is not taken for a whole one.
    write_private(tls / "ca.crt", authority.public_bytes(serialization.Encoding.PEM))


def renew(tls: Path, names: Sequence[str] = (), *, now: datetime) -> datetime:
    """A new server key and certificate of the same authority; devices notice nothing.

    `names` replaces the names of the old certificate if given. Returns when the new one ends.

    Raises:
        CertificateError: no usable authority; with an expired one every device needs the new
            `ca.crt`, which is said, and never done silently.
    """
    authority = _read_certificate(tls / "ca.crt")
    key = _read_key(tls / "ca.key")
    if now > authority.not_valid_after_utc:
        raise CertificateError(
            f"the authority {tls / 'ca.crt'} ended on {authority.not_valid_after_utc:%Y-%m-%d}; "
            f"move {tls} away, run `tacitly-server init` and give every device the new ca.crt"
        )
    return _write_server(tls, authority, key, names or certificate_names(tls), now)


def check(tls: Path, *, now: datetime) -> datetime:
    """When the server's certificate ends, after everything about it was found in order.

    Raises:
        CertificateError: says what is wrong, the date, and the command that repairs it.
    """
    authority = _read_certificate(tls / "ca.crt")
    certificate = _read_certificate(tls / "server.crt")
    for path, one in ((tls / "ca.crt", authority), (tls / "server.crt", certificate)):
        if now < one.not_valid_before_utc:
            raise CertificateError(
                f"{path} is not valid before {one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC and "
                f"the clock says {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC; set the clock, or run "
                "`tacitly-server renew`"
            )
        if now > one.not_valid_after_utc:
            raise CertificateError(
                f"{path} expired on {one.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; "
                "run `tacitly-server renew`"
            )
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise CertificateError(
            f"{tls / 'server.crt'} was not issued by {tls / 'ca.crt'}; run `tacitly-server renew`"
        ) from error
    if _read_key(tls / "server.key").public_key() != certificate.public_key():
        raise CertificateError(
            f"{tls / 'server.key'} is not the key of server.crt; run `tacitly-server renew`"
        )
    return certificate.not_valid_after_utc


def certificate_names(tls: Path) -> list[str]:
    """The DNS names and addresses the server's certificate is for."""
    extensions = _read_certificate(tls / "server.crt").extensions
    alternative = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in alternative]


def _write_server(
    tls: Path,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
    now: datetime,
) -> datetime:
    """Write server.key and server.crt; returns when the certificate ends."""
    if not names:
        raise CertificateError("a server certificate needs a name; give --name HOST or ADDRESS")
    key = ec.generate_private_key(ec.SECP384R1())
    end = min(now + _SERVER_LIFETIME, authority.not_valid_after_utc)
    certificate = (
        issued_by(authority, names[0], key.public_key(), now=now, end=end)
        .add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority_key, hashes.SHA384())
    )
    write_private(tls / "server.key", private_pem(key))
    write_private(tls / "server.crt", certificate.public_bytes(serialization.Encoding.PEM))
    return end


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise CertificateError(f"{name!r:.80} is neither a DNS name nor an address") from error


def _read_certificate(path: Path) -> x509.Certificate:
    renewable = path.name == "server.crt"
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        repair = _RENEWAL if renewable else "run `tacitly-server init` first"
        raise CertificateError(f"{path}: {error.strerror}; {repair}") from error
    except ValueError as error:
        repair = _RENEWAL if renewable else "put it back from a backup or from a device"
        raise CertificateError(f"{path} is not a PEM certificate; {repair}") from error


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if not path.exists():  # `init` makes none for an authority that is there
        raise CertificateError(f"{path} is missing; {_KEY_REPAIR}")
    pem = read_private(path)
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"{path} is not an unencrypted PEM key; {_KEY_REPAIR}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path} is not an EC key; {_KEY_REPAIR}")
    return key
