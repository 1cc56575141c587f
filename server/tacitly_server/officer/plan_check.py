"""A plan's own words held against what it computes to, and the budget."""

from dataclasses import replace
from datetime import datetime

from tacitly_common.accounting.adversaries import RecordGuarantee
from tacitly_common.accounting.assessment import Advice, Assessment, assess
from tacitly_common.accounting.planner import Settings
from tacitly_common.accounting.record import epsilon_of_rdp, rdp_of_steps
from tacitly_common.campaign import CampaignPlan


def plan_settings(plan: CampaignPlan, epsilon: float | None = None) -> Settings:
    """The plan's settings. Its budget is its own worst case unless `epsilon` is given."""
    return Settings(
        noise_multiplier=plan.subject.noise_multiplier,
        epsilon=float(plan.worst_case.epsilon) if epsilon is None else epsilon,
        rounds=plan.rounds,
        participations=plan.participation.per_campaign,
        cohort=plan.cohort.target,
        population=plan.cohort.population,
        delta=float(plan.delta),
        minimum=plan.cohort.minimum,
        oversample=plan.cohort.oversample,
    )


def assess_plan(plan: CampaignPlan, settings: Settings, *, now: datetime) -> Assessment:
    """What follows from a plan, with the record level's row and its own limits' warnings."""
    assessed = assess(
        settings,
        model_parameters=plan.model.trainable_parameters,
        record=record_guarantee(plan),
        masked=plan.masked_sums,
    )
    return replace(assessed, warnings=assessed.warnings + plan_warnings(plan, now))


def record_guarantee(plan: CampaignPlan) -> RecordGuarantee:
    """ε of a window that is used in every participation, or the cap that the device enforces."""
    record, delta = plan.record, float(plan.delta)
    steps = record.steps * plan.participation.per_campaign
    spent = rdp_of_steps(record.noise_multiplier, record.sample_rate, steps)
    epsilon = min(epsilon_of_rdp(spent, delta), float(record.cap_epsilon))
    return RecordGuarantee(epsilon, delta)


def plan_warnings(plan: CampaignPlan, now: datetime) -> tuple[Advice, ...]:
    """What a plan's own limits bring with them that its settings alone do not tell."""
    found = []
    limits = plan.participation
    if limits.per_epoch < limits.per_campaign:
        found.append(
            Advice(
                "epoch_limit_binds",
                f"a person may take part {limits.per_epoch} times with the data of a month, and "
                "every participation uses each month of the plan: the campaign's limit of "
                f"{limits.per_campaign} is never reached",
                f"state a limit of {limits.per_epoch}: less noise is needed for the same ε",
            )
        )
    gap = max(limits.minimum_gap_rounds, 1)
    reachable = 1 + (plan.rounds - 1) // gap
    if gap > 1 and reachable < limits.per_campaign:
        found.append(
            Advice(
                "gap_binds",
                f"with {gap} rounds between two of a person's, {plan.rounds} rounds leave room for "
                f"{reachable} participations, not {limits.per_campaign}",
                f"state a limit of {reachable}, or a smaller gap",
            )
        )
    if plan.expires <= now:
        found.append(
            Advice(
                "expired",
                f"the plan expired on {plan.expires:%Y-%m-%d %H:%M} UTC",
                "make a plan that expires later",
            )
        )
    return tuple(found)
