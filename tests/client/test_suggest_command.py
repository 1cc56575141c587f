"""`tacitly-agent suggest` as a person types it, in a process of its own and in a terminal."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from homes import make_home, training_plan
from released import release
from tacitly_client.home import AgentHome
from tacitly_client.models import Models
from tacitly_client.store import EventStore

PLAN = training_plan()
AGENT = Path(sys.executable).with_name("tacitly-agent")
HABIT = "please return the value of the argument and continue " * 40


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> AgentHome:
    """A home with a released model and a store of events."""
    home = make_home(tmp_path_factory.mktemp("suggest") / "agent", PLAN, text=HABIT)
    Models.open(home).keep(PLAN, *release(PLAN))
    return home


def run(home: AgentHome, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [AGENT, "suggest", "--home", home.root, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def suggestions(home: AgentHome, *arguments: str) -> list[dict[str, Any]]:
    done = run(home, *arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1
    found: list[dict[str, Any]] = document["suggestions"]
    return found


def words(found: list[dict[str, Any]]) -> list[str]:
    return [each["text"] for each in found if each["kind"] == "word"]


def test_it_completes_a_word_of_this_person_s(home: AgentHome) -> None:
    assert words(suggestions(home, "--text", "please ret"))[0] == "return"
    assert words(suggestions(home, "--text", "please return "))[0] == "the"


def test_without_the_head_the_person_s_habits_play_no_part(home: AgentHome) -> None:
    (with_head, without) = (
        suggestions(home, "--text", "please ret", *option) for option in ([], ["--no-head"])
    )
    assert with_head[0]["probability"] > 0.9 > without[0]["probability"]


def test_how_many_is_for_the_person_to_say(home: AgentHome) -> None:
    for most in (1, 5):
        found = suggestions(home, "--text", "re", "--most", str(most))
        assert len(words(found)) == most
        assert {each["kind"] for each in found} == {"word", "key", "action"}


def test_each_line_of_a_script_is_a_text_of_its_own(home: AgentHome) -> None:
    done = run(home, stdin="please ret\nplease return \n")
    lines = [line for line in done.stdout.splitlines() if line.startswith("word")]
    assert [line.split()[1] for line in lines] == ["return", "the"]


def test_the_report_says_what_each_way_to_suggest_would_have_saved(home: AgentHome) -> None:
    done = run(home, "--report", "--format", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["plan_hash"], report["round"]) == (PLAN.hash, 3)
    saved = {row["method"]: row["keys_saved"] / row["keys"] for row in report["rows"]}
    assert list(saved) == ["most frequent", "model", "model and you"]
    assert saved["model and you"] > 0.7 > saved["model"]
    shown = run(home, "--report").stdout
    assert re.search(rf"model and you +{saved['model and you']:.1%}", shown)


def test_in_a_terminal_a_number_takes_a_word(home: AgentHome) -> None:
    text = "please ret"
    lines = [text[:typed] for typed in range(len(text) + 1)]
    with in_a_terminal(home) as terminal:
        shown = [terminal.shows("")]
        for key, line in zip(text, lines[1:], strict=True):
            shown.append(terminal.after(key, line))
        assert "1 return" in shown[-1]
        assert "1 the" in terminal.after("1", "please return ")
        terminal.after("v", "please return v")
        terminal.after("\x7f", "please return ")
        terminal.after("\r", "")
        os.write(terminal.file, b"\x04")
        assert terminal.process.wait(60) == 0


@dataclass
class Terminal:
    """The command at a real terminal."""

    process: subprocess.Popen[bytes]
    file: int

    def after(self, key: str, line: str) -> str:
        """What is drawn after a key, up to the line that was typed."""
        os.write(self.file, key.encode())
        return self.shows(line)

    def shows(self, line: str) -> str:
        """What is drawn until it ends with this line."""
        shown, until = "", time.monotonic() + 60
        while time.monotonic() < until:
            if select.select([self.file], [], [], 0.2)[0]:
                shown += os.read(self.file, 4_096).decode()
            if shown.endswith(f"> {line}"):
                time.sleep(0.05)  # it reads keys in raw mode, and forgets those that came before
                return shown
        raise AssertionError(f"shown: {shown!r}")


@contextmanager
def in_a_terminal(home: AgentHome) -> Iterator[Terminal]:
    command = [AGENT, "suggest", "--home", home.root]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        try:
            yield Terminal(process, ours)
        finally:
            process.kill()
            os.close(ours)


def test_a_damaged_part_of_the_store_is_left_out_and_said(tmp_path: Path) -> None:
    home = make_home(tmp_path / "agent", PLAN, text=HABIT)
    Models.open(home).keep(PLAN, *release(PLAN))
    (segment,) = home.store.rglob("*.seg")
    content = bytearray(segment.read_bytes())
    content[-1] ^= 1
    segment.write_bytes(content)
    done = run(home, "--text", "ret", "--format", "json")
    assert done.returncode == 0
    assert "left out" in done.stderr
    assert "return" not in done.stderr


def test_erased_events_are_in_no_suggestion(tmp_path: Path) -> None:
    home = make_home(tmp_path / "agent", PLAN, text=HABIT)
    Models.open(home).keep(PLAN, *release(PLAN))
    before = {path for path in home.root.rglob("*") if path.is_file()}
    assert suggestions(home, "--text", "please ret")[0]["probability"] > 0.9
    # Nothing was written that an erasure would have to find.
    assert {path for path in home.root.rglob("*") if path.is_file()} == before
    with EventStore.open(home.store) as store:
        store.erase()
    erased = suggestions(home, "--text", "please ret")
    assert erased == suggestions(home, "--text", "please ret", "--no-head")


def test_without_a_model_it_says_what_to_do(tmp_path: Path) -> None:
    home = make_home(tmp_path / "agent", PLAN)
    done = run(home, "--text", "ret")
    assert done.returncode == 1
    assert "`tacitly-agent model fetch` asks for it" in done.stderr


def test_a_forged_model_suggests_nothing(tmp_path: Path) -> None:
    home = make_home(tmp_path / "agent", PLAN)
    Models.open(home).keep(PLAN, *release(PLAN))
    (file,) = home.models.glob("*.model")
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    done = run(home, "--text", "ret")
    assert (done.returncode, done.stdout) == (5, "")
    assert "not the one its receipt names" in done.stderr
