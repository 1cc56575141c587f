"""The certificates of our authorities, up to what one kind of certificate has alone.

EC P-384 keys and SHA-384 signatures. `now` is an argument everywhere: nothing here reads a clock.
"""

from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import NameOID

_AUTHORITY_LIFETIME: Final = timedelta(days=3650)
# Devices' clocks may be late: a fresh certificate must be valid for them too.
_BACKDATED: Final = timedelta(days=1)
_MAX_COMMON_NAME: Final = 64


def new_authority(
    common_name: str, *, now: datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A self-signed authority for ten years, and its key."""
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = (
        _builder(common_name, key.public_key(), now, now + _AUTHORITY_LIFETIME)
        .issuer_name(_name(common_name))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA384())
    )
    return certificate, key


def issued_by(
    authority: x509.Certificate,
    common_name: str,
    key: ec.EllipticCurvePublicKey | Ed25519PublicKey,
    *,
    now: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    """A certificate to be signed by an authority, for a key that signs and issues nothing."""
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _builder(common_name, key, now, end)
        .issuer_name(authority.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
    )


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8, not encrypted: for a file of mode 0600."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _builder(
    common_name: str,
    key: ec.EllipticCurvePublicKey | Ed25519PublicKey,
    now: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_MAX_COMMON_NAME])])
