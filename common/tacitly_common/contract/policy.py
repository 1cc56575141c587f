"""The organisation's policy: the bounds that every plan must keep, agreed on by two officers.

Part of the officers' log, so a server cannot loosen it. A device may be stricter, never laxer.
"""

from decimal import Decimal
from pathlib import Path

import msgspec

from tacitly_common.accounting.subject import cap_nano_rho
from tacitly_common.campaign import CampaignPlan, Level
from tacitly_common.errors import UNDECODABLE, ValidationError
from tacitly_common.purposes import Purpose
from tacitly_common.validation import in_range, positive, probability
from tacitly_common.wire.codes import ReplyCode

_LEVELS = (Level.CLASSES, Level.CHARACTERS)
_LONGEST_TOLD = 200


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What any plan may be.

    | field                    | a plan ...                                                    |
    |--------------------------|---------------------------------------------------------------|
    | purposes                 | has one of these purposes                                     |
    | highest_level            | keeps at most this level of content                           |
    | minimum_noise_multiplier | has at least this z                                           |
    | maximum_clip_norm        | has at most this clip norm                                    |
    | minimum_cohort           | releases nothing from fewer answers                           |
    | delta                    | has exactly this δ: budgets at different ones do not add up   |
    | lifetime_epsilon         | and all others together cost a person at most this, for life  |
    | epoch_epsilon            | ... and for the data of one calendar month                    |
    | maximum_grant_hours      | gets grants of at most these hours                            |

    and two things that people are told before they are asked. Without them no device asks anybody
    for consent to capture:

    | field            | meaning                                                               |
    |------------------|-----------------------------------------------------------------------|
    | workers_informed | the agreement or notice by which workers and their representatives    |
    |                  | were informed (Regulation (EU) 2024/1689, Article 26(7))              |
    | contact          | whom a person asks: the data protection officer, an address           |
    """

    purposes: tuple[str, ...]
    highest_level: Level
    minimum_noise_multiplier: Decimal
    maximum_clip_norm: Decimal
    minimum_cohort: int
    delta: Decimal
    lifetime_epsilon: Decimal
    epoch_epsilon: Decimal
    maximum_grant_hours: int = 24
    workers_informed: str = ""
    contact: str = ""

    def __post_init__(self) -> None:
        if not self.purposes or list(self.purposes) != sorted(set(self.purposes)):
            raise ValidationError(f"purposes must be sorted, unique, not empty: {self.purposes}")
        if unknown := set(self.purposes) - set(Purpose):
            raise ValidationError(
                f"purposes has {sorted(unknown)}, but those of Tacitly are a closed list: "
                f"{', '.join(Purpose)}"
            )
        positive(
            minimum_noise_multiplier=self.minimum_noise_multiplier,
            maximum_clip_norm=self.maximum_clip_norm,
            lifetime_epsilon=self.lifetime_epsilon,
            epoch_epsilon=self.epoch_epsilon,
        )
        probability(delta=self.delta)
        in_range(2, 1_000_000, minimum_cohort=self.minimum_cohort)
        in_range(1, 24 * 31, maximum_grant_hours=self.maximum_grant_hours)
        for name in ("workers_informed", "contact"):
            told = getattr(self, name)
            if len(told) > _LONGEST_TOLD or not (told.isprintable() and told == told.strip()):
                raise ValidationError(
                    f"{name} must be one line of at most {_LONGEST_TOLD} characters"
                )

    @property
    def lifetime_nano_rho(self) -> int:
        """`lifetime_epsilon` in the ledgers' currency, rounded down. Imports scipy."""
        return cap_nano_rho(float(self.lifetime_epsilon), float(self.delta))

    @property
    def epoch_nano_rho(self) -> int:
        """`epoch_epsilon` in the ledgers' currency, rounded down. Imports scipy."""
        return cap_nano_rho(float(self.epoch_epsilon), float(self.delta))


def parse_policy(document: bytes, *, source: str | Path = "policy") -> Policy:
    """A policy from its JSON.

    Raises:
        ValidationError: it is none; the field and what is wrong.
    """
    try:
        return msgspec.json.decode(document, type=Policy)
    except UNDECODABLE as error:
        raise ValidationError(
            f"{source}: {error}; start from `tacitly-officer policy example`"
        ) from None


def judge_plan(plan: CampaignPlan, policy: Policy) -> ReplyCode:
    """OK if the plan keeps to the policy, else why it does not.

    Budgets are not judged here: the ledgers do that, with what was spent before.
    """
    if plan.purpose not in policy.purposes:
        return ReplyCode.OTHER_PURPOSE
    if plan.subject.noise_multiplier < policy.minimum_noise_multiplier:
        return ReplyCode.NOISE_TOO_LOW
    if plan.subject.clip_norm > policy.maximum_clip_norm:
        return ReplyCode.CLIP_TOO_LARGE
    if plan.cohort.minimum < policy.minimum_cohort:
        return ReplyCode.COHORT_TOO_SMALL
    if plan.delta != policy.delta:
        return ReplyCode.BEYOND_POLICY
    if _LEVELS.index(plan.tokens.level) > _LEVELS.index(policy.highest_level):
        return ReplyCode.BEYOND_POLICY
    return ReplyCode.OK
