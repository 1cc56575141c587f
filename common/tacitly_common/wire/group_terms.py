"""What a plan says of one group of one attempt, and how a device is told which group is its own."""

from typing import Final

from tacitly_common.campaign import CampaignPlan, PlanError
from tacitly_common.secagg.terms import GroupTerms, SecaggError

_NUMBER_BYTES: Final = 4
# A certificate of at most 2,048 bytes, keys, signature.
_LARGEST_MEMBER_BYTES: Final = 2_560
_FRAME_BYTES: Final = 1_024


def group_terms(plan: CampaignPlan, *, round_: int, attempt: int, group: int) -> GroupTerms:
    """The terms of a plan that masks.

    Raises:
        PlanError: it does not.
    """
    masking, sums = plan.masking, plan.masked_sums
    if masking is None or sums is None:
        raise PlanError(f"the plan {plan.name} has no masking")
    return GroupTerms(
        plan_hash=plan.hash,
        round=round_,
        attempt=attempt,
        group=group,
        minimum=sums.fewest_answers,
        coordinates=plan.model.trainable_parameters,
        field_bits=plan.field_bits,
        dropout=masking.dropout,
        corruption=masking.corruption,
        failure_bits=masking.failure_bits,
    )


def group_number(group: int) -> bytes:
    """What the server sends in the phase ADVERTISE."""
    return group.to_bytes(_NUMBER_BYTES, "big")


def read_group_number(plan: CampaignPlan, payload: bytes) -> int:
    """The inverse.

    Raises:
        SecaggError: no number of one of the plan's groups.
    """
    group = int.from_bytes(payload, "big")
    if (
        plan.masked_sums is None
        or len(payload) != _NUMBER_BYTES
        or group >= plan.masked_sums.groups
    ):
        raise SecaggError("there is no such group")
    return group


def largest_payload_bytes(plan: CampaignPlan) -> int:
    """The most bytes that a step has beside a model: those of a whole group's roster.

    Zero if the plan does not mask.
    """
    if plan.masked_sums is None:
        return 0
    return _FRAME_BYTES + plan.masked_sums.largest_group * _LARGEST_MEMBER_BYTES
