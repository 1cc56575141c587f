"""What a server needs before it starts for the first time: keys, secrets, certificates."""

import os
import secrets
import socket
from collections.abc import Sequence
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tacitly_common.contract import signatures
from tacitly_common.errors import ValidationError
from tacitly_server import certificates
from tacitly_server.enrolment import authority
from tacitly_server.home import ServerHome
from tacitly_server.ledger.place import witness_of
from tacitly_server.ledger.witness import create_key
from tacitly_server.private_files import read_private, write_private

_SECRET_BYTES = 32


def initialise(home: ServerHome, names: Sequence[str], *, now: datetime) -> bool:
    """Create what is missing in `home`; False if nothing was.

    The certificate is for 127.0.0.1, localhost, this machine's name and `names`.

    Raises:
        ValidationError: the directory cannot be made, or others can write to it.
    """
    try:
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = home.root.stat().st_mode
    except OSError as error:
        raise ValidationError(f"{home.root}: {error.strerror}; choose another --home") from error
    if mode & 0o077:
        raise ValidationError(
            f"{home.root} is open to others (mode {mode & 0o777:04o}); "
            f"run `chmod 700 {home.root}` or choose another --home"
        )
    if not os.access(home.root, os.W_OK):
        raise ValidationError(f"{home.root} cannot be written; choose another --home")
    changed = False
    for path, content in (
        (home.control_token, secrets.token_urlsafe(_SECRET_BYTES).encode()),
        (home.superexec_secret, secrets.token_bytes(_SECRET_BYTES)),
        (home.subject_secret, secrets.token_bytes(_SECRET_BYTES)),
        (home.grant_key, signatures.private_pem(Ed25519PrivateKey.generate())),
    ):
        if not path.exists():
            write_private(path, content)
            changed = True
    if not home.ledger_key.exists():
        create_key(home.ledger_key)
        changed = True
    if not home.ledger_public_key.exists():
        write_private(home.ledger_public_key, witness_of(home).public_key.encode() + b"\n")
        changed = True
    if not (home.tls / "ca.crt").exists():
        own = ["127.0.0.1", "localhost", socket.gethostname()]
        certificates.create(home.tls, list(dict.fromkeys([*own, *names])), now=now)
        changed = True
    if not home.authority_certificate.exists():
        authority.create(home, now=now)
        changed = True
    for directory in (home.logs, home.flower, home.campaigns):
        directory.mkdir(mode=0o700, exist_ok=True)
    return changed


def grant_public_key(home: ServerHome) -> str:
    """The public half of the key that signs grants: officers compare it, and sign it.

    Raises:
        ValidationError: the home is not initialised, or the key is damaged.
    """
    key = signatures.read_private_pem(read_private(home.grant_key), source=home.grant_key)
    return signatures.public_hex(key)
