"""`tacitly-agent pause`, `resume`, `exclude`, `config`, with no process running."""

import json
import re
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from homes import make_home, training_plan
from tacitly_client.capture.clock import SystemClock
from tacitly_client.capture.state import CaptureState, Doing
from tacitly_client.choices import ChoicesFile, set_level
from tacitly_client.cli import cli
from tacitly_client.home import AgentHome
from tacitly_client.live_file import LiveFile
from tacitly_client.pause import read_pause
from tacitly_client.redaction import ContentLevel
from tacitly_common.errors import ValidationError

CLOCK = SystemClock()


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    return make_home(tmp_path / "home", training_plan())


def run(home: AgentHome, *arguments: str) -> Result:
    place = ["--home", str(home.root)]
    head = 2 if arguments[0] == "config" else 1
    return CliRunner().invoke(cli, [*arguments[:head], *place, *arguments[head:]])


@pytest.mark.parametrize(
    ("length", "seconds"), [("90s", 90), ("30m", 1_800), ("1h", 3_600), ("2d", 172_800)]
)
def test_a_pause_for_a_time(home: AgentHome, length: str, seconds: int) -> None:
    began = time.time()
    result = run(home, "pause", "--for", length)
    assert result.exit_code == 0
    assert re.search(r"paused until (20\d\d-\d\d-\d\d )?\d\d:\d\d$", result.output.rstrip())
    until_ns = read_pause(home, CLOCK).until_ns
    assert until_ns is not None
    assert began + seconds <= until_ns / 1e9 + 0.001 <= time.time() + seconds + 0.002


def test_a_pause_lasts_until_resume(home: AgentHome) -> None:
    assert "paused until `tacitly-agent resume`" in run(home, "pause").output
    assert read_pause(home, CLOCK).paused
    assert "capture: not running" in run(home, "resume").output
    assert not read_pause(home, CLOCK).paused


@pytest.mark.parametrize("length", ["", "1", "h", "0m", "-1h", "1y", "an hour"])
def test_what_is_no_length_of_time_pauses_nothing(home: AgentHome, length: str) -> None:
    result = run(home, "pause", "--for", length)
    assert result.exit_code == 2
    assert "no time such as 90s, 10m, 2h or 7d" in result.output
    assert not read_pause(home, CLOCK).paused


def test_after_a_resume_a_capture_that_has_yet_to_look_is_not_called_paused(
    home: AgentHome,
) -> None:
    home.run.mkdir()
    shown = LiveFile(home.capture_state)
    shown.show(CaptureState(Doing.PAUSED))
    assert run(home, "pause").output.startswith("capture: paused until")
    assert run(home, "resume").output == "capture: about to go on\n"
    shown.close()


def test_an_application_is_excluded_and_taken_back(home: AgentHome) -> None:
    assert "excluded: signal\n" in run(home, "exclude", "Signal").output
    assert ChoicesFile(home.choices)().excluded == {"signal"}
    assert run(home, "exclude", "signal", "--remove").output == "excluded: none\n"
    assert ChoicesFile(home.choices)().excluded == frozenset()


@pytest.mark.parametrize(
    "arguments", [["pause"], ["resume"], ["exclude", "signal"], ["config", "show"]]
)
def test_without_a_home_there_is_nothing_to_change(tmp_path: Path, arguments: list[str]) -> None:
    result = run(AgentHome(tmp_path / "nowhere"), *arguments)
    assert isinstance(result.exception, ValidationError)
    assert "tacitly-agent enrol" in str(result.exception)
    assert not (tmp_path / "nowhere").exists()


def test_each_setting_says_where_it_comes_from(home: AgentHome) -> None:
    written = json.loads(home.settings.read_bytes())
    del written["poll_seconds"]
    home.settings.write_text(json.dumps(written))
    set_level(home, "gedit", ContentLevel.WORDS)
    shown = json.loads(run(home, "config", "show", "--origin", "--format", "json").output)
    settings = shown["settings"]
    assert settings["server"] == {"value": "127.0.0.1:1", "origin": str(home.settings)}
    assert settings["poll_seconds"] == {"value": 3.0, "origin": "as it ships"}
    assert settings["content.applications.gedit"]["value"] == "words"
    assert settings["content.applications.gedit"]["origin"] == str(home.choices)
    assert settings["content.excluded"]["value"] == []
    lines = run(home, "config", "show", "--origin").output.splitlines()
    assert len(lines) == len(settings)
    assert any(line.startswith("poll_seconds") and line.endswith("(as it ships)") for line in lines)
    assert "(" not in run(home, "config", "show").output


def test_status_says_first_what_is_captured(home: AgentHome) -> None:
    run(home, "pause", "--for", "1h")
    lines = run(home, "status").output.splitlines()
    assert re.match(r"capture           paused until .*\d\d:\d\d$", lines[0])
    assert lines[1] == "consent           none: you have not agreed"
    assert lines[2] == "training          no round at the moment"
    assert lines[3].startswith("processes         none")
    document = json.loads(run(home, "status", "--format", "json").output)
    assert document["no_consent"] == "you have not agreed"
    now = document["now"]
    assert (now["capture"], now["paused"], now["processes"]) == ("not running", True, [])
