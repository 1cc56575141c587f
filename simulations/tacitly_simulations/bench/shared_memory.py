"""Memory of a process tree with each shared page counted once, divided among its sharers (PSS)."""

import threading
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import psutil

_SAMPLE_SECONDS: Final = 0.25


class PeakShare:
    """Samples the tree of a process in a thread while it is entered; `bytes` is the largest sum."""

    def __init__(self, process_id: int) -> None:
        self.bytes = 0
        self._process = process_id
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="peak-share", daemon=True)

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
        while not self._stop.wait(_SAMPLE_SECONDS):
            total = 0
            with suppress(psutil.Error):
                root = psutil.Process(self._process)
                for process in [root, *root.children(recursive=True)]:
                    with suppress(psutil.Error):
                        total += process.memory_full_info().pss
            self.bytes = max(self.bytes, total)
