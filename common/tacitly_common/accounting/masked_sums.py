"""What of a cohort is added up under masks, and how much of the noise a sum then has."""

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

# Of members: beyond it a device's list of them, and the server's of messages, grow too long.
LARGEST_GROUP: Final = 1_024
# As many members as may vanish or collude leave no threshold between them.
LARGEST_SHARE: Final = Decimal("0.49")


@dataclass(frozen=True, slots=True)
class MaskedSums:
    """A cohort split as evenly as can be into `groups`, the sum of each unmasked by itself.

    `largest_group`: the most members of one; `fewest_answers`: the least that a group's sum may be
    made of; `minimum`: the least that the groups together release from, whose shares of noise make
    z; `corruption`: the share of colluding members up to which the masks hold.
    """

    groups: int
    largest_group: int
    fewest_answers: int
    minimum: int
    corruption: Decimal

    def loss(self, colluding_share: Decimal) -> Fraction:
        """By how much a participation's ρ grows for a server with such a share of each group.

        Counted against the fewest answers that are unmasked: all who collude are among them, and
        their shares of the noise are known. Where the masks do not hold, or all others collude, one
        share is left: that of the person's own device.

        | colluding                | the noise of the sum, squared         | times the ρ      |
        |--------------------------|---------------------------------------|------------------|
        | none                     | z²·fewest/minimum                     | minimum/fewest   |
        | c of the largest group   | z²·(fewest - c)/minimum               | minimum/(.. - c) |
        | more than `corruption`   | z²/minimum                            | minimum          |
        """
        colluding = math.ceil(colluding_share * self.largest_group)
        honest = self.fewest_answers - colluding if colluding_share <= self.corruption else 1
        return Fraction(self.minimum, max(1, honest))


def split(*, asked: int, minimum: int, group_size: int, corruption: Decimal) -> MaskedSums:
    """The groups of a cohort: each of at least `group_size` members, or one of all `asked`."""
    groups = max(1, asked // group_size)
    return MaskedSums(
        groups=groups,
        largest_group=-(-asked // groups),
        fewest_answers=-(-minimum // groups),
        minimum=minimum,
        corruption=corruption,
    )
