"""The most this device may spend: the person's own ceiling or the policy's, the stricter one.

The policy is read from the officers' log each time, so that a stricter one holds at once.
"""

from dataclasses import dataclass

from tacitly_client.home import AgentSettings
from tacitly_common.contract.policy import Policy


@dataclass(frozen=True, slots=True)
class OwnLimits:
    """In nano-ρ: over all campaigns for life, and for the data of one calendar month."""

    lifetime_nano_rho: int
    epoch_nano_rho: int


def own_limits(settings: AgentSettings, policy: Policy) -> OwnLimits:
    """A person sets one ceiling; where the policy would allow it a month may cost all of it.

    Imports scipy.
    """
    lifetime = min(settings.lifetime_cap_nano_rho, policy.lifetime_nano_rho)
    return OwnLimits(lifetime, min(lifetime, policy.epoch_nano_rho))
