"""How an assessment is read: the fields of its document, and its tables."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from tacitly_server.officer.masked import show_masked
from tacitly_server.officer.output import Side, delta_text, epsilon_text, facts, indented, table
from tacitly_server.officer.predicted import show_utility

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from tacitly_common.accounting.adversaries import Adversary
    from tacitly_common.accounting.assessment import Advice, Assessment
    from tacitly_common.accounting.planner import Settings
    from tacitly_server.officer.masked import Masked
    from tacitly_server.officer.predicted import Predicted


def assessment_fields(settings: "Settings", assessed: "Assessment") -> dict[str, Any]:
    """Both as one flat document; `odds` and what ends in `_of_100` count persons of 100."""
    return {
        one.name: getattr(part, one.name) for part in (settings, assessed) for one in fields(part)
    }


def show_assessment(
    console: "Console",
    s: "Settings",
    a: "Assessment",
    *,
    solved_for: str | None = None,
    masked: "Masked | None" = None,
    utility: "Predicted | None" = None,
) -> None:
    """The settings and what follows from them, for an officer to read from top to bottom."""
    console.print(_summary(s, a, solved_for))
    if masked is not None:
        show_masked(console, masked)
    console.print(
        table(
            "Somebody guesses who took part: how many of 100 who did are caught",
            {"wrongly accused, of 100": "right", "by chance": "right", "with this plan": "right"},
            (
                (f"{odds.false_alarms:g}", f"{odds.false_alarms:g}", f"at most {odds.caught:.2f}")
                for odds in a.odds
            ),
        )
    )
    _show_adversaries(console, a.adversaries)
    months: dict[str, Side] = {str(one.months): "right" for one in a.lifetime}
    console.print(
        table(
            f"If the budget is renewed each month and the data stay (δ {delta_text(s.delta)})",
            {"after months": "left", **months},
            [["ε"] + [epsilon_text(one.epsilon) for one in a.lifetime]],
        )
    )
    if a.alternatives:
        console.print(
            table(
                "One setting changed, the noise solved for again",
                {
                    "change": "left",
                    "noise": "right",
                    "noise of the mean": "right",
                    "rounds feasible": "right",
                },
                (
                    (
                        one.change,
                        str(one.noise_multiplier),
                        f"{one.noise_mean:.4f} C",
                        f"{one.rounds_feasible:,}",
                    )
                    for one in a.alternatives
                ),
            )
        )
    if utility is not None:
        show_utility(console, utility)
    show_warnings(console, a.warnings)


def show_warnings(console: "Console", warnings: "Iterable[Advice]") -> None:
    """Each warning and its fix, where the eye ends up: last."""
    for one in warnings:
        console.print("\n[bold yellow]Note[/]\n")
        console.print(indented(f"{one.message}.\nTo change that: {one.fix}."))


def _summary(s: "Settings", a: "Assessment", solved_for: str | None) -> Any:
    def marked(name: str, value: str) -> str:
        return f"[bold green]{value}[/]  <- solved for" if name == solved_for else value

    mean = f"{a.noise.mean:.4f} C a coordinate of the mean"
    if a.noise.mean_length is not None:
        mean += f", {a.noise.mean_length:.3g} C in all"
    return facts(
        "The plan",
        {
            "noise multiplier": marked("noise_multiplier", str(s.noise_multiplier)),
            "ε of the budget": marked("epsilon", f"{s.epsilon:g} at δ {delta_text(s.delta)}"),
            "population": marked("population", f"{s.population:,}"),
            "cohort": marked("cohort", f"{s.cohort:,}") + f", at least {s.minimum:,} answers",
            "rounds": marked("rounds", f"{s.rounds:,}") + f", feasible {a.rounds_feasible:,}",
            "participations": marked("participations", f"at most {s.participations:,}")
            + f", the budget pays for {a.participations_feasible:,}, "
            f"expected {a.participations_expected:.1f}",
            "a participation costs": f"{a.cost_nano_rho:,} of {a.cap_nano_rho:,} nano-ρ",
            "noise": mean,
            "ε of the worst person": f"[bold]{epsilon_text(a.epsilon_worst_person)}[/]",
            "best guess right": f"{a.best_guess_right_of_100:.2f} of 100 times, by chance 50",
        },
    )


def _show_adversaries(console: "Console", rows: "Sequence[Adversary]") -> None:
    from tacitly_common.accounting.adversaries import Holds

    console.print(
        table(
            "Who looks, and the ε that holds against them",
            {"who": "left", "what they see": "left", "ε": "right"},
            (
                (
                    row.name + ("" if row.holds is Holds.TODAY else " *"),
                    row.sees + ("" if row.protects == "person" else f" (a {row.protects})"),
                    "no DP" if row.epsilon is None else epsilon_text(row.epsilon),
                )
                for row in rows
            ),
        )
    )
    if any(row.holds is not Holds.TODAY for row in rows):
        note = "where sums are made under masks; without, the server's row of today holds"
        console.print(indented(f"\n* {note}"))
