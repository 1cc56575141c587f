"""Two plans side by side: each changed field, and which way it moves a person's protection."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from tacitly_common.campaign import CampaignPlan, Level


class Direction(StrEnum):
    """What a change does to protection. `OTHER`: changes what is learned or how; to be read."""

    TIGHTER = "tighter"
    LOOSER = "looser"
    OTHER = "other"


# Of these more is more noise, or more people to hide among, or more time between two rounds.
MORE_IS_TIGHTER: Final = frozenset(
    {
        "subject.noise_multiplier",
        "record.noise_multiplier",
        "cohort.minimum",
        "masking.corruption",
        "masking.failure_bits",
        "masking.group_size",
        "participation.minimum_gap_rounds",
        "participation.minimum_gap_hours",
    }
)
# Of these more is more that may be released, learned from, asked or spent.
MORE_IS_LOOSER: Final = frozenset(
    {
        "rounds",
        "participation.per_campaign",
        "participation.per_epoch",
        "delta",
        "expires",
        "data_epochs",
        "outputs",
        "tokens.level",
        "tokens.families",
        "subject.clip_norm",
        "record.max_windows",
        "record.sample_rate",
        "record.steps",
        "record.cap_epsilon",
        "cohort.oversample",
        "stop.lost_in_a_row",
        "worst_case.nano_rho_per_participation",
        "worst_case.nano_rho_per_person",
        "worst_case.epsilon",
        "worst_case.delta",
    }
)
_LEVELS: Final = (Level.CLASSES, Level.CHARACTERS)


@dataclass(frozen=True, slots=True)
class Change:
    """A field that differs, by its place in the plan."""

    field: str
    before: Any
    after: Any
    direction: Direction


def differences(before: CampaignPlan, after: CampaignPlan) -> tuple[Change, ...]:
    """Every field that differs, in the plan's order, also those that one plan alone has."""
    old, new = dict(plan_fields(before)), dict(plan_fields(after))
    return tuple(
        Change(name, old.get(name), new.get(name), _direction(name, old.get(name), new.get(name)))
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    )


def plan_fields(part: msgspec.Struct, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every field with its place, `cohort.minimum`."""
    for name in part.__struct_fields__:
        value = getattr(part, name)
        if isinstance(value, msgspec.Struct):
            yield from plan_fields(value, f"{place}{name}.")
        elif value is not None and value is not msgspec.UNSET:
            yield place + name, value


def _direction(name: str, before: Any, after: Any) -> Direction:
    if name.startswith("masking.") and (before is None or after is None):
        return Direction.TIGHTER if before is None else Direction.LOOSER
    if isinstance(before, tuple):
        before, after = frozenset(before), frozenset(after)
    elif isinstance(before, Level):
        before, after = _LEVELS.index(before), _LEVELS.index(after)
    known = name in MORE_IS_TIGHTER or name in MORE_IS_LOOSER
    # Sets may be neither more nor less than one another.
    if not known or not (before < after or before > after):
        return Direction.OTHER
    return Direction.TIGHTER if (before < after) == (name in MORE_IS_TIGHTER) else Direction.LOOSER
