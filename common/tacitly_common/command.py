"""How every `tacitly-...` command ends."""

import sys

import click

from tacitly_common.errors import TacitlyError


def run_command(name: str, command: click.Command) -> None:
    """Run `command`; a deliberate error becomes one line on stderr and its exit code."""
    try:
        command()
    except TacitlyError as error:
        click.echo(f"{name}: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        # A full disk, a missing permission: the system's words and the place say it all.
        click.echo(f"{name}: {error.filename or 'input or output'}: {error.strerror}", err=True)
        sys.exit(1)
