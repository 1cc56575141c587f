"""Where to go on after any kind of end, from what is on disk.

    1. The newest usable checkpoint, else the initial model.
    2. What was released or published must be charged: a ledger that was removed, or put back
       from an older copy, would give everybody a fresh budget.
    3. Each attempt that was left open: PLANNED becomes VOID; CHARGED becomes RELEASED if the
       checkpoint is that attempt's, else LOST.
    4. A receipt for each finished attempt that has none.

Nothing is computed again under an old charge: a lost attempt is tried under a new number.
"""

import logging
from typing import Final

from tacitly_common.campaign import CampaignPlan
from tacitly_common.errors import LedgerError
from tacitly_server.home import CampaignDirectory
from tacitly_server.ledger.population import AttemptState, PopulationLedger
from tacitly_server.rounds.checkpoint import (
    Checkpoint,
    CheckpointError,
    previous,
    read_checkpoint,
    read_initial,
)
from tacitly_server.rounds.receipts import (
    Loss,
    Outcome,
    Receipt,
    append_receipt,
    cut_torn_line,
    model_sha256,
    read_receipts,
)

_LOG: Final = logging.getLogger(__name__)


def recover(
    directory: CampaignDirectory, plan: CampaignPlan, ledger: PopulationLedger
) -> Checkpoint:
    """The four steps above. Doing them twice changes nothing.

    Raises:
        CheckpointError: there are checkpoints, but none is usable; nothing was changed.
        LedgerError, ReceiptError: the ledger or the receipts are damaged, or the ledger lacks
            a charge.
    """
    checkpoint = newest_usable(directory, plan)
    _check_charges(directory, plan, ledger, checkpoint)
    for attempt in ledger.open_attempts(plan.hash):
        key = attempt.key
        if attempt.state is AttemptState.PLANNED:
            ledger.mark(key, AttemptState.VOID)
        elif (key.round, key.attempt) == (checkpoint.round, checkpoint.attempt):
            result = model_sha256(checkpoint.model)
            ledger.mark(key, AttemptState.RELEASED, result_sha256=result)
        else:
            ledger.mark(key, AttemptState.LOST)
    _complete_receipts(directory, plan, ledger, checkpoint)
    return checkpoint


def newest_usable(directory: CampaignDirectory, plan: CampaignPlan) -> Checkpoint:
    """The newest checkpoint that is whole, else the one before it; the initial model if none.

    Raises:
        CheckpointError: files are there but none is usable; the message names each.
    """
    damaged: list[str] = []
    for path in (directory.checkpoint, previous(directory.checkpoint)):
        if not path.exists():
            continue
        try:
            checkpoint = read_checkpoint(path, plan)
        except CheckpointError as error:
            _LOG.error("%s", error)
            damaged.append(str(error))
            continue
        if damaged:
            _LOG.warning("going on from round %d, the checkpoint before", checkpoint.round)
        return checkpoint
    if damaged:
        raise CheckpointError(
            f"{'; '.join(damaged)}; restore one from a backup, or remove both to begin again "
            "from the initial model (what was spent stays spent)"
        )
    return read_initial(directory, plan)


def _check_charges(
    directory: CampaignDirectory,
    plan: CampaignPlan,
    ledger: PopulationLedger,
    checkpoint: Checkpoint,
) -> None:
    """Every attempt that left a receipt or the checkpoint is one that the ledger charged."""
    used = {(r.round, r.attempt) for r in read_receipts(directory.receipts)}
    if checkpoint.round:
        used.add((checkpoint.round, checkpoint.attempt))
    unpaid = (AttemptState.PLANNED, AttemptState.VOID)
    paid = {
        (attempt.key.round, attempt.key.attempt)
        for attempt in ledger.attempts(plan.hash)
        if attempt.state not in unpaid
    }
    if missing := sorted(used - paid):
        raise LedgerError(
            f"the ledger holds no charge for {len(missing)} finished attempts of this campaign "
            f"(first: round {missing[0][0]} attempt {missing[0][1]}); it is not the newest: "
            "put the newest one back, or run `tacitly-server ledger reconcile`"
        )


def _complete_receipts(
    directory: CampaignDirectory,
    plan: CampaignPlan,
    ledger: PopulationLedger,
    checkpoint: Checkpoint,
) -> None:
    cut_torn_line(directory.receipts)
    published = {(r.round, r.attempt) for r in read_receipts(directory.receipts)}
    for attempt in ledger.attempts(plan.hash):
        name = (attempt.key.round, attempt.key.attempt)
        if name in published:
            continue
        if attempt.state is AttemptState.LOST:
            append_receipt(
                directory.receipts,
                Receipt(
                    plan_hash=plan.hash,
                    round=attempt.key.round,
                    attempt=attempt.key.attempt,
                    outcome=Outcome.LOST,
                    selected=attempt.subjects,
                    usable=0,
                    refusals={},
                    noise_multiplier=plan.subject.noise_multiplier,
                    cost_nano_rho=attempt.cost_nano_rho,
                    model_sha256=None,
                    seconds=0.0,
                    bytes_up=0,
                    lost_because=Loss.CRASHED,
                ),
            )
        elif checkpoint.receipt and name == (checkpoint.round, checkpoint.attempt):
            append_receipt(directory.receipts, checkpoint.receipt)
