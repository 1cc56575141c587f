"""What an officer is shown of a plan's predicted utility, and where that is from."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tacitly_server.officer.output import Side, epsilon_text, indented, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from tacitly_common.accounting.assessment import Assessment
    from tacitly_common.accounting.planner import Settings
    from tacitly_common.utility.predict import Answer, Prediction
    from tacitly_common.utility.table import Source

_MOST_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Predicted:
    """An answer and the file that it is from."""

    answer: "Answer"
    file_sha256: str
    made: datetime
    sources: "tuple[Source, ...]"


def predicted(
    path: Path,
    settings: "Settings",
    assessed: "Assessment",
    *,
    data: str | None,
    model_parameters: int | None,
) -> Predicted:
    """What the table in `path` says of these settings, for as many rounds as are feasible.

    Raises:
        UtilityTableError: the file is no such table.
    """
    from tacitly_common.utility.predict import Planned, predict
    from tacitly_common.utility.table import read_table

    measured = read_table(path)
    planned = Planned(
        noise_multiplier=settings.noise_multiplier,
        participations=settings.participations,
        rounds=max(1, min(settings.rounds, assessed.rounds_feasible)),
        cohort=settings.cohort,
        population=settings.population,
        delta=settings.delta,
        data=data,
        trained_parameters=model_parameters,
    )
    return Predicted(
        answer=predict(measured, planned),
        file_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        made=measured.made,
        sources=measured.studies,
    )


def utility_fields(found: Predicted | None) -> dict[str, Any]:
    """As a part of a document: {"utility": ...}, null where no table was given."""
    if found is None:
        return {"utility": None}
    from tacitly_common.utility.predict import CONFIDENCE, NEAR

    answer = found.answer
    used = {prediction.study for prediction in answer.predictions}
    return {
        "utility": {
            "state": answer.state,
            "reason": answer.reason,
            "figure": "top1",
            "confidence": CONFIDENCE,
            "near_factor": NEAR,
            "epsilon": answer.epsilon,
            "predictions": answer.predictions,
            "table_sha256": found.file_sha256,
            "table_made": found.made,
            "studies": [source for source in found.sources if source.name in used],
        }
    }


def show_utility(console: "Console", found: Predicted) -> None:
    """The predictions with their intervals and sources, or why there is none."""
    from tacitly_common.utility.predict import CONFIDENCE, State

    answer = found.answer
    title = "How often the next key or action would be guessed right (top-1)"
    if answer.state is State.NO_DATA:
        console.print(f"\n[bold]{title}[/]\n")
        text = f"[bold yellow]No data near this point:[/] {answer.reason}."
        console.print(indented(text + "\nTo have some: run a study there (docs/simulations.md)."))
        return
    shown = answer.predictions[:_MOST_SHOWN]
    differing = _differing(answer.predictions)
    columns: dict[str, Side] = {
        "study": "left",
        "people": "left",
        "start": "left",
        "top-1": "right",
        f"{CONFIDENCE:.0%} of runs": "right",
        "measured at": "left",
    }
    console.print(table(title, columns, ([*_cells(one, differing)] for one in shown)))
    hidden = len(answer.predictions) - len(shown)
    lines = [f"{hidden} more with --format json."] if hidden else []
    lines += [f"{one.study}: {note}." for one in shown for note in one.notes]
    if any(place.resampled for one in shown for place in one.neighbours):
        lines.append(
            "* Simulated with more clients than persons were recorded: these are resampled, and "
            "show what a cohort does to the noise, not how other people would type."
        )
    names = {one.study for one in shown}
    lines += [_origin(source) for source in found.sources if source.name in names]
    lines.append(f"Table of {found.made:%Y-%m-%d}. Nothing of it was measured on your people.")
    console.print(indented("\n" + "\n".join(dict.fromkeys(lines))))


def _cells(one: "Prediction", differing: "Sequence[str]") -> tuple[str, ...]:
    epsilons = sorted({place.epsilon for place in one.neighbours})
    cohorts = sorted({(place.cohort, place.resampled) for place in one.neighbours})
    places = (
        f"ε {', '.join(map(epsilon_text, epsilons))}\n"
        f"cohort {', '.join(f'{count:,}' + '*' * resampled for count, resampled in cohorts)}"
    )
    differs = "".join(
        f"\n{name.partition('.')[2]} {one.method.get(name, '-')}" for name in differing
    )
    return (
        one.study + differs,
        f"{one.persons} of {one.data}",
        one.start,
        f"[bold]{one.top1:.1%}[/]",
        f"{one.low:.1%} to {one.high:.1%}",
        places,
    )


def _differing(predictions: "Sequence[Prediction]") -> list[str]:
    """The names of what sets the predictions' series apart."""
    names = sorted({name for one in predictions for name in one.method})
    return [name for name in names if len({one.method.get(name) for one in predictions}) > 1]


def _origin(source: "Source") -> str:
    commit = source.commit[:12] or "unknown"
    return (
        f"{source.name}: results {source.results_sha256[:12]}, data {source.data_sha256[:12]}, "
        f"commit {commit}, tacitly {source.packages.get('tacitly', 'unknown')}"
    )
