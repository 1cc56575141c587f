"""How an officer's command reaches the desk: what it reads it verifies, what it sends it signs.

    with session(office) as desk:
        contract = desk.contract()                       # the whole log, every signature checked
        signed = desk.sign(lambda contract: Approve(...))    # checked, signed, submitted

The server is trusted with nothing here: an entry names the one before it by hash, so what was
signed over a log that a server made up fits in no other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tacitly_server.officer.output import FILE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from tacitly_common.contract.acts import Act, Entry
    from tacitly_common.contract.log import Contract
    from tacitly_common.wire.desk_pb2 import CampaignsResponse
    from tacitly_common.wire.desk_pb2_grpc import OfficersStub

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Office:
    """Where the desk is, whom to believe that it is, and who signs.

    `genesis` pins the log's first entry; without it the one that the server shows is followed.
    """

    server: str
    ca: Path
    key_file: Path
    name: str
    genesis: str | None

    def key(self) -> "Ed25519PrivateKey":
        """The signing key; asks for its passphrase if it has one.

        Raises:
            ValidationError: no key, one that others can read, or another passphrase.
        """
        return read_key(self.key_file)


@dataclass(frozen=True, slots=True)
class Signed:
    """An entry that the server has taken, and what the log amounts to with it."""

    entry: "Entry"
    contract: "Contract"


@dataclass(frozen=True, slots=True)
class Session:
    """A connection to the desk."""

    office: Office
    stub: "OfficersStub"

    def contract(self) -> "Contract":
        """What the server's log amounts to.

        Raises:
            ContractError: the log was altered, or begins elsewhere than `genesis`.
            DeskError: the desk gives no answer.
        """
        from tacitly_common.contract.log import read_log
        from tacitly_common.wire.desk_client import read_whole_log

        return read_log(read_whole_log(self.stub), genesis=self.office.genesis)

    def sign(self, act_for: "Callable[[Contract], Act]", *, model: bytes = b"") -> Signed:
        """Sign what `act_for` makes of the log as it is, and submit it.

        `act_for` raises to refuse. If another officer's entry came first it is asked once more,
        about the log with that entry: what was harmless in between stays so, the rest is refused.

        Raises:
            ContractError: the act may not be done; nothing was sent.
            DeskError: the server refused, or gave no answer.
        """
        from tacitly_common.contract.log import advance, next_entry
        from tacitly_common.wire.desk_client import ask
        from tacitly_common.wire.desk_errors import DeskConflictError
        from tacitly_common.wire.desk_pb2 import SubmitRequest

        key = self.office.key()
        contract = self.contract()
        retried = False
        while True:
            act = act_for(contract)
            now = datetime.now(UTC)
            entry = next_entry(contract, act, signer=self.office.name, key=key, at=now)
            following = advance(contract, entry)
            try:
                ask(self.stub.Submit, SubmitRequest(entry=entry.to_json(), model=model))
            except DeskConflictError:
                if retried:
                    raise
                retried, contract = True, self.contract()
                continue
            return Signed(entry, following)

    def progress(self) -> "CampaignsResponse":
        """How far each campaign is, and what devices' ledgers contradict. For officers only.

        Raises:
            DeskError: the signer is no active officer, or the desk gives no answer.
        """
        from tacitly_common.wire.desk_client import ask
        from tacitly_common.wire.desk_pb2 import CampaignsRequest
        from tacitly_common.wire.desk_requests import sign_request

        now = int(datetime.now(UTC).timestamp())
        request = CampaignsRequest(officer=self.office.name, sent_at_unix_seconds=now)
        sign_request(request, self.office.key())
        answer: CampaignsResponse = ask(self.stub.Campaigns, request)
        return answer


@contextmanager
def session(office: Office) -> Iterator[Session]:
    """A connection that ends with the block. The desk is first called when it is asked."""
    from tacitly_common.wire.desk_client import desk_channel
    from tacitly_common.wire.desk_pb2_grpc import OfficersStub

    with desk_channel(office.server, office.ca.read_bytes()) as channel:
        yield Session(office, OfficersStub(channel))


def read_key(path: Path) -> "Ed25519PrivateKey":
    """An officer's private key.

    Raises:
        ValidationError: no key, one that others can read, or another passphrase.
    """
    from tacitly_common.contract.signatures import read_private_pem
    from tacitly_server.private_files import read_private

    document = read_private(path, maker="tacitly-officer key new")
    passphrase = None
    if b"ENCRYPTED" in document.splitlines()[0]:
        asked = click.prompt(f"Passphrase of {path}", hide_input=True, err=True)
        passphrase = str(asked).encode()
    return read_private_pem(document, source=path, passphrase=passphrase)


def office_options(command: _Command) -> _Command:
    """The options that every signing command has, given to it as `office`."""

    @click.option(
        "--server",
        required=True,
        envvar="TACITLY_OFFICER_SERVER",
        show_envvar=True,
        metavar="HOST:PORT",
        help="The server's desk.",
    )
    @click.option(
        "--ca",
        required=True,
        type=FILE,
        envvar="TACITLY_OFFICER_CA",
        show_envvar=True,
        help="The server's ca.crt.",
    )
    @click.option(
        "--key",
        "key_file",
        required=True,
        type=FILE,
        envvar="TACITLY_OFFICER_KEY",
        show_envvar=True,
        help="Your private key.",
    )
    @click.option(
        "--name",
        required=True,
        envvar="TACITLY_OFFICER_NAME",
        show_envvar=True,
        help="Your name in the officers' log.",
    )
    @click.option(
        "--genesis",
        envvar="TACITLY_OFFICER_GENESIS",
        show_envvar=True,
        help="Hash of the log's first entry: refuse a log that begins with another.",
    )
    @wraps(command)
    def with_office(
        server: str, ca: Path, key_file: Path, name: str, genesis: str | None, **rest: Any
    ) -> Any:
        return command(office=Office(server, ca, key_file, name, genesis), **rest)

    return with_office  # type: ignore[return-value]
