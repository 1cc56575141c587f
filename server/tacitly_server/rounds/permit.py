"""Leave to ask devices: what every attempt needs, and why a campaign ends without it.

The rounds ask for it before anybody is charged, and while they wait for anything. Who gives it is
no business of theirs: the officers' log on a server (campaigns/grants.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from tacitly_common.accounting.caps import Caps
from tacitly_common.campaign import CampaignPlan
from tacitly_common.contract.policy import Policy


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


def caps_of(plan: CampaignPlan, policy: Policy | None) -> Caps:
    """The plan's own quota, within the policy's limits for a lifetime and for a month's data.

    Without a policy nobody agreed to more than this one plan: it is the limit of all scopes.
    """
    own = plan.cap_nano_rho
    if policy is None:
        return Caps(own, own, own)
    return Caps(policy.lifetime_nano_rho, policy.epoch_nano_rho, own)


def without_officers(plan: CampaignPlan) -> Permits:
    """For where nobody's data are at stake, the simulation: every round, at the plan's own cap.

    A device refuses a task without a grant.
    """
    permit = Permit(b"", caps_of(plan, None))
    return lambda _round: permit
