"""What holds for every command: help at once, errors in one line with their exit code."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = {
    "tacitly-agent": "tacitly_client.cli",
    "tacitly-officer": "tacitly_server.officer",
    "tacitly-server": "tacitly_server.cli",
    "tacitly-sim": "tacitly_simulations.cli",
}
# What makes a command slow to answer: each takes 0.1 s or more to import.
HEAVY = {"flwr", "matplotlib", "numpy", "opacus", "ray", "scipy", "sqlalchemy", "torch"}


@pytest.mark.parametrize("module", COMMANDS.values())
def test_help_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert module in loaded.stdout
    assert not HEAVY & set(loaded.stdout.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_installed_and_answers(command: str) -> None:
    script = Path(sys.executable).with_name(command)
    answer = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith(f"Usage: {command}")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["tacitly-agent", "run", "--home", "nowhere"], 2, "run `tacitly-agent enrol"),
        (["tacitly-agent", "status", "--home", "nowhere"], 2, "run `tacitly-agent enrol"),
        (["tacitly-server", "nodes", "--home", "nowhere"], 2, "run `tacitly-server up"),
        (["tacitly-sim", "demo", "--out", "."], 2, "no earlier demo"),
    ],
)
def test_an_error_is_one_line_with_the_fix(
    tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "somebody's file").touch()
    script = Path(sys.executable).with_name(arguments[0])
    result = subprocess.run(
        [script, *arguments[1:]], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert result.returncode == code
    assert result.stderr.startswith(f"{arguments[0]}: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert (tmp_path / "somebody's file").exists()
