"""`tacitly-officer policy`: what every plan must keep to."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tacitly_server.officer.changes import policy_change, proposed
from tacitly_server.officer.office import Office, office_options
from tacitly_server.officer.output import FILE, format_option
from tacitly_server.officer.place import read_policy
from tacitly_server.officer.signing import Shown, sign, yes_option

if TYPE_CHECKING:
    from tacitly_common.contract.log import Contract


@click.group()
def policy() -> None:
    """Write and propose the organisation's policy."""


@policy.command()
def example() -> None:
    """Print a policy to start from, as JSON."""
    from decimal import Decimal

    import msgspec

    from tacitly_common.campaign import Level
    from tacitly_common.contract.policy import Policy

    start = Policy(
        purposes=("next-interaction",),
        highest_level=Level.CLASSES,
        minimum_noise_multiplier=Decimal(1),
        maximum_clip_norm=Decimal(1),
        minimum_cohort=20,
        delta=Decimal("0.000001"),
        lifetime_epsilon=Decimal(8),
        epoch_epsilon=Decimal(4),
        maximum_grant_hours=24,
        workers_informed="works agreement of 2026-11-01",
        contact="privacy@example.org",
    )
    click.echo(msgspec.json.format(msgspec.json.encode(start), indent=2).decode())


@policy.command()
@click.argument("file", type=FILE)
@office_options
@yes_option
@format_option
def propose(file: Path, office: Office, form: str, yes: bool) -> None:
    """Propose the policy in FILE in the place of the one that holds.

    It takes effect when two other officers have approved it: `campaign approve HASH`.
    """
    from tacitly_common.contract.acts import ProposeChange

    wanted = read_policy(file)

    def describe(contract: "Contract") -> Shown:
        return ProposeChange(policy=wanted), policy_change(contract.policy, wanted)

    sign(office, "propose a policy", describe, form=form, yes=yes, outcome=proposed)
