"""What an officer is shown of sums under masks: the groups, the width of the field, the advice."""

import math
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from tacitly_server.officer.output import COUNT, DecimalType, facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from tacitly_common.accounting.assessment import Advice
    from tacitly_common.accounting.masked_sums import MaskedSums
    from tacitly_common.accounting.planner import Settings
    from tacitly_common.campaign import CampaignPlan, MaskingPlan
    from tacitly_common.secagg.graph import GraphParameters


@dataclass(frozen=True, slots=True)
class Masked:
    """How a plan sums under masks.

    `neighbours` are those that a device of the largest group masks with, of whom `threshold` must
    answer. `coordinate_bits` is how wide a coordinate travels, `update_bytes` what a device sends
    of them a round; `norm_growth`: noise and update are bounded by this many clip norms after
    rounding. These three are None where the number of model parameters is not known.
    """

    sums: "MaskedSums"
    masking: "MaskingPlan"
    neighbours: int
    threshold: int
    coordinate_bits: int | None
    update_bytes: int | None
    norm_growth: float | None


def masked_fields(masked: Masked | None) -> dict[str, Any]:
    """As a part of a document: {"masked": ...}, null for a plan without masks."""
    if masked is None:
        return {"masked": None}
    parts = {one.name: getattr(masked.sums, one.name) for one in fields(masked.sums)}
    masking = {name: getattr(masked.masking, name) for name in masked.masking.__struct_fields__}
    widths = {
        name: getattr(masked, name)
        for name in ("neighbours", "threshold", "coordinate_bits", "update_bytes", "norm_growth")
    }
    return {"masked": {**masking, **parts, **widths}}


def masked_options(command: "Callable[..., None]") -> "Callable[..., None]":
    """The options of a question about sums under masks."""
    for option in reversed(
        (
            click.option("--masked", is_flag=True, help="Sums are made under masks."),
            click.option(
                "--dropout",
                type=DecimalType(),
                default="0.2",
                show_default=True,
                help="Masked: the share of a group that may vanish.",
            ),
            click.option(
                "--corruption",
                type=DecimalType(),
                default="0.1",
                show_default=True,
                help="Masked: the share of a group that may work with the server.",
            ),
            click.option(
                "--group-size",
                type=COUNT,
                help="Masked: least members [default: one group of up to 1,024].",
            ),
            click.option(
                "--failure-bits",
                type=click.IntRange(10, 128),
                default=40,
                show_default=True,
                help="Masked: the graph fails with odds below 2^-this.",
            ),
            click.option(
                "--wrap-bits",
                type=click.IntRange(10, 128),
                default=40,
                show_default=True,
                help="Masked: a sum leaves its field with odds below 2^-this.",
            ),
            click.option(
                "--grid-bits",
                type=click.IntRange(8, 24),
                default=12,
                show_default=True,
                help="Masked: a clip norm is 2^this steps of the grid.",
            ),
        )
    ):
        command = option(command)
    return command


def masked_of_plan(plan: "CampaignPlan") -> Masked | None:
    """How a plan sums under masks, if it does."""
    sums = plan.masked_sums
    if sums is None or plan.masking is None:
        return None
    graph = _graph(sums, plan.masking)
    return Masked(
        sums=sums,
        masking=plan.masking,
        neighbours=graph.neighbours,
        threshold=graph.threshold,
        coordinate_bits=plan.field_bits,
        update_bytes=_bytes(plan.field_bits, plan.model.trainable_parameters),
        norm_growth=_growth(plan.squared_norm_bound, plan.subject.grid_bits),
    )


def masked_of_settings(
    settings: "Settings",
    *,
    grid_bits: int,
    model_parameters: int | None,
    group_size: int | None,
    **bounds: Any,
) -> Masked:
    """The same of a campaign that is only planned; `bounds` are `MaskingPlan`'s other fields.

    Raises:
        ValidationError: a bound is none, or groups would have fewer than two answers.
    """
    from tacitly_common.accounting.masked_sums import LARGEST_GROUP, split
    from tacitly_common.accounting.rounded_gaussian import share_std, squared_norm_bound
    from tacitly_common.campaign import MaskingPlan
    from tacitly_common.errors import ValidationError
    from tacitly_common.mechanisms.field import field_bits, flattened_over

    # One group while there may be one, else as large ones as may be.
    largest = settings.asked if settings.asked <= LARGEST_GROUP else LARGEST_GROUP // 2
    masking = MaskingPlan(group_size=group_size or max(2, largest), **bounds)
    sums = split(
        asked=settings.asked,
        minimum=settings.minimum,
        group_size=masking.group_size,
        corruption=masking.corruption,
    )
    if sums.largest_group > LARGEST_GROUP:
        raise ValidationError(
            f"a group has {sums.largest_group} members, at most {LARGEST_GROUP} are possible; "
            "lower the group size"
        )
    if sums.fewest_answers < 2:
        raise ValidationError(
            f"{sums.groups} groups with a minimum of {settings.minimum} answers leave groups of "
            "one; raise the group size"
        )
    graph = _graph(sums, masking)
    if model_parameters is None:
        return Masked(sums, masking, graph.neighbours, graph.threshold, None, None, None)
    bound = squared_norm_bound(1 << grid_bits, model_parameters)
    bits = field_bits(
        coordinates=model_parameters,
        answers=sums.largest_group,
        clip_steps=1 << grid_bits,
        share_std=share_std(settings.noise_multiplier, bound, settings.minimum),
        flattened_over=flattened_over(model_parameters),
        wrap_bits=masking.wrap_bits,
    )
    return Masked(
        sums=sums,
        masking=masking,
        neighbours=graph.neighbours,
        threshold=graph.threshold,
        coordinate_bits=bits,
        update_bytes=_bytes(bits, model_parameters),
        norm_growth=_growth(bound, grid_bits),
    )


def masked_warnings(
    masked: Masked, settings: "Settings", colluding_share: Decimal
) -> "tuple[Advice, ...]":
    """What the masks' own bounds bring with them."""
    from tacitly_common.accounting.assessment import Advice
    from tacitly_common.secagg.graph import COMPLETE_UP_TO

    found = []
    answers = settings.asked - math.ceil(masked.masking.dropout * settings.asked)
    if answers < settings.minimum:
        found.append(
            Advice(
                "dropout_loses_rounds",
                f"of {settings.asked} asked {answers} answer where {masked.masking.dropout} drop "
                f"out, the minimum is {settings.minimum}: such rounds are lost, and paid for",
                f"lower the minimum to {answers} (more noise each), or ask more",
            )
        )
    if colluding_share > masked.masking.corruption:
        found.append(
            Advice(
                "masks_do_not_hold",
                f"masks hold against a share of {masked.masking.corruption} that works with the "
                f"server, not of {colluding_share}: its row is that of a device's own update",
                f"plan for a corruption of {colluding_share}",
            )
        )
    if masked.sums.largest_group > COMPLETE_UP_TO:
        found.append(
            Advice(
                "ring_can_be_cut",
                f"in groups of more than {COMPLETE_UP_TO} a device masks with some of them only: a "
                "server that lies about who vanished can learn sums of parts, each of at least "
                f"{masked.neighbours - masked.threshold + 1} honest devices, whose rows are not "
                "these",
                f"take groups of at most {COMPLETE_UP_TO}, or a server that is not to be doubted "
                "so far",
            )
        )
    return tuple(found)


def show_masked(console: "Console", masked: Masked) -> None:
    """The groups and the width, for an officer to read."""
    sums, masking = masked.sums, masked.masking
    width = "give the model's parameters to see it"
    if masked.coordinate_bits is not None:
        width = (
            f"{masked.coordinate_bits} bits a coordinate, {100 * masked.coordinate_bits / 32:.0f}% "
            f"of 32: {masked.update_bytes:,} bytes a device and round"
        )
    rows = {
        "groups": f"{sums.groups}, of at most {sums.largest_group} members",
        "neighbours": f"{masked.neighbours} of each device, of whom {masked.threshold} must answer",
        "unmasked": f"from at least {sums.fewest_answers} answers of a group, "
        f"{sums.minimum} in all",
        "holds while": f"at most {masking.dropout} of a group vanish, {masking.corruption} work "
        f"with the server; else odds of 2^-{masking.failure_bits}",
        "width of the field": width,
        "leaves the field": f"with odds of at most 2^-{masking.wrap_bits} for a group's sum",
    }
    if masked.norm_growth is not None:
        rows["rounding"] = f"clip and noise grow by {100 * (masked.norm_growth - 1):.2f}%"
    console.print(facts("Sums under masks", rows))


def _graph(sums: "MaskedSums", masking: "MaskingPlan") -> "GraphParameters":
    """Of the largest group.

    Raises:
        ValidationError: the bounds leave no threshold.
    """
    from tacitly_common.errors import ValidationError
    from tacitly_common.secagg.graph import graph_parameters
    from tacitly_common.secagg.terms import GroupTooSmallError

    try:
        return graph_parameters(
            sums.largest_group, masking.dropout, masking.corruption, masking.failure_bits
        )
    except GroupTooSmallError as error:
        raise ValidationError(str(error)) from None


def _bytes(bits: int, coordinates: int) -> int:
    return -(-bits * coordinates // 8)


def _growth(squared_bound: int, grid_bits: int) -> float:
    """B in clip norms, rounded up to a millionth."""
    return math.ceil(1e6 * math.sqrt(squared_bound) / (1 << grid_bits)) / 1e6
