"""`tacitly-sim assist`: what people would get back, by the code that their devices run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from made_up_writers import write_coauthor


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three made-up writers in CoAuthor's format."""
    folder = tmp_path_factory.mktemp("coauthor")
    write_coauthor(folder, writers=3, text="return the value of the argument " * 20)
    return folder


def test_it_measures_each_model_on_the_same_tails(writers: Path) -> None:
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("tacitly-sim"), "assist", "--data", "coauthor"),
            *("--data-dir", writers, "--start", "random", "--rounds", "1", "--tail-tokens", "60"),
            *("--processes", "1", "--format", "json"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert (report["persons"], report["held_out_tokens"]) == (3, 180)
    assert [each["model"] for each in report["models"]] == [
        "start (random)",
        "in one place",
        "federated, ε = 4, as if 1000 persons",
    ]
    for each in report["models"]:
        frequent, _, own = each["rows"]
        # Nobody's model plays a part in the baseline.
        assert frequent == report["models"][0]["rows"][0]
        assert own["keys_saved"] / own["keys"] > 0.5
        assert 0 <= each["model_weight"] < 0.5
