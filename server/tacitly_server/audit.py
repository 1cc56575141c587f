"""The audit logs: one JSON line for each Fleet and Control call, answered or refused.

    {"time", "event": "call",    "action", "actor", "address", "run", "fab", "outcome"}
    {"time", "event": "refused", "action", "address", "arrival", "outcome"}

`actor` is the operator or a node's id; `outcome` "ok" or the error's name. No message content.
A file is rotated at `_FILE_BYTES`, the oldest of `_FILES` is dropped: a log that fills the
disk stops the server. What devices and strangers do is in a log of its own, so that neither
their polling nor a flood drops what was done in the operator's name.
"""

import json
import logging
import logging.handlers
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

_FILE_BYTES: Final = 64 * 1024 * 1024
_FILES: Final = 16


class AuditLog:
    """Appends to the log; safe for use from several threads."""

    def __init__(self, path: Path) -> None:
        self._handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=_FILE_BYTES, backupCount=_FILES - 1, encoding="utf-8"
        )
        path.chmod(0o600)

    def write(self, event: str, **fields: Any) -> None:
        """One line, with the time first."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": time, "event": event, **fields})
        self._handler.handle(logging.makeLogRecord({"msg": line}))

    def refused(self, status: int, path: str, client: str, arrival: str) -> None:
        """A call that the guard or the authentication turned away."""
        action = path[:200]
        self.write("refused", action=action, address=client, arrival=arrival, outcome=status)
