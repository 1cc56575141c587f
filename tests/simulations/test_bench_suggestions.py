"""The benchmark of suggestions runs, and its figures are of what they say."""

import json
import subprocess
import sys
from pathlib import Path


def test_it_measures_times_and_memory(tmp_path: Path) -> None:
    out = tmp_path / "suggestions.json"
    done = subprocess.run(
        [sys.executable, "-m", "tacitly_simulations.bench.suggestions", "--out", out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kept = json.loads(out.read_bytes())
    assert kept == json.loads(done.stdout)
    figures = kept["suggestions"]
    for name in ("suggestion", "suggestion_with_head"):
        times = figures[name]
        assert 0 < times["median_ms"] <= times["p99_ms"] <= times["largest_ms"]
    interpreter, suggesting = figures["interpreter_mb"], figures["suggesting_process_mb"]
    assert interpreter < suggesting < figures["torch_process_mb"]
    assert kept["machine"]["cores"] >= 1
