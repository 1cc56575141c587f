"""What `make bench` shows and keeps: a short table, and out/bench.json."""

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from tacitly_simulations.bench.masking import Cost
from tacitly_simulations.bench.rounds import STOCK, Row
from tacitly_simulations.bench.training import Timing

# Heading, what of a row, digits, whether it is compared with stock.
_LINES: Final[tuple[tuple[str, Callable[[Row], float], int, bool], ...]] = (
    ("seconds a round", lambda row: row.seconds_a_round, 1, True),
    ("processor seconds a round", lambda row: row.cpu_seconds_a_round, 1, True),
    ("MB resident, idle", lambda row: row.idle_memory_bytes / 1e6, 0, True),
    ("MB resident, 4 s after a round", lambda row: row.after_round_memory_bytes / 1e6, 0, True),
    ("MB resident, peak", lambda row: row.peak_memory_bytes / 1e6, 0, True),
    ("% of a core, idle", lambda row: row.idle_cpu_percent, 2, False),
    ("kB up a round", lambda row: row.bytes_up_a_round / 1e3, 0, False),
    ("kB down a round", lambda row: row.bytes_down_a_round / 1e3, 0, False),
    ("cores busy with other things", lambda row: row.other_cores_busy, 1, False),
)


def show(console: Console, rows: Sequence[Row], timing: Timing) -> None:
    """Print the table; every "x" is against stock in this same run."""
    stock = next(row for row in rows if row.name == STOCK)
    table = Table(title="Two devices, one server, the same training. All but seconds: a device.")
    table.add_column(no_wrap=True)
    for row in rows:
        table.add_column(row.label, justify="right")
    for heading, value, digits, compared in _LINES:
        cells = []
        for row in rows:
            cell = f"{value(row):.{digits}f}"
            if compared and row is not stock:
                cell += f"  ({value(stock) / value(row):.1f}x)"
            cells.append(cell)
        table.add_row(heading, *cells)
    console.print(table)
    console.print(
        f"A training step: without privacy {timing.plain_ms:.1f} ms; "
        f"with record-level DP, ours {timing.tacitly_ms:.1f} ms ({timing.tacitly_ratio:.2f}x), "
        f"Opacus's hooks {timing.opacus_ms:.1f} ms ({timing.opacus_ratio:.2f}x)"
    )


def write_json(
    path: Path,
    rows: Sequence[Row],
    timing: Timing,
    masking: Sequence[Cost],
    *,
    loads: tuple[float, float],
) -> None:
    """Keep everything. `loads`: the machine's one-minute load before and after."""
    stock = next(row for row in rows if row.name == STOCK)
    document = {
        "machine": machine() | {"load_before": loads[0], "load_after": loads[1]},
        "rounds": [
            _fields(row)
            | {
                "faster_than_stock": stock.seconds_a_round / row.seconds_a_round,
                "idle_memory_of_stock": row.idle_memory_bytes / stock.idle_memory_bytes,
                "peak_memory_of_stock": row.peak_memory_bytes / stock.peak_memory_bytes,
            }
            for row in rows
        ],
        "training_step": _fields(timing)
        | {"tacitly_ratio": timing.tacitly_ratio, "opacus_ratio": timing.opacus_ratio},
        "masking": [_fields(cost) for cost in masking],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document)))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _fields(record: Row | Timing | Cost) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(record)
    return fields
