"""The results table as Parquet, and means over seeds."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

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


@dataclass(frozen=True, slots=True)
class Mean:
    """A setting's rows over all seeds: (mean, standard deviation) of each figure."""

    axes: dict[str, str]
    rows: tuple[Row, ...]

    @property
    def first(self) -> Row:
        """What does not depend on the seed is the first row's."""
        return self.rows[0]

    def of(self, figure: str) -> tuple[float, float]:
        """Over the seeds; the deviation is the sample's, 0 for one seed."""
        values = np.array([getattr(row, figure) for row in self.rows])
        return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0


def means(rows: Sequence[Row]) -> list[Mean]:
    """One for each setting, in the order of the rows."""
    settings: dict[tuple[tuple[str, str], ...], list[Row]] = defaultdict(list)
    for row in rows:
        settings[tuple(row.axes.items())].append(row)
    return [Mean(dict(axes), tuple(of_axes)) for axes, of_axes in settings.items()]
