"""One of a kind for a home."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tacitly_client.processes import is_held, only_process
from tacitly_common.errors import ValidationError

HOLDER = """
import sys, time
from pathlib import Path
from tacitly_client.processes import only_process
with only_process(Path(sys.argv[1]), "agent"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_one_is_refused_by_name(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with (
        only_process(lock, "agent"),
        pytest.raises(ValidationError, match="another agent runs in"),
        only_process(lock, "agent"),
    ):
        pytest.fail("there were two")


def test_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert is_held(lock)
        holder.kill()
    assert not is_held(lock)
    with only_process(lock, "agent"):
        assert is_held(lock)


def test_one_that_is_just_ending_is_waited_for(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    held, ended = threading.Event(), threading.Event()

    def ending() -> None:
        with only_process(lock, "agent"):
            held.set()
            time.sleep(0.2)
            ended.set()

    thread = threading.Thread(target=ending)
    thread.start()
    held.wait()
    with only_process(lock, "agent"):
        assert ended.is_set()
    thread.join()


def test_where_none_ever_ran_none_is_held(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "lock")
