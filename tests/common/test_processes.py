"""A supervised process's log stays within its bound while the process runs."""

import os
import sys
import time
from pathlib import Path

from stock_flower import eventually
from tacitly_common.processes import Child

# Writes what is written into the named pipe.
_ECHO = "import sys\nfor line in open(sys.argv[1]): print(line, end='', flush=True)"
_LOG_BYTES = 1000


def test_a_log_is_cut_while_its_process_goes_on_writing(tmp_path: Path) -> None:
    log, pipe = tmp_path / "child.log", tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-c", _ECHO, str(pipe)]
    child = Child("child", command, {}, log, time.monotonic, print, log_bytes=_LOG_BYTES)
    child.tend()
    pid = child.pid
    try:
        with pipe.open("w", buffering=1) as lines:
            first = "a" * 2 * _LOG_BYTES + "\n"
            lines.write(first)
            eventually(lambda: log.stat().st_size == len(first))
            child.tend()
            lines.write("after\n")
            eventually(lambda: log.read_text() == "after\n")
            assert child.pid == pid
        assert log.with_suffix(".log.old").read_text() == first
        assert child.last_line() == "after"
    finally:
        child.end(5)
