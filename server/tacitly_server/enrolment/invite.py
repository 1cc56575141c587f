"""An invitation for a person: a token for the registry, and a file for the device."""

import base64
import secrets
from datetime import datetime, timedelta
from typing import Final

from tacitly_common.errors import ValidationError
from tacitly_common.invitation import Invitation
from tacitly_common.validation import in_range
from tacitly_server.campaigns.officers_log import OfficersLog
from tacitly_server.certificates import certificate_names
from tacitly_server.enrolment.registry import Registry
from tacitly_server.home import ServerHome
from tacitly_server.ledger.place import database_of
from tacitly_server.ledger.subjects import subject_name
from tacitly_server.private_files import read_private

_TOKEN_BYTES: Final = 20


def invite(
    home: ServerHome,
    person: str,
    *,
    address: str | None,
    server_port: int,
    enrolment_port: int,
    days: int,
    now: datetime,
) -> Invitation:
    """Invite a person's next device; the token is stored as a hash, durably.

    `address` is where devices reach this server; None: the last name of its certificate, which
    is the one that `init --name` gave.

    Raises:
        ValidationError: the certificate is not for the address, no officers' log has begun, or
            the home is not initialised.
    """
    in_range(1, 365, days=days)
    names = certificate_names(home.tls)
    if address is None:
        address = names[-1]
    if address not in names:
        raise ValidationError(
            f"the server's certificate is for {', '.join(names)} and not for {address}; run "
            f"`tacitly-server renew --name {address}`, or give another --address"
        )
    genesis = OfficersLog(home.officers_log).contract().genesis
    subject = subject_name(read_private(home.subject_secret), person)
    host = f"[{address}]" if ":" in address else address
    invitation = Invitation(
        server=f"{host}:{server_port}",
        desk=f"{host}:{enrolment_port}",
        ca=(home.tls / "ca.crt").read_text(),
        genesis=genesis,
        token=base64.b32encode(secrets.token_bytes(_TOKEN_BYTES)).decode(),
        expires=now + timedelta(days=days),
    )
    with Registry(database_of(home)) as registry:
        registry.invite(invitation.token, subject, expires=invitation.expires)
    return invitation
