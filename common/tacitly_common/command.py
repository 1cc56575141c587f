"""How every `tacitly-...` command ends."""

import os
import sys

import click

from tacitly_common.errors import TacitlyError


def run_command(name: str, command: click.Command) -> None:
    """Run `command`; an error that was foreseen becomes one line on stderr and its exit code."""
    try:
        # Not standalone: click's own errors take a line each, as ours do.
        sys.exit(command.main(standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        message = " ".join(error.format_message().split()).removesuffix(".")
        click.echo(f"{name}: {message}; see `{_path(name, error)} --help`", err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo(f"{name}: interrupted", err=True)
        sys.exit(1)
    except TacitlyError as error:
        click.echo(f"{name}: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has seen enough; what is left of it goes nowhere, silently.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # A full disk, a missing permission: the system's words and the place say it all.
        click.echo(f"{name}: {error.filename or 'input or output'}: {error.strerror}", err=True)
        sys.exit(1)


def _path(name: str, error: click.ClickException) -> str:
    """The command that was being read, as it is typed."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    return context.command_path if context is not None else name
