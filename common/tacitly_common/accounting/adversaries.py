"""Who looks, what they see, and the ε that holds against each of them.

Every row is computed from what one person may spend in all (nano-ρ against whoever sees noised
sums) and from who holds how much of the noise:

    sees                                   noise that remains     times the nano-ρ
    the sum                                z                      1
    the sum less a share γ of the noise    z·sqrt(1-γ)            1/(1-γ)
    one device's own noised update         z/sqrt(minimum)        minimum

Where the plan masks sums, the second row and what the server sees of a group by itself are counted
from the fewest answers it is unmasked from (`masked_sums.py`): colluders are among those who
answered, and who drops out is honest.

Each of `minimum` devices adds an equal share (campaign.py, `noise_share_std`), so answers that are
missing cost no noise, down to the minimum. No amplification by sampling is claimed.
"""

import math
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Final

from tacitly_common.accounting.masked_sums import MaskedSums
from tacitly_common.accounting.subject import shown_epsilon
from tacitly_common.errors import ValidationError
from tacitly_common.validation import in_range, positive

DEFAULT_COLLUDING_SHARE: Final = Decimal("0.1")


class Holds(StrEnum):
    """When a row's number is what protects a person."""

    TODAY = "today"
    WITH_SECURE_AGGREGATION = "where sums are masked"


@dataclass(frozen=True, slots=True)
class Adversary:
    """One row. `epsilon` and `delta` are None where no number of differential privacy applies."""

    name: str
    sees: str
    protects: str
    epsilon: float | None
    delta: float | None
    computed_from: str
    holds: Holds


@dataclass(frozen=True, slots=True)
class RecordGuarantee:
    """ε at `delta` of one window of events inside a device's own update."""

    epsilon: float
    delta: float


def adversaries(
    worst_person_nano_rho: int,
    delta: float,
    *,
    minimum: int,
    colluding_share: Decimal = DEFAULT_COLLUDING_SHARE,
    record: RecordGuarantee | None = None,
    masked: MaskedSums | None = None,
) -> tuple[Adversary, ...]:
    """Every row for a campaign whose cohort has at least `minimum` members.

    `record` adds the row of what holds even if everybody else colludes. `masked`: how the plan sums
    under masks; without it the server's rows are what they would be for one group that all answer.

    Raises:
        ValidationError: `colluding_share` is not in [0, 1), or a count is not positive.
    """
    positive(worst_person_nano_rho=worst_person_nano_rho)
    in_range(1, 100_000_000, minimum=minimum)
    if not 0 <= colluding_share < 1:
        raise ValidationError(
            f"the colluding share must lie in [0, 1), got {colluding_share}; if everybody "
            "colludes the row of one device's own update holds"
        )

    def row(
        name: str, sees: str, nano_rho: int, computed_from: str, holds: Holds = Holds.TODAY
    ) -> Adversary:
        epsilon = shown_epsilon(nano_rho, delta)
        return Adversary(name, sees, "person", epsilon, delta, computed_from, holds)

    server, colluders = Fraction(1), 1 / (1 - Fraction(colluding_share))
    under_masks, breaker = Holds.WITH_SECURE_AGGREGATION, "the server today, or whoever"
    seen, left = "the same; no amplification by sampling", "z·sqrt(1-γ)"
    if masked is not None:
        server, colluders = masked.loss(Decimal(0)), masked.loss(colluding_share)
        under_masks, breaker = Holds.TODAY, "whoever"
        seen = f"z·sqrt({masked.fewest_answers}/{minimum}): a group's fewest answers"
        left = f"z·sqrt({minimum // colluders}/{minimum}): the honest of these"
    own_update = worst_person_nano_rho * minimum
    rows = [
        row(
            "anyone with a released model",
            "noised sums",
            worst_person_nano_rho,
            "z and the person's participations",
        ),
        row(
            "the honest-but-curious server",
            "noised sums, who took part",
            math.ceil(worst_person_nano_rho * server),
            seen,
            under_masks,
        ),
        row(
            f"the server with {float(100 * colluding_share):g}% of the cohort colluding",
            "the sum less their noise",
            math.ceil(worst_person_nano_rho * colluders),
            left,
            under_masks,
        ),
        row(
            f"{breaker} broke the secure aggregation",
            "each device's own noised update",
            own_update,
            f"the device's share of the noise, z/sqrt({minimum})",
        ),
    ]
    if record is not None:
        rows.append(
            Adversary(
                "the same, and everybody else colludes",
                "each device's own noised update",
                "window of events",
                record.epsilon,
                record.delta,
                "DP-SGD inside the device; a ledger of its own, never added",
                Holds.TODAY,
            )
        )
    rows += [
        row(
            "other devices",
            "the models they receive",
            worst_person_nano_rho,
            "as anyone with a released model",
        ),
        Adversary(
            "someone with the laptop",
            "the encrypted store",
            "person",
            None,
            None,
            "the key's protection; not a number of differential privacy",
            Holds.TODAY,
        ),
    ]
    return tuple(rows)
