"""`tacitly-officer account`: what composed releases or DP-SGD steps amount to."""

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from tacitly_server.officer.output import (
    COUNT,
    POSITIVE,
    DecimalType,
    emit,
    epsilon_text,
    facts,
    format_option,
)

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.option("--unit", type=click.Choice(["subject", "record"]), required=True)
@click.option("--noise-multiplier", type=DecimalType(), required=True)
@click.option("--participations", type=COUNT, help="Of one person (unit subject).")
@click.option(
    "--sample-rate", type=click.FloatRange(0, 1, min_open=True), help="Of a window (unit record)."
)
@click.option("--steps", type=COUNT, help="Of DP-SGD in all (unit record).")
@click.option("--delta", type=POSITIVE, required=True)
@format_option
def account(unit: str, form: str, **given: Any) -> None:
    """Account for releases of one person, or for DP-SGD steps over one window of events.

    The two levels are two accounts: neither is ever added to the other.
    """
    wanted = {"subject": ("participations",), "record": ("sample_rate", "steps")}[unit]
    for name in ("participations", "sample_rate", "steps"):
        option = f"--{name.replace('_', '-')}"
        if name in wanted and given[name] is None:
            raise click.UsageError(f"--unit {unit} needs {option}")
        if name not in wanted and given[name] is not None:
            raise click.UsageError(f"{option} is not for --unit {unit}; leave it out")
    if unit == "subject":
        found = _subject(given["noise_multiplier"], given["participations"], given["delta"])
    else:
        found = _record(
            given["noise_multiplier"], given["sample_rate"], given["steps"], given["delta"]
        )
    document = {"unit": unit, **{k: v for k, v in given.items() if v is not None}, **found}

    def show(console: "Console") -> None:
        rows = {name.replace("_", " "): str(value) for name, value in document.items()}
        rows["epsilon"] = epsilon_text(found["epsilon"])
        console.print(facts("What it amounts to", rows))

    emit(document, form, show)


def _subject(noise_multiplier: Decimal, participations: int, delta: float) -> dict[str, Any]:
    from tacitly_common.accounting.odds import best_guess_right_of_100
    from tacitly_common.accounting.subject import nano_rho_per_participation, shown_epsilon

    spent = participations * nano_rho_per_participation(noise_multiplier)
    return {
        "spent_nano_rho": spent,
        "epsilon": shown_epsilon(spent, delta),
        "best_guess_right_of_100": best_guess_right_of_100(spent),
    }


def _record(
    noise_multiplier: Decimal, sample_rate: float, steps: int, delta: float
) -> dict[str, Any]:
    from tacitly_common.accounting.record import epsilon_of_rdp, rdp_of_steps
    from tacitly_common.errors import ValidationError

    epsilon = epsilon_of_rdp(rdp_of_steps(noise_multiplier, sample_rate, steps), delta)
    if not math.isfinite(epsilon):
        raise ValidationError(
            f"{steps} steps at noise {noise_multiplier} have no finite ε; raise the noise "
            "multiplier, or lower the sample rate"
        )
    return {"epsilon": epsilon}
