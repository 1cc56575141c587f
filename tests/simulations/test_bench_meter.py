"""Memory and processor time of real process trees."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tacitly_simulations.bench.meter import (
    PeakMemory,
    tree_cpu_seconds,
    tree_memory_bytes,
    watch_idle,
)

MEGABYTES = 64
CHILD = f"held = bytearray({MEGABYTES} << 20); print('ready', flush=True); input()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"
BUSY_SECONDS = 0.6
SPIN = f"import time\nwhile time.process_time() < {BUSY_SECONDS}: pass"
BUSY = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {SPIN!r}])
print("ready", flush=True)
input()
"""


@contextmanager
def process(program: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said that it is ready and waits."""
    running = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        yield running
        running.communicate(b"\n")


def test_the_memory_of_a_process_includes_its_childs() -> None:
    with process(PARENT) as parent, process(CHILD) as alone:
        assert tree_memory_bytes(parent.pid) > tree_memory_bytes(alone.pid) > MEGABYTES << 20


def test_the_peak_is_kept_after_the_memory_is_free_again() -> None:
    with process(CHILD) as child, PeakMemory([child.pid]) as peak:
        pass
    assert tree_memory_bytes(child.pid) == 0
    assert peak.mean_bytes > MEGABYTES << 20


def test_processor_time_of_a_child_that_has_ended_counts() -> None:
    # The kernel counts whole ticks of user and of system time, and rounds each down. The parent
    # alone, which only starts and waits, uses a tenth of the child's time.
    with process(BUSY) as parent:
        assert tree_cpu_seconds(parent.pid) > BUSY_SECONDS / 2


def test_a_waiting_process_uses_next_to_nothing() -> None:
    with process(CHILD) as child:
        idle = watch_idle([child.pid], 1.0)
    assert idle.cpu_percent < 10
    assert idle.memory_bytes > MEGABYTES << 20
