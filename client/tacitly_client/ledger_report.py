"""How far this device's ledger is: what the desk is told at a refresh.

Read by a process of its own (`python -m tacitly_client.ledger_report LEDGER`): who talks to the
network does not open the ledger.
"""

import subprocess
import sys
from pathlib import Path

import msgspec

from tacitly_common.errors import UNDECODABLE, LedgerError

_TIMEOUT_SECONDS = 60.0


class LedgerReport(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts charged, ever, and the hash that stands for all the ledger's entries."""

    attempts: int
    head: str


def ask_ledger(path: Path) -> LedgerReport:
    """The report of a ledger, by another process.

    Raises:
        LedgerError: it gave none; the ledger's own words.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tacitly_client.ledger_report", str(path)],
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        return msgspec.json.decode(done.stdout, type=LedgerReport)
    except UNDECODABLE:
        raise LedgerError(done.stderr.decode(errors="replace").strip()[-1_000:]) from None
    except subprocess.TimeoutExpired:
        raise LedgerError(f"{path} was locked for {_TIMEOUT_SECONDS:.0f} s; try again") from None


def _main(path: Path) -> int:
    from tacitly_client.ledger import DeviceLedger

    try:
        with DeviceLedger.open(path) as ledger:
            report = LedgerReport(attempts=ledger.attempts(), head=ledger.head().hash)
    except LedgerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(msgspec.json.encode(report).decode())
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
