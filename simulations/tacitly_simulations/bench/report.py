"""What `make bench` shows and keeps: a short table, and out/bench.json."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from tacitly_simulations.bench.rounds import Row
from tacitly_simulations.bench.training import Timing

_MB = 1e6


def show(console: Console, rows: Sequence[Row], timing: Timing) -> None:
    """Print the table; every "x" is against stock in this same run."""
    stock = _stock(rows)
    table = Table(title="Two devices, one server, the same training (of one device)")
    for heading in (
        "", "s a round", "", "idle MB", "", "between rounds MB", "peak MB", "", "idle CPU %",
        "CPU s a round", "kB up", "kB down",
    ):  # fmt: skip
        table.add_column(heading, justify="right" if table.columns else "left")
    for row in rows:
        table.add_row(
            row.label,
            f"{row.seconds_a_round:.1f}",
            _times(stock.seconds_a_round, row.seconds_a_round),
            f"{row.idle_memory_bytes / _MB:.0f}",
            _times(stock.idle_memory_bytes, row.idle_memory_bytes),
            f"{row.between_rounds_memory_bytes / _MB:.0f}",
            f"{row.peak_memory_bytes / _MB:.0f}",
            _times(stock.peak_memory_bytes, row.peak_memory_bytes),
            f"{row.idle_cpu_percent:.2f}",
            f"{row.cpu_seconds_a_round:.1f}",
            f"{row.bytes_up_a_round / 1e3:.0f}",
            f"{row.bytes_down_a_round / 1e3:.0f}",
        )
    console.print(table)
    console.print(
        f"A training step: without privacy {timing.plain_ms:.1f} ms; "
        f"with record-level DP, ours {timing.tacitly_ms:.1f} ms ({timing.tacitly_ratio:.2f}x), "
        f"Opacus's hooks {timing.opacus_ms:.1f} ms ({timing.opacus_ratio:.2f}x)"
    )


def write_json(
    path: Path, rows: Sequence[Row], timing: Timing, *, loads: tuple[float, float]
) -> None:
    """Keep everything. `loads`: the machine's one-minute load before and after."""
    stock = _stock(rows)
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


def _stock(rows: Sequence[Row]) -> Row:
    return next(row for row in rows if row.name == "stock")


def _times(stock: float, ours: float) -> str:
    return f"{stock / ours:.1f}x"


def _fields(record: Row | Timing) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(record)
    return fields
