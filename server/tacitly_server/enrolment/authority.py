"""The enrolment authority: certifies the key with which a device signs.

    authority.crt authority.key    EC P-384, ten years, made by `tacitly-server init`

A device's certificate names its node id and is good for a year. Devices check each other by it
when they mask their updates, so its authority is another than the one of the server's TLS.
Whether a certificate is still wanted is not in it: registry.py knows.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import NameOID

from tacitly_common.errors import ValidationError
from tacitly_common.wire.desk_errors import DeskNotAuthorisedError
from tacitly_server.certificate_parts import issued_by, new_authority, private_pem
from tacitly_server.home import ServerHome
from tacitly_server.private_files import read_private, write_private

_DEVICE_LIFETIME: Final = timedelta(days=365)
_RENEWED_BEFORE: Final = timedelta(days=60)
_DER: Final = serialization.Encoding.DER
_REMEDY: Final = "put authority.key and authority.crt back from a backup"


@dataclass(frozen=True, slots=True)
class Device:
    """What a certificate says: whose it is, the key (64 hex digits), and when it ends."""

    node_id: int
    public_key: str
    ends: datetime


def create(home: ServerHome, *, now: datetime) -> None:
    """Make the authority."""
    certificate, key = new_authority("Tacitly enrolment authority", now=now)
    write_private(home.authority_key, private_pem(key))
    # Last: without it the authority is not taken for a whole one.
    write_private(home.authority_certificate, certificate.public_bytes(serialization.Encoding.PEM))


def authority_certificate(home: ServerHome) -> x509.Certificate:
    """The certificate of a home's authority: what checking takes, without the key.

    Raises:
        ValidationError: missing or damaged.
    """
    try:
        return x509.load_pem_x509_certificate(read_private(home.authority_certificate))
    except ValueError:
        raise ValidationError(f"{home.authority_certificate} is damaged; {_REMEDY}") from None


@dataclass(frozen=True, slots=True)
class Authority:
    """The authority with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return "Authority()"

    @classmethod
    def read(cls, home: ServerHome) -> Self:
        """The one of a home.

        Raises:
            ValidationError: a file is missing, damaged, or can be read by others; or the key is
                another authority's.
        """
        pem = read_private(home.authority_key)
        try:
            key = serialization.load_pem_private_key(pem, None)
            certificate = x509.load_pem_x509_certificate(read_private(home.authority_certificate))
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValidationError(f"{home.authority_key} is damaged; {_REMEDY}") from None
        if (
            not isinstance(key, ec.EllipticCurvePrivateKey)
            or key.public_key() != certificate.public_key()
        ):
            raise ValidationError(f"{home.authority_key} is not authority.crt's key; {_REMEDY}")
        return cls(certificate, key)

    @property
    def der(self) -> bytes:
        """Its certificate."""
        return self.certificate.public_bytes(_DER)

    def certify(self, node_id: int, public_key: bytes, *, now: datetime) -> bytes:
        """A certificate, DER, for a device's raw Ed25519 key."""
        key = Ed25519PublicKey.from_public_bytes(public_key)
        end = min(now + _DEVICE_LIFETIME, self.certificate.not_valid_after_utc)
        builder = issued_by(self.certificate, str(node_id), key, now=now, end=end)
        return builder.sign(self.key, hashes.SHA384()).public_bytes(_DER)

    def read_device(self, document: bytes, *, now: datetime) -> Device:
        """What a certificate of ours says, at a time when it is good.

        Raises:
            DeskNotAuthorisedError: it is none, another authority's, or out of its dates.
        """
        try:
            certificate = x509.load_der_x509_certificate(document)
            certificate.verify_directly_issued_by(self.certificate)
            key = certificate.public_key()
            (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            node_id = int(name.value)
        except (
            ValueError,
            TypeError,
            InvalidSignature,
            UnsupportedAlgorithm,
            x509.InvalidVersion,
        ):
            raise DeskNotAuthorisedError(
                "the certificate is not one of this server's; enrol the device"
            ) from None
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not begins <= now <= ends:
            raise DeskNotAuthorisedError(
                f"the certificate was good from {begins:%Y-%m-%d} to {ends:%Y-%m-%d}, and it is "
                f"{now:%Y-%m-%d} here; ask for a new invitation"
            )
        if not isinstance(key, Ed25519PublicKey):
            raise DeskNotAuthorisedError("the certificate is not for an Ed25519 key")
        return Device(node_id, key.public_bytes_raw().hex(), ends)


def ends_soon(device: Device, *, now: datetime) -> bool:
    """Whether it is time for a new certificate."""
    return device.ends - now < _RENEWED_BEFORE
