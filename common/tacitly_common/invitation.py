"""An invitation: all that a person's device needs to enrol, in one small file, usable once.

    invitation = read_invitation(path)     # InvitationError says what is wrong and whom to ask

Whoever holds the file may enrol a device as the invited person until it is used or expires: it
travels over a channel that the person trusts. It also carries what the device will trust for
good, the server's certificate authority and the hash of the officers' log's first entry.
"""

import re
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509

from tacitly_common.errors import UNDECODABLE, TacitlyError, ValidationError
from tacitly_common.validation import host_and_port, in_range, sha256_hex, utc

INVITATION_SCHEMA_VERSION: Final = 1
_MOST_BYTES: Final = 64 * 1024
# 160 bits in base 32.
_TOKEN: Final = re.compile(r"[A-Z2-7]{32}")
_REMEDY: Final = "ask for a new invitation, and keep the file as it comes"


class InvitationError(TacitlyError):
    """The file is no invitation. Its content is never shown: it may hold a token."""

    exit_code = 2


class Invitation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to enrol, what to trust, and the token.

    `server` (Flower's Fleet API) and `desk` (enrolment) are "host:port"; `ca` is PEM; `genesis`
    is the hash of the officers' log's first entry; `expires` is by the server's clock.
    """

    schema_version: int = INVITATION_SCHEMA_VERSION
    server: str
    desk: str
    ca: str
    genesis: str
    token: str
    expires: datetime

    def __post_init__(self) -> None:
        in_range(1, INVITATION_SCHEMA_VERSION, schema_version=self.schema_version)
        host_and_port(server=self.server, desk=self.desk)
        sha256_hex(genesis=self.genesis)
        utc(expires=self.expires)
        if not _TOKEN.fullmatch(self.token):
            raise ValidationError("token must be 32 characters of A-Z 2-7")
        try:
            x509.load_pem_x509_certificate(self.ca.encode())
        except ValueError:
            raise ValidationError("ca must be a certificate in PEM") from None

    def __repr__(self) -> str:
        """Without the token."""
        return f"Invitation(desk={self.desk!r}, expires={self.expires})"

    def to_json(self) -> bytes:
        """For a file: indented, and a line's end at the end."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def parse_invitation(document: bytes, *, source: str | Path = "invitation") -> Invitation:
    """The inverse of `to_json`.

    Raises:
        InvitationError: not an invitation; the field, and what to do.
    """
    if len(document) > _MOST_BYTES:
        raise InvitationError(f"{source} is too large for an invitation; {_REMEDY}")
    try:
        return msgspec.json.decode(document, type=Invitation)
    except UNDECODABLE as error:
        raise InvitationError(f"{source} is no invitation: {error}; {_REMEDY}") from None


def read_invitation(path: Path) -> Invitation:
    """`parse_invitation` of a file.

    Raises:
        InvitationError: also if the file cannot be read.
    """
    try:
        document = path.read_bytes()
    except OSError as error:
        raise InvitationError(f"{path}: {error.strerror}; name the invitation's file") from None
    return parse_invitation(document, source=path)
