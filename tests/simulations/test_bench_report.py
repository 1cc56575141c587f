"""What the benchmarks show and keep."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

from rich.console import Console

from tacitly_simulations.bench.masking import Cost, measure, show_masking
from tacitly_simulations.bench.report import show, write_json
from tacitly_simulations.bench.rounds import STOCK, Row
from tacitly_simulations.bench.training import Timing

OURS = Row(
    name="shipped",
    label="ours",
    seconds_a_round=4.0,
    rounds_seconds=(3.0, 4.0, 5.0),
    idle_memory_bytes=90e6,
    idle_cpu_percent=0.1,
    after_round_memory_bytes=400e6,
    peak_memory_bytes=500e6,
    cpu_seconds_a_round=1.0,
    bytes_up_a_round=430e3,
    bytes_down_a_round=420e3,
    lost_attempts=0,
    other_cores_busy=0.1,
)
THEIRS = replace(OURS, name=STOCK, label="stock", seconds_a_round=12.0, idle_memory_bytes=270e6)
COST = Cost(
    cohort=256,
    group=86,
    parameters=1_000_000,
    device_seconds=0.5,
    masking_seconds=0.1,
    server_seconds=10.0,
    device_up_bytes=2_500_000,
    device_down_bytes=70_000,
    flower_device_seconds=5.0,
    flower_masking_seconds=4.0,
    flower_server_seconds=90.0,
    flower_device_up_bytes=8_000_000,
)
TIMING = Timing(plain_ms=20.0, tacitly_ms=25.0, opacus_ms=100.0)


def test_the_table_compares_with_stock_of_the_same_run() -> None:
    output = StringIO()
    show(Console(width=110, file=output), [OURS, THEIRS], TIMING)
    lines = output.getvalue().splitlines()
    (seconds,) = [line for line in lines if "seconds a round" in line and "processor" not in line]
    assert "4.0  (3.0x)" in seconds
    assert seconds.rstrip(" │").endswith("12.0")
    assert "25.0 ms (1.25x)" in output.getvalue()


def test_the_file_holds_every_row_and_its_ratios(tmp_path: Path) -> None:
    path = tmp_path / "new" / "bench.json"
    write_json(path, [OURS, THEIRS], TIMING, [COST], loads=(0.5, 1.5))
    document = json.loads(path.read_bytes())
    ours, stock = document["rounds"]
    assert ours["faster_than_stock"] == 3.0
    assert ours["idle_memory_of_stock"] == 90 / 270
    assert stock["faster_than_stock"] == 1.0
    assert ours["rounds_seconds"] == [3.0, 4.0, 5.0]
    assert document["training_step"]["tacitly_ratio"] == 1.25
    assert document["masking"][0]["flower_masking_seconds"] == 4.0
    assert document["machine"]["load_before"] == 0.5
    assert document["machine"]["cores"] >= 1


def test_masking_is_shown_beside_flowers() -> None:
    output = StringIO()
    show_masking(Console(width=110, file=output), [COST])
    (row,) = [line for line in output.getvalue().splitlines() if "256" in line]
    assert "0.100 (4.00)" in row
    assert "2500 (8000)" in row


def test_masking_is_measured_with_both_protocols() -> None:
    """A group that is played whole: the sum is checked in there."""
    cost = measure(12, 1_000)
    assert (cost.cohort, cost.group) == (12, 12)
    assert cost.device_up_bytes < cost.flower_device_up_bytes
    assert min(cost.device_seconds, cost.flower_device_seconds, cost.flower_server_seconds) > 0
