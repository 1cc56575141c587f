"""`tacitly-officer`: what a privacy officer types before signing anything.

Exit codes: 0 ok, 1 unexpected, 2 usage or an invalid plan. Heavy imports are inside the
commands: `--help` must answer at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tacitly_common.command import run_command

if TYPE_CHECKING:
    from tacitly_common.campaign import CampaignPlan


@click.group()
def cli() -> None:
    """Read what a campaign may do and what it may cost a person."""


def main() -> None:
    """Run the command."""
    run_command("tacitly-officer", cli)


@cli.group()
def plan() -> None:
    """Look at campaign plans."""


@plan.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def show(file: Path, form: str) -> None:
    """Check the plan in FILE and show its hash and what it may cost a person."""
    import msgspec

    from tacitly_common.campaign import read_plan

    facts = _facts(read_plan(file))
    if form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(facts), indent=2).decode())
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' '):{width}}  {value}")


def _facts(read: "CampaignPlan") -> dict[str, Any]:
    """The hash, the bounds, and ε of the worst case: a person who takes part as often as allowed.

    Two adversaries: whoever holds the released models, and the server, which sees each device's
    own noised update as long as sums are not made under masks. A device adds the share
    z/sqrt(minimum), so against the server a participation costs `minimum` times as much.
    """
    import math

    from tacitly_common.accounting.subject import epsilon_of

    def epsilon(nano_rho: int) -> float:
        return math.ceil(1e4 * epsilon_of(nano_rho, float(read.delta))) / 1e4

    return {
        "hash": read.hash,
        "name": read.name,
        "purpose": read.purpose,
        "rounds": read.rounds,
        "most_participations_of_a_person": read.participation.per_campaign,
        "population": read.cohort.population,
        "cohort_target": read.cohort.target,
        "cohort_minimum": read.cohort.minimum,
        "clip_norm": str(read.subject.clip_norm),
        "noise_multiplier": str(read.subject.noise_multiplier),
        "cost_of_a_participation_nano_rho": read.cost_nano_rho,
        "cap_of_a_person_nano_rho": read.cap_nano_rho,
        "delta": str(read.delta),
        "worst_epsilon_against_holders_of_the_models": epsilon(read.cap_nano_rho),
        "worst_epsilon_against_the_server": epsilon(read.cohort.minimum * read.cap_nano_rho),
    }


if __name__ == "__main__":
    main()
