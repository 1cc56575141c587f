"""This device at the desk and among others: an Ed25519 key made here, and the enrolment
authority's word for it.
"""

import ssl
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tacitly_client.files import write_whole
from tacitly_client.home import AgentHome
from tacitly_common.contract.signatures import private_pem, read_private_pem
from tacitly_common.errors import TacitlyError, ValidationError
from tacitly_common.secagg.members import Identity

if TYPE_CHECKING:
    from tacitly_common.wire.desk_requests import SignedRequest


class CertificateError(TacitlyError):
    """What the desk handed out is not for this device, or not by whom it says."""

    exit_code = 5


def device_key(home: AgentHome) -> bytes:
    """The raw public key that signs for this device; made if there is none."""
    if not home.device_key.exists():
        write_whole(home.device_key, private_pem(Ed25519PrivateKey.generate()))
    return _private_key(home).public_key().public_bytes_raw()


def sign_as_device(home: AgentHome, request: "SignedRequest") -> None:
    """Sign a request to the desk.

    Raises:
        ValidationError: the key is missing or malformed.
    """
    from tacitly_common.wire.desk_requests import sign_request

    sign_request(request, _private_key(home))


def device_certificate(home: AgentHome) -> bytes:
    """The certificate of the device's key, DER.

    Raises:
        ValidationError: missing or malformed.
    """
    try:
        return ssl.PEM_cert_to_DER_cert(home.device_certificate.read_text("ascii"))
    except (OSError, ValueError):
        raise ValidationError(
            f"{home.device_certificate} is no certificate; restore it from your backup"
        ) from None


def masking_identity(home: AgentHome) -> Identity:
    """What this device signs with among others, and the authority that theirs must be by.

    Raises:
        ValidationError: a file is missing or malformed.
    """
    try:
        authority = x509.load_pem_x509_certificate(home.authority_certificate.read_bytes())
    except (OSError, ValueError):
        raise ValidationError(
            f"{home.authority_certificate} is no certificate; restore it from your backup"
        ) from None
    return Identity(device_certificate(home), _private_key(home), authority)


def keep_authority(home: AgentHome, der: bytes) -> None:
    """Keep the enrolment authority that all later certificates must be by.

    Raises:
        CertificateError: it is no certificate.
    """
    write_whole(home.authority_certificate, _certificate(der).public_bytes(Encoding.PEM))


def keep_certificate(home: AgentHome, der: bytes, *, node_id: int) -> None:
    """Keep a certificate in place of the one there was, if it is this device's.

    Raises:
        CertificateError: not by the authority kept here, or of another key or node.
    """
    certificate = _certificate(der)
    try:
        authority = x509.load_pem_x509_certificate(home.authority_certificate.read_bytes())
        certificate.verify_directly_issued_by(authority)
    except (OSError, ValueError, TypeError, InvalidSignature):
        raise CertificateError(
            "the desk's certificate is not by the authority of this device's enrolment; "
            "ask the operator"
        ) from None
    key = certificate.public_key()
    ours = isinstance(key, Ed25519PublicKey) and key.public_bytes_raw() == device_key(home)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not ours or [name.value for name in names] != [str(node_id)]:
        raise CertificateError("the desk certified another device; ask the operator")
    write_whole(home.device_certificate, certificate.public_bytes(Encoding.PEM))


def _certificate(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, TypeError):
        raise CertificateError("the desk sent no certificate; ask the operator") from None


def _private_key(home: AgentHome) -> Ed25519PrivateKey:
    try:
        document = home.device_key.read_bytes()
    except OSError:
        raise ValidationError(
            f"{home.device_key} is missing; restore it from your backup, or enrol anew"
        ) from None
    return read_private_pem(document, source=home.device_key)
