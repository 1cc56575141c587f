"""What a campaign may take from a subject."""

from tacitly_common.accounting.caps import Caps
from tacitly_common.campaign import CampaignPlan
from tacitly_common.contract.policy import Policy


def caps_of(plan: CampaignPlan, policy: Policy | None) -> Caps:
    """The plan's own quota, within the policy's limits for a lifetime and for a month's data.

    Without a policy nobody agreed to more than this one plan: it is the limit of all scopes.
    """
    own = plan.cap_nano_rho
    if policy is None:
        return Caps(own, own, own)
    return Caps(policy.lifetime_nano_rho, policy.epoch_nano_rho, own)
