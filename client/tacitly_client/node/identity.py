"""This device's key: made here, never leaves, names the device to the server."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tacitly_client.files import write_whole
from tacitly_client.home import AgentHome
from tacitly_common.errors import ValidationError


def create_node_key(home: AgentHome) -> bytes:
    """Make the device's EC key (P-384, as Flower's own), store it 0600, return the public PEM.

    Raises:
        ValidationError: there is a key already; a second one would be another device.
    """
    if home.node_key.exists():
        raise ValidationError(f"{home.node_key} exists already; use another --home")
    key = ec.generate_private_key(ec.SECP384R1())
    write_whole(
        home.node_key,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    return public_pem(key)


def load_node_key(home: AgentHome) -> ec.EllipticCurvePrivateKey:
    """The device's private key.

    Raises:
        ValidationError: missing or not an EC key; the message names the file, never its content.
    """
    try:
        key = serialization.load_pem_private_key(home.node_key.read_bytes(), password=None)
    except OSError as error:
        raise ValidationError(
            f"{home.node_key}: {error.strerror}; run `tacitly-agent enrol INVITATION` first"
        ) from error
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValidationError(f"{home.node_key} holds no EC private key; restore it from a backup")
    return key


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public half, PEM."""
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
