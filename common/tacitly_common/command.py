"""How every `tacitly-...` command asks, and how it ends."""

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


def confirm(
    question: str, otherwise: str, *, yes: tuple[str, ...] = ("y", "yes"), err: bool = False
) -> None:
    """Ask; who does not answer with one of `yes` reads `otherwise`, and the command exits with 1.

    Args:
        question: a sentence; "[y/N]", with the first of `yes`, comes after it.
        otherwise: what is so now: that nothing was done.
        yes: in small letters; typed large they count too.
        err: ask on standard error, where standard output is for a program.
    """
    answer = click.prompt(
        f"{question} [{yes[0]}/N]", default="", show_default=False, err=err, type=str
    )
    if answer.strip().lower() not in yes:
        click.echo(otherwise, err=True)
        raise click.exceptions.Exit(1)


def _path(name: str, error: click.ClickException) -> str:
    """The command that was being read, as it is typed."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    return context.command_path if context is not None else name
