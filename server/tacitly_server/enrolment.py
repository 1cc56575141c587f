"""Admitting a device: its key to Flower, its node to a person."""

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tacitly_common.errors import ValidationError
from tacitly_server import flower_port as flower
from tacitly_server.control import Control, ControlError
from tacitly_server.home import ServerHome
from tacitly_server.ledger.place import database_of
from tacitly_server.ledger.subjects import Subjects, subject_name
from tacitly_server.private_files import read_private

_NIST_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A device's node id at Flower; `new` is False if it was registered before."""

    node_id: int
    new: bool


def read_public_key(document: bytes, *, source: str = "public key") -> ec.EllipticCurvePublicKey:
    """A device's public key, PEM or OpenSSH.

    Raises:
        ValidationError: not a public key on a NIST curve. The message does not show it: it may
            be the private one.
    """
    load = (
        serialization.load_ssh_public_key
        if document.startswith(b"ecdsa-")
        else serialization.load_pem_public_key
    )
    try:
        key = load(document)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _NIST_CURVES):
        raise ValidationError(
            f"{source} is not a public key on a NIST curve; give what `tacitly-agent init` printed"
        )
    return key


def register(
    home: ServerHome, control: Control, key: ec.EllipticCurvePublicKey, *, person: str
) -> Enrolment:
    """Register a device and bind it to a person. The same once more changes nothing.

    Raises:
        ControlError: SuperLink cannot be reached, or the key was unregistered before.
        LedgerError: the key belongs to another person.
    """
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    subject = subject_name(read_private(home.subject_secret), person)
    known = {node.public_key: node for node in control.nodes()}.get(pem)
    if known is not None and known.status == flower.NodeStatus.UNREGISTERED:
        raise ControlError(
            f"this key was unregistered (node {known.node_id}) and cannot come back; "
            "set the device up anew with `tacitly-agent init`"
        )
    node_id = known.node_id if known is not None else control.register(pem)
    with Subjects(database_of(home)) as subjects:
        subjects.enrol(node_id, fingerprint(key), subject)
    return Enrolment(node_id, known is None)


def fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256, hex, of the DER public key."""
    document = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(document).hexdigest()
