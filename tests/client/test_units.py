"""What starts the agent at login: units that systemd takes, an entry that desktops take."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from homes import make_home, training_plan
from tacitly_client.cli import cli
from tacitly_client.daemon.supervisor import parts_for
from tacitly_client.home import AgentHome
from tacitly_client.units import UNITS, install_autostart, install_units

# Every character that one of the two formats takes for something else.
ODD = 'an agent\'s 100% "home" $HOME \\ `x`'


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    return make_home(tmp_path / ODD, training_plan())


def test_systemd_takes_the_units(home: AgentHome, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        if os.environ.get("TACITLY_REQUIRE_SYSTEMD") == "1":
            pytest.fail("systemd-analyze is not installed and TACITLY_REQUIRE_SYSTEMD=1")
        pytest.skip("systemd-analyze is not installed (apt-get install systemd)")
    written = install_units(home, tmp_path)
    environment = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(
        [program, "--user", "verify", *written],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    # Whatever else is installed on this machine is not ours to judge.
    ours = [line for line in done.stderr.splitlines() if "tacitly" in line]
    assert ours == []
    assert len(written) == len(UNITS) + 1


def test_a_unit_for_each_process_and_no_network_but_for_the_node(
    home: AgentHome, tmp_path: Path
) -> None:
    parts = {part.name: part.module for part in parts_for({"DISPLAY": ":0"}, capture=True)}
    assert {name: unit.module for name, unit in UNITS.items()} == parts
    install_units(home, tmp_path)
    for name in parts:
        unit = read(tmp_path / "systemd" / "user" / f"tacitly-{name}.service")
        families = unit["Service"]["RestrictAddressFamilies"].split()
        assert ("AF_INET" in families) is (name == "node")
        assert unit["Service"]["NoNewPrivileges"] == "yes"
        assert unit["Service"]["LimitCORE"] == "0"
        assert unit["Service"]["Restart"] == "always"
        assert not [value for value in unit["Service"].values() if value.startswith("@")]


def test_tray_and_capture_belong_to_the_desktop(home: AgentHome, tmp_path: Path) -> None:
    install_units(home, tmp_path)
    for name in UNITS:
        unit = read(tmp_path / "systemd" / "user" / f"tacitly-{name}.service")
        graphical = unit["Install"]["WantedBy"] == "graphical-session.target"
        assert graphical is (name in ("tray", "capture"))


def test_a_desktop_finds_the_command_in_the_entry(home: AgentHome, tmp_path: Path) -> None:
    entry = read(install_autostart(home, tmp_path))["Desktop Entry"]
    # Read as the specification says: the file's escapes, then quoted words, then field codes.
    words = re.findall(r'"((?:[^"\\]|\\.)*)"', entry["Exec"].replace("\\\\", "\\"))
    assert [re.sub(r"\\(.)", r"\1", word).replace("%%", "%") for word in words] == [
        *(sys.executable, "-P", "-m", "tacitly_client", "run", "--home"),
        str(home.root),
    ]


@pytest.mark.parametrize(
    ("by", "file"),
    [("systemd", "systemd/user/tacitly.target"), ("desktop", "autostart/tacitly.desktop")],
)
def test_the_command_writes_what_was_asked_for(
    home: AgentHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str, file: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    command = ["install-units", "--home", str(home.root), "--by", by]
    done = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert done.exit_code == 0
    assert (tmp_path / "config" / file).is_file()
    assert "tacitly" in done.output


def read(path: Path) -> configparser.ConfigParser:
    """Good enough for files in which no key is there twice."""
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment]
    parsed.read_string(path.read_text())
    return parsed
