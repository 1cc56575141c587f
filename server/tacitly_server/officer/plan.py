"""`tacitly-officer plan`: solve for a setting, check a plan, compare two."""

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tacitly_server.officer.assessed import assessment_fields, show_assessment
from tacitly_server.officer.masked import (
    masked_fields,
    masked_of_plan,
    masked_of_settings,
    masked_options,
    masked_warnings,
)
from tacitly_server.officer.output import (
    COUNT,
    FILE,
    POSITIVE,
    DecimalType,
    Side,
    emit,
    facts,
    format_option,
    plain,
    table,
)
from tacitly_server.officer.place import optional_policy, policy_option
from tacitly_server.officer.predicted import predicted, utility_fields

if TYPE_CHECKING:
    from rich.console import Console

    from tacitly_common.accounting.assessment import Assessment


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
@click.option(
    "--oversample", type=click.IntRange(min=0), default=0, show_default=True, help="Asked beyond."
)
@click.option("--model-parameters", type=COUNT, help="For the length of the noise vector.")
@click.option(
    "--colluding",
    type=DecimalType(),
    default="0.1",
    show_default=True,
    help="Share of the cohort that works with the server, in that adversary's row.",
)
@click.option(
    "--utility",
    "utility_file",
    type=FILE,
    help="Table of `tacitly-sim export`: predict how well the model would guess.",
)
@click.option("--utility-data", help="Predict from studies of this data set alone.")
@masked_options
@format_option
def solve(
    model_parameters: int | None,
    colluding: Decimal,
    utility_file: Path | None,
    utility_data: str | None,
    form: str,
    masked: bool,
    dropout: Decimal,
    corruption: Decimal,
    group_size: int | None,
    failure_bits: int,
    wrap_bits: int,
    grid_bits: int,
    **settings: Any,
) -> None:
    """Solve for the one setting that is left out, and show what it buys.

    Leave out one of noise multiplier, ε, rounds, participations, cohort, population: noise and
    participations come from the budget; rounds, cohort and population from who can be asked. With
    none left out the settings are checked against each other. With --masked the server's rows are
    those of a plan that sums under masks, in groups. With --utility the model's use is predicted
    from studies, or no data are said to be near this plan. Exit code 3: over the budget.
    """
    from dataclasses import replace

    from tacitly_common.accounting.assessment import assess
    from tacitly_common.accounting.planner import Question
    from tacitly_common.accounting.planner import solve as solved

    if utility_data is not None and utility_file is None:
        raise click.UsageError("--utility-data chooses from a table; give --utility too")
    question = Question(**settings)
    complete = solved(question)
    sums = (
        masked_of_settings(
            complete,
            grid_bits=grid_bits,
            model_parameters=model_parameters,
            group_size=group_size,
            dropout=dropout,
            corruption=corruption,
            failure_bits=failure_bits,
            wrap_bits=wrap_bits,
        )
        if masked
        else None
    )
    assessed = assess(
        complete,
        model_parameters=model_parameters,
        colluding_share=colluding,
        masked=None if sums is None else sums.sums,
    )
    if sums is not None:
        advice = masked_warnings(sums, complete, colluding)
        assessed = replace(assessed, warnings=assessed.warnings + advice)
    utility = (
        None
        if utility_file is None
        else predicted(
            utility_file,
            complete,
            assessed,
            data=utility_data,
            model_parameters=model_parameters,
        )
    )
    document = {
        "solved_for": question.unknown,
        **assessment_fields(complete, assessed),
        **masked_fields(sums),
        **utility_fields(utility),
    }

    def show(console: "Console") -> None:
        show_assessment(
            console,
            complete,
            assessed,
            solved_for=question.unknown,
            masked=sums,
            utility=utility,
        )

    emit(document, form, show)
    refuse_over_budget(assessed)


@plan.command()
@click.argument("file", type=FILE)
@click.option("--epsilon", type=POSITIVE, help="Budget to hold it to [default: its own].")
@policy_option
@format_option
def check(file: Path, epsilon: float | None, policy_file: Path | None, form: str) -> None:
    """Compute anew what the plan in FILE may cost a person, and show all that follows.

    Exit codes: 2 not a plan, or it misstates its cost; 3 over the budget; 4 outside the policy.
    """
    from dataclasses import replace
    from datetime import UTC, datetime

    from tacitly_common.accounting.adversaries import DEFAULT_COLLUDING_SHARE
    from tacitly_common.campaign import check_epsilon, read_plan
    from tacitly_common.contract.policy import judge_plan
    from tacitly_server.campaigns.review import check_policy
    from tacitly_server.officer import plan_check

    read = read_plan(file)
    check_epsilon(read)
    policy = optional_policy(policy_file)
    settings = plan_check.plan_settings(read, epsilon)
    assessed = plan_check.assess_plan(read, settings, now=datetime.now(UTC))
    sums = masked_of_plan(read)
    if sums is not None:
        advice = masked_warnings(sums, settings, DEFAULT_COLLUDING_SHARE)
        assessed = replace(assessed, warnings=assessed.warnings + advice)
    verdict = None if policy is None else judge_plan(read, policy)
    document = {
        "hash": read.hash,
        "name": read.name,
        "purpose": read.purpose,
        "data_epochs": read.data_epochs,
        "expires": read.expires,
        "policy_verdict": None if verdict is None else verdict.name,
        **assessment_fields(settings, assessed),
        **masked_fields(sums),
    }

    def show(console: "Console") -> None:
        about = {
            "name": read.name,
            "purpose": read.purpose,
            "data of": ", ".join(read.data_epochs),
            "expires": f"{read.expires:%Y-%m-%d %H:%M} UTC",
            "hash": read.hash,
        }
        console.print(facts("Campaign", about))
        show_assessment(console, settings, assessed, masked=sums)

    emit(document, form, show)
    refuse_over_budget(assessed)
    if policy is not None:
        check_policy(read, policy)


@plan.command()
@click.argument("before", type=FILE)
@click.argument("after", type=FILE)
@format_option
def diff(before: Path, after: Path, form: str) -> None:
    """Show what changes from plan BEFORE to plan AFTER, and which way for a person."""
    from tacitly_common.accounting.subject import shown_epsilon
    from tacitly_common.campaign import read_plan
    from tacitly_server.officer.plan_diff import Direction, differences

    first, second = read_plan(before), read_plan(after)
    changes = differences(first, second)
    document = {
        "before": first.hash,
        "after": second.hash,
        "cost_nano_rho": {"before": first.cost_nano_rho, "after": second.cost_nano_rho},
        "worst_person_nano_rho": {"before": first.cap_nano_rho, "after": second.cap_nano_rho},
        "epsilon_worst_person": {
            "before": shown_epsilon(first.cap_nano_rho, float(first.delta)),
            "after": shown_epsilon(second.cap_nano_rho, float(second.delta)),
        },
        "looser": any(change.direction is Direction.LOOSER for change in changes),
        "changes": changes,
    }

    def show(console: "Console") -> None:
        colours = {Direction.LOOSER: "[bold red]", Direction.TIGHTER: "[green]"}
        rows = (
            (
                change.field,
                plain(change.before),
                plain(change.after),
                f"{colours.get(change.direction, '[dim]')}{change.direction}[/]",
            )
            for change in changes
        )
        columns: dict[str, Side] = {
            "field": "left",
            "before": "left",
            "after": "left",
            "for a person": "left",
        }
        if not changes:
            console.print("The plans are the same.")
            return
        console.print(table("What changes", columns, rows))

    emit(document, form, show)


def refuse_over_budget(assessed: "Assessment") -> None:
    """Exit code 3, after everything was shown that leads there."""
    from tacitly_common.errors import BudgetExceededError

    over = [one for one in assessed.warnings if one.code == "over_budget"]
    if over:
        raise BudgetExceededError(f"{over[0].message}; {over[0].fix}", scope="campaign")
