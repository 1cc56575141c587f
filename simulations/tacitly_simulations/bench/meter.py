"""Memory and processor time of whole process trees, as the operating system counts them.

Memory is the resident set. A page that two processes of a tree share counts in both: that is
what a person sees in the system monitor, for either side of a comparison.
"""

import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

_SAMPLE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Idle:
    """Of one device, averaged over the devices: resident bytes, percent of one core."""

    memory_bytes: float
    cpu_percent: float


def tree_memory_bytes(process_id: int) -> int:
    """Resident bytes of a process and all its descendants; 0 if it is gone."""
    total = 0
    for process in _tree(process_id):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def tree_cpu_seconds(process_id: int) -> float:
    """Processor seconds of a process and all its descendants, those that have ended included.

    (Those whose parent has waited for them.)
    """
    total = 0.0
    for process in _tree(process_id):
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def cpu_seconds(process: psutil.Process) -> float:
    """Of all its living threads, to the nanosecond: idle they take less than a clock tick."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def wakeups(process: psutil.Process) -> int:
    """How often its threads have gone to sleep, and so been woken."""
    statuses = Path(f"/proc/{process.pid}/task").glob("*/status")
    lines = (line for status in statuses for line in status.read_text().splitlines())
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt"))


def machine_cpu_seconds() -> float:
    """Processor seconds that all cores have been busy since the machine started."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


def watch_idle(process_ids: Sequence[int], seconds: float) -> Idle:
    """Look at devices that have nothing to do for `seconds`."""
    began, cpu = time.monotonic(), [tree_cpu_seconds(process) for process in process_ids]
    memory: list[int] = []
    while time.monotonic() - began < seconds:
        memory.extend(tree_memory_bytes(process) for process in process_ids)
        time.sleep(1)
    elapsed = time.monotonic() - began
    used = [
        tree_cpu_seconds(process) - before for process, before in zip(process_ids, cpu, strict=True)
    ]
    return Idle(statistics.fmean(memory), 100 * statistics.fmean(used) / elapsed)


class PeakMemory:
    """Samples the trees in a thread while it is entered; keeps each one's largest."""

    def __init__(self, process_ids: Sequence[int]) -> None:
        self._peaks = dict.fromkeys(process_ids, 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="peak-memory", daemon=True)

    @property
    def mean_bytes(self) -> float:
        """The peaks, averaged over the devices."""
        return statistics.fmean(self._peaks.values())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            for process in self._peaks:
                self._peaks[process] = max(self._peaks[process], tree_memory_bytes(process))
            if self._stop.wait(_SAMPLE_SECONDS):
                return


def _tree(process_id: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(process_id)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
