"""`tacitly-officer plan`: solve for a setting, check a plan, compare two."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from tacitly_server.officer.assessed import assessment_fields, show_assessment
from tacitly_server.officer.output import COUNT, POSITIVE, DecimalType, emit, format_option

if TYPE_CHECKING:
    from rich.console import Console

    from tacitly_common.accounting.assessment import Assessment
    from tacitly_common.accounting.planner import Settings


@click.group()
def plan() -> None:
    """Plan, check and compare campaigns."""


@plan.command()
@click.option("--noise-multiplier", type=DecimalType(), help="z: noise of the sum in clip norms.")
@click.option("--epsilon", type=POSITIVE, help="ε that a person's budget allows.")
@click.option("--rounds", type=COUNT)
@click.option("--participations", type=COUNT, help="The most rounds a person may take part in.")
@click.option("--cohort", type=COUNT, help="Devices asked in a round.")
@click.option("--population", type=COUNT, help="Persons enrolled.")
@click.option("--delta", type=POSITIVE, default=1e-6, show_default=True, help="δ of the ledger.")
@click.option("--minimum", type=COUNT, help="Fewest answers for a release [default: the cohort].")
@click.option("--model-parameters", type=COUNT, help="For the length of the noise vector.")
@click.option(
    "--colluding",
    type=DecimalType(),
    default="0.1",
    show_default=True,
    help="Share of the cohort that works with the server, in that adversary's row.",
)
@format_option
def solve(model_parameters: int | None, colluding: Decimal, form: str, **settings: Any) -> None:
    """Solve for the one setting that is left out, and show what it buys.

    Leave out one of noise multiplier, ε, rounds, participations, cohort, population: noise and
    participations come from the budget; rounds, cohort and population from who can be asked. With
    none left out the settings are checked against each other. Exit code 3: over the budget.
    """
    from tacitly_common.accounting.assessment import assess
    from tacitly_common.accounting.planner import Question
    from tacitly_common.accounting.planner import solve as solved

    question = Question(**settings)
    complete = solved(question)
    assessed = assess(complete, model_parameters=model_parameters, colluding_share=colluding)
    document = {"solved_for": question.unknown, **assessment_fields(complete, assessed)}

    def show(console: "Console") -> None:
        show_assessment(console, complete, assessed, solved_for=question.unknown)

    emit(document, form, show)
    _refuse_over_budget(complete, assessed)


def _refuse_over_budget(settings: "Settings", assessed: "Assessment") -> None:
    """Exit code 3, after everything was shown that leads there."""
    from tacitly_common.errors import BudgetExceededError

    over = [one for one in assessed.warnings if one.code == "over_budget"]
    if over:
        raise BudgetExceededError(f"{over[0].message}; {over[0].fix}")
