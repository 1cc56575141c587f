"""`tacitly-officer`: what a privacy officer types before signing anything.

One module for each group of commands; `output.py` prints for all of them. Exit codes are in
docs/commands.md. Heavy imports are inside the commands: `--help` must answer at once.
"""

import click

from tacitly_common.command import run_command
from tacitly_server.officer.account import account
from tacitly_server.officer.budget import budget
from tacitly_server.officer.campaign import campaign
from tacitly_server.officer.key import key
from tacitly_server.officer.ledger import ledger
from tacitly_server.officer.people import officer
from tacitly_server.officer.plan import plan
from tacitly_server.officer.policy import policy


@click.group()
def cli() -> None:
    """Plan what a campaign may cost a person, decide on it with others, read what was spent."""


for group in (account, budget, campaign, key, ledger, officer, plan, policy):
    cli.add_command(group)


def main() -> None:
    """Run the command."""
    run_command("tacitly-officer", cli)
