"""A device's key for Flower: read, and registered at SuperLink."""

import hashlib
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tacitly_common.wire.desk_errors import DeskConflictError, DeskInputError
from tacitly_server import flower_port as flower
from tacitly_server.control import Control, ControlError

_NIST_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_MOST_KEY_BYTES: Final = 512


def read_node_key(document: bytes) -> ec.EllipticCurvePublicKey:
    """A device's public key, DER SubjectPublicKeyInfo.

    Raises:
        DeskInputError: not a public key on a NIST curve. The message does not show it: it may
            be the private one.
    """
    try:
        key = serialization.load_der_public_key(document[: _MOST_KEY_BYTES + 1])
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _NIST_CURVES):
        raise DeskInputError("node_key is not a public key on a NIST curve in DER")
    return key


def fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256, hex, of the DER public key."""
    document = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(document).hexdigest()


def register(control: Control, key: ec.EllipticCurvePublicKey) -> int:
    """The node id that SuperLink gives the key, or gave it before: a crash may have come between.

    Raises:
        ControlError: SuperLink cannot be reached.
        DeskConflictError: the key was unregistered before.
    """
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    try:
        return control.register(pem)
    except ControlError as error:
        if error.reason != "PUBLIC_KEY_ALREADY_IN_USE":
            raise
    known = next((node for node in control.nodes() if node.public_key == pem), None)
    if known is None or known.status == flower.NodeStatus.UNREGISTERED:
        raise DeskConflictError(
            "this key was shut out and cannot come back; enrol with new keys and a new invitation"
        )
    return known.node_id


def unregister(control: Control, node_id: int) -> None:
    """Shut a node out of SuperLink for ever; one that is out already stays out.

    Raises:
        ControlError: SuperLink cannot be reached.
    """
    try:
        control.unregister(node_id)
    except ControlError as error:
        if error.reason != "NODE_NOT_FOUND":
            raise
