"""What a subject may spend: the limits a ledger is given with every charge."""

from dataclasses import dataclass

from tacitly_common.validation import positive_integer


@dataclass(frozen=True, slots=True)
class Caps:
    """The most a subject may have spent after a charge, in nano-ρ, each in its own scope.

    `lifetime_nano_rho` on everything ever, `epoch_nano_rho` on the data of one calendar month,
    `campaign_nano_rho` on one plan.

    Raises:
        ValidationError: a cap that is no positive integer.
    """

    lifetime_nano_rho: int
    epoch_nano_rho: int
    campaign_nano_rho: int

    def __post_init__(self) -> None:
        positive_integer(
            lifetime_nano_rho=self.lifetime_nano_rho,
            epoch_nano_rho=self.epoch_nano_rho,
            campaign_nano_rho=self.campaign_nano_rho,
        )
