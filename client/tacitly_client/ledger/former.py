"""A ledger of the first form becomes one of this form, in one transaction; what is spent stays so.

The first form had the tables `charge` (an attempt, its cost and state) and `record_history`
(Opacus's accountant history) and no version. It kept neither times nor data epochs: its attempts
get the time 0 and count in every epoch.
"""

import sqlite3

from tacitly_client.ledger import schema
from tacitly_client.ledger.books import enter
from tacitly_client.ledger.journal import Entry, Kind, pack_rdp
from tacitly_common.accounting.record import rdp_of_steps


def migrate(db: sqlite3.Connection) -> None:
    """Rewrite the file, in the caller's transaction.

    Raises:
        sqlite3.Error: these are not the tables of the first form.
    """
    attempts = db.execute(
        "SELECT plan_hash, round, attempt, cost_nano_rho, state FROM charge ORDER BY 1, 2, 3"
    ).fetchall()
    histories = db.execute(
        "SELECT plan_hash, noise_multiplier, sample_rate, steps FROM record_history"
        " ORDER BY plan_hash, position"
    ).fetchall()
    db.execute("DROP TABLE charge")
    db.execute("DROP TABLE record_history")
    schema.create_tables(db)
    for plan_hash, round_, attempt, cost, state in attempts:
        of_attempt = {"plan_hash": plan_hash, "round": round_, "attempt": attempt}
        charged = Entry(
            kind=Kind.CHARGED,
            **of_attempt,
            cost_nano_rho=cost,
            epochs=schema.EVERY_EPOCH,
            at_seconds=0,
        )
        enter(db, charged)
        if state != Kind.CHARGED:
            enter(db, Entry(kind=Kind(state), **of_attempt))
    for plan_hash, noise_multiplier, sample_rate, steps in histories:
        trained = Entry(
            kind=Kind.TRAINED,
            plan_hash=plan_hash,
            noise_multiplier=str(noise_multiplier),
            sample_rate=str(sample_rate),
            steps=steps,
            rdp=pack_rdp(rdp_of_steps(noise_multiplier, sample_rate, steps)),
        )
        enter(db, trained)
