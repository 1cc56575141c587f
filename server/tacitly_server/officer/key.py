"""`tacitly-officer key`: make a signing key; change the server's grant key."""

from pathlib import Path

import click

from tacitly_server.officer.office import Office, office_options
from tacitly_server.officer.output import emit, format_option
from tacitly_server.officer.signing import Shown, sign, yes_option


@click.group()
def key() -> None:
    """Make keys."""


@key.command()
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--passphrase-prompt", is_flag=True, help="Encrypt the file with a passphrase.")
@format_option
def new(out: Path, passphrase_prompt: bool, form: str) -> None:
    """Make a private key in a new file, and print its public half: that is what others need."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from tacitly_common.contract.signatures import private_pem, public_hex
    from tacitly_common.errors import ValidationError
    from tacitly_server.private_files import write_private

    if out.exists():
        raise ValidationError(f"{out} exists; name a new file, or keep the key that is there")
    passphrase = None
    if passphrase_prompt:
        asked = click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
        passphrase = str(asked).encode()
    made = Ed25519PrivateKey.generate()
    write_private(out, private_pem(made, passphrase))
    document = {"public_key": public_hex(made), "file": str(out)}
    emit(document, form, lambda console: console.print(public_hex(made), soft_wrap=True))


@key.command()
@click.argument("public_key")
@office_options
@yes_option
@format_option
def change_grant(public_key: str, office: Office, form: str, yes: bool) -> None:
    """Propose that devices believe grants of another key: the server's own was lost or stolen."""
    from tacitly_common.contract.acts import ProposeChange
    from tacitly_server.officer.changes import proposed

    def describe(_contract: object) -> Shown:
        return ProposeChange(grant_key=public_key), {"grant_key": public_key}

    sign(office, "propose a grant key", describe, form=form, yes=yes, outcome=proposed)
