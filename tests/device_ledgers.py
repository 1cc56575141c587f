"""Charging a device's ledger where a test is about something else."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from tacitly_client.ledger import AttemptKey, DeviceLedger, RecordSteps
from tacitly_common.accounting.caps import Caps
from tacitly_common.campaign import ParticipationLimits

COST: Final = 34_993_422
PLENTY: Final = 10**12
NOW: Final = datetime(2026, 11, 2, 12, tzinfo=UTC)
EPOCHS: Final = ("2026-09", "2026-10")
RECORD: Final = RecordSteps(
    noise_multiplier=Decimal("1.1"),
    sample_rate=Decimal("0.01"),
    steps=1_000,
    cap_epsilon=Decimal(1_000),
    delta=Decimal("1e-6"),
)
# Computed here once: processes that are forked with this module loaded have it at hand.
RECORD_RDP: Final = RECORD.rdp()


def caps(*, lifetime: int = PLENTY, epoch: int = PLENTY, campaign: int = PLENTY) -> Caps:
    """Caps of which a test names those it is about."""
    return Caps(lifetime_nano_rho=lifetime, epoch_nano_rho=epoch, campaign_nano_rho=campaign)


def limits(**changes: int) -> ParticipationLimits:
    """Limits that allow a thousand, but for `changes`."""
    return ParticipationLimits(**{"per_campaign": 1_000, "per_epoch": 1_000} | changes)


def charge(ledger: DeviceLedger, key: AttemptKey, **changes: Any) -> bool:
    """`ledger.charge` with room for everything, but for `changes`."""
    terms = {
        "epochs": EPOCHS,
        "cost_nano_rho": COST,
        "caps": caps(),
        "limits": limits(),
        "record": RECORD,
        "now": NOW,
    }
    return ledger.charge(key, **terms | changes)
