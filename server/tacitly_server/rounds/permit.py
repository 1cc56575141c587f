"""Leave to ask devices: what every attempt needs, and why a campaign ends without it.

The rounds ask for it before anybody is charged, and while they wait for anything. Who gives it is
no business of theirs: the officers' log on a server (campaigns/grants.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from tacitly_common.accounting.caps import Caps
from tacitly_common.campaign import CampaignPlan


class Ending(StrEnum):
    """Why a campaign is over."""

    ROUNDS_REACHED = "rounds reached"
    BUDGET_EXHAUSTED = "budget exhausted"
    LOST_IN_A_ROW = "too many attempts lost in a row"
    STOPPED = "stopped by an officer"
    LIMITED = "limited by an officer to earlier rounds"
    EXPIRED = "expired"
    NOT_APPROVED = "no longer approved"
    REFUSED = "refused by policy, or made for another version"


@dataclass(frozen=True, slots=True)
class Permit:
    """What goes with the task to devices, and what may be taken from a subject."""

    grant: bytes
    caps: Caps


# The permit for a round, as of now, or why there is none any more.
Permits = Callable[[int], Permit | Ending]


def without_officers(plan: CampaignPlan) -> Permits:
    """For where nobody's data are at stake, the simulation: every round, at the plan's own cap.

    A device refuses a task without a grant.
    """
    own = plan.cap_nano_rho
    permit = Permit(b"", Caps(own, own, own))
    return lambda _round: permit
