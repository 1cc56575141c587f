"""This device's budget: an attempt is charged, durably, before anything about it can leave.

    charge -> CHARGED -> RELEASED (its noised result is on the disk)
                      -> LOST     (no result; a retry is a new attempt and a new charge)

    device.py    `DeviceLedger`: what may be charged, and charging it
    journal.py   the hash chain of every change of state, and its head, which the server is told
    schema.py    the tables of `ledger.db`
    former.py    a ledger of the first form becomes one of this form
    verify.py    `verify(path)`: the whole file against its journal, offline

The law of the stored records: a kind of entry never changes its meaning, another grid of RDP
orders is another schema version, and an unknown version is refused. All amounts are integers.

A ledger is created once, when the agent is set up (`DeviceLedger.create`). Where it is missing
later everything is refused: a wiped ledger does not begin anew, so it needs no age before which it
would not be trusted. A copy restored from an older state is shorter than the head the server was
told last.
"""

from tacitly_client.ledger.device import AttemptKey, AttemptState, DeviceLedger, RecordSteps
from tacitly_client.ledger.journal import Head
from tacitly_client.ledger.verify import verify

__all__ = ["AttemptKey", "AttemptState", "DeviceLedger", "Head", "RecordSteps", "verify"]
