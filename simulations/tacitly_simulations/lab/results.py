"""The results table as Parquet, and means over seeds."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from tacitly_simulations.lab.description import StudyError
from tacitly_simulations.lab.point import Row


def write_results(out: Path, rows: Sequence[Row]) -> None:
    """`results.parquet`, a column for each field and axis; equal rows give equal bytes."""
    import pyarrow as pa
    from pyarrow import parquet

    table = []
    for row in rows:
        columns = msgspec.to_builtins(row)
        axes = columns.pop("axes")
        table.append(columns | {f"axis.{name}": value for name, value in axes.items()})
    unfinished = out / ".results.parquet.new"
    parquet.write_table(pa.Table.from_pylist(table), unfinished)
    unfinished.replace(out / "results.parquet")


def read_table(path: Path) -> list[Row]:
    """The rows of a `results.parquet`; the inverse of `write_results`.

    Raises:
        StudyError: it cannot be read, or is none.
    """
    import pyarrow as pa
    from pyarrow import parquet

    rows = []
    try:
        for columns in parquet.read_table(path).to_pylist():
            fields = {name: columns[name] for name in Row.__struct_fields__ if name in columns}
            axes = {
                name.removeprefix("axis."): value
                for name, value in columns.items()
                if name.startswith("axis.")
            }
            rows.append(msgspec.convert({**fields, "axes": axes}, Row))
    except (OSError, pa.ArrowException, msgspec.ValidationError) as error:
        raise StudyError(f"{path}: not a table of a study's results ({error})") from None
    return rows


@dataclass(frozen=True, slots=True)
class Mean:
    """A setting's rows over all seeds: (mean, standard deviation) of each figure."""

    axes: dict[str, str]
    rows: tuple[Row, ...]

    @property
    def first(self) -> Row:
        """What does not depend on the seed is the first row's."""
        return self.rows[0]

    @property
    def name(self) -> str:
        """The swept values in words."""
        named = [f"{name.partition('.')[2]} {value}" for name, value in self.axes.items()]
        return ", ".join(named) or "the one setting"

    def has(self, figure: str) -> bool:
        """Whether the data give this figure, and all rows are of a version that measured it."""
        return all(getattr(row, figure) is not None for row in self.rows)

    def of(self, figure: str) -> tuple[float, float]:
        """Over the seeds; the deviation is the sample's, 0 for one seed."""
        values = np.array([getattr(row, figure) for row in self.rows])
        return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0

    def percent(self, figure: str) -> str:
        """A share and its deviation for people."""
        if not self.has(figure):
            return "–"
        value, deviation = self.of(figure)
        spread = f" ± {100 * deviation:.1f}" if len(self.rows) > 1 else ""
        return f"{100 * value:.1f}{spread} %"


def further_shares(averaged: Sequence[Mean]) -> list[tuple[str, str]]:
    """Title and field of what the data give beside top-1, top-3 and perplexity."""
    known = (
        ("worst tenth", "top1_worst_decile"),
        ("personal top-1", "top1_personal"),
        ("keys saved", "keys_saved"),
        ("click", "click_top1"),
    )
    return [each for each in known if any(mean.has(each[1]) for mean in averaged)]


def means(rows: Sequence[Row]) -> list[Mean]:
    """One for each setting, in the order of the rows."""
    settings: dict[tuple[tuple[str, str], ...], list[Row]] = defaultdict(list)
    for row in rows:
        settings[tuple(row.axes.items())].append(row)
    return [Mean(dict(axes), tuple(of_axes)) for axes, of_axes in settings.items()]


def front(averaged: Sequence[Mean]) -> list[Mean]:
    """The settings that no other beats at their ε or a lower one, by top-1; ε rises.

    A setting is on this Pareto front if none has a lower or equal ε and a higher mean top-1. No
    noise is an ε above all others.
    """

    def epsilon(mean: Mean) -> float:
        return math.inf if mean.first.epsilon is None else mean.first.epsilon

    def top1(mean: Mean) -> float:
        return mean.of("top1")[0]

    unbeaten = [
        mean
        for mean in averaged
        if not any(epsilon(o) <= epsilon(mean) and top1(o) > top1(mean) for o in averaged)
    ]
    return sorted(unbeaten, key=epsilon)
