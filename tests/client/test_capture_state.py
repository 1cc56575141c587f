"""The state that is shown is that of a living process."""

import subprocess
import sys
from pathlib import Path

from tacitly_client.capture.state import CaptureState, Doing, read_state
from tacitly_client.live_file import LiveFile

WRITER = """
import sys, time
from pathlib import Path
from tacitly_client.capture.state import CaptureState, Doing
from tacitly_client.live_file import LiveFile
file = LiveFile(Path(sys.argv[1]))
file.show(CaptureState(Doing.PAUSED))
file.show(CaptureState(Doing.CAPTURING))
print("shown", flush=True)
time.sleep(60)
"""


def test_a_state_is_shown_until_it_is_closed(tmp_path: Path) -> None:
    file = LiveFile(tmp_path / "state")
    assert read_state(tmp_path / "state") == CaptureState(Doing.NOTHING)
    for state in (CaptureState(Doing.PAUSED), CaptureState(Doing.NOT_STORING, "the disk is full")):
        file.show(state)
        assert read_state(tmp_path / "state") == state
    file.close()
    assert read_state(tmp_path / "state") == CaptureState(Doing.NOTHING)
    file.show(CaptureState(Doing.PAUSED))
    assert read_state(tmp_path / "state").doing is Doing.PAUSED
    file.close()


def test_what_a_killed_process_left_is_no_state(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert read_state(path).doing is Doing.CAPTURING
        writer.kill()
    assert path.exists()
    assert read_state(path).doing is Doing.NOTHING


def test_only_the_person_can_read_it(tmp_path: Path) -> None:
    file = LiveFile(tmp_path / "state")
    file.show(CaptureState(Doing.CAPTURING))
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600
    file.close()
