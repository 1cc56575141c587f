"""What an officer sees before a signature is made, and after it was taken.

In a terminal the question "Sign this?" is asked unless `--yes` was given; in a script the command
itself is the answer. With `--format json` what is signed is shown on stderr, and stdout holds the
one document about what was done.
"""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from tacitly_common.command import confirm
from tacitly_server.officer.office import Office, Signed, session
from tacitly_server.officer.output import emit, facts, plain

if TYPE_CHECKING:
    from rich.console import Console

    from tacitly_common.contract.acts import Act
    from tacitly_common.contract.log import Contract

yes_option: Final = click.option("--yes", is_flag=True, help="Do not ask before signing.")

# What is about to be signed: the act, and its meaning by name.
Shown = tuple["Act", Mapping[str, Any]]


def sign(
    office: Office,
    what: str,
    describe: "Callable[[Contract], Shown]",
    *,
    form: str,
    yes: bool,
    model: bytes = b"",
    outcome: "Callable[[Signed], Mapping[str, Any]]" = lambda _signed: {},
) -> None:
    """Describe, show, ask, sign, submit, and say what was done.

    `describe` says what is signed, over the log as it is, or raises to refuse. `outcome` adds to
    the document what the log now says.
    """
    seen: Mapping[str, Any] | None = None

    def act_for(contract: "Contract") -> "Act":
        nonlocal seen
        act, meaning = describe(contract)
        if meaning != seen:  # again only if another officer's entry has changed it
            _show(what, meaning, to_stderr=form == "json")
            if not yes and sys.stdin.isatty():
                confirm(f"Sign this as {office.name}?", "nothing was signed", err=True)
            seen = meaning
        return act

    with session(office) as desk:
        signed = desk.sign(act_for, model=model)
    done = {
        "signed": what,
        "signer": office.name,
        "entry": signed.entry.hash,
        "log_length": signed.contract.length,
        **(seen or {}),
        **outcome(signed),
    }

    def show(console: "Console") -> None:
        result = {name.replace("_", " "): plain(value) for name, value in outcome(signed).items()}
        console.print(facts("Signed", {"entry": signed.entry.hash, **result}))

    emit(done, form, show)


def _show(what: str, meaning: Mapping[str, Any], *, to_stderr: bool) -> None:
    from rich.console import Console

    rows = {name.replace("_", " "): plain(value) for name, value in meaning.items()}
    Console(highlight=False, stderr=to_stderr).print(facts(f"To be signed: {what}", rows))
