"""`tacitly-officer campaign`: propose, approve, start and stop what devices are asked for."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tacitly_server.officer.agreed import agreement, find, find_plan, plan_meaning, standing_of
from tacitly_server.officer.campaign_list import list_
from tacitly_server.officer.changes import meaning
from tacitly_server.officer.office import Office, Signed, office_options
from tacitly_server.officer.output import FILE, format_option
from tacitly_server.officer.signing import Shown, sign, yes_option

if TYPE_CHECKING:
    from tacitly_common.contract.log import Contract


@click.group()
def campaign() -> None:
    """Decide on campaigns: two officers approve, one alone can stop."""


@campaign.command()
@click.argument("plan_file", metavar="PLAN", type=FILE)
@click.option("--model", required=True, type=FILE, help="The start: float32, in .npy format.")
@office_options
@yes_option
@format_option
def propose(plan_file: Path, model: Path, office: Office, form: str, yes: bool) -> None:
    """Propose the plan in PLAN. Its cost is computed here, before you sign."""
    from dataclasses import replace

    from tacitly_common.campaign import read_plan
    from tacitly_common.contract.acts import ProposePlan
    from tacitly_common.contract.log import Campaign
    from tacitly_server.campaigns.filing import check_model, read_vector
    from tacitly_server.campaigns.review import runnable_plan

    plan = read_plan(plan_file)
    vector = read_vector(model)
    check_model(plan, vector)
    act = ProposePlan(plan=plan.to_json().decode())

    def describe(contract: "Contract") -> Shown:
        as_proposed = Campaign(proposal="", plan=act.plan)
        looked_at = replace(contract, campaigns={plan.hash: as_proposed})
        runnable_plan(looked_at, plan.hash, now=datetime.now(UTC))
        return act, plan_meaning(plan)

    sign(
        office,
        "propose a campaign",
        describe,
        form=form,
        yes=yes,
        model=vector.astype("<f4", copy=False).tobytes(),
        outcome=lambda signed: standing_of(signed.contract, plan.hash),
    )


@campaign.command()
@click.argument("proposal", metavar="HASH")
@office_options
@yes_option
@format_option
def approve(proposal: str, office: Office, form: str, yes: bool) -> None:
    """Approve a plan, or a change to officers, policy or grant key, by its hash or its beginning.

    A plan is refused if what it may cost does not compute (exit code 5), leaves the policy (5), or
    is beyond the budgets of the policy (3).
    """
    from tacitly_common.contract.acts import Approve, ProposeChange
    from tacitly_server.campaigns.review import runnable_plan

    def describe(contract: "Contract") -> Shown:
        found = find(contract, proposal)
        if found in contract.campaigns:
            plan = runnable_plan(contract, found, now=datetime.now(UTC))
            entry_hash = contract.campaigns[found].proposal
            return Approve(proposal=entry_hash), plan_meaning(plan) | agreement(contract, found)
        change = contract.proposals[found]
        assert isinstance(change.act, ProposeChange)  # noqa: S101 plans are found by their hash
        return Approve(proposal=found), {
            "proposal": found,
            **meaning(contract, change.act),
            "proposer": change.proposer,
            "approved_by": tuple(sorted(change.approvals)),
        }

    def outcome(signed: Signed) -> dict[str, Any]:
        found = find(signed.contract, proposal)
        if found in signed.contract.campaigns:
            return standing_of(signed.contract, found)
        return {"in_effect": signed.contract.proposals[found].done}

    sign(office, "approve", describe, form=form, yes=yes, outcome=outcome)


@campaign.command()
@click.argument("plan_hash", metavar="HASH")
@office_options
@yes_option
@format_option
def start(plan_hash: str, office: Office, form: str, yes: bool) -> None:
    """Let an approved plan run. Exit code 4: it is not approved by two officers."""
    from tacitly_common.contract.acts import ConflictError, Start
    from tacitly_common.wire.codes import ReplyCode
    from tacitly_server.campaigns.review import runnable_plan

    def describe(contract: "Contract") -> Shown:
        found = find_plan(contract, plan_hash)
        plan = runnable_plan(contract, found, now=datetime.now(UTC))
        standing = contract.campaigns[found]
        if standing.started or standing.last_round == 0:
            was = (
                "stopped, for good; propose another plan"
                if standing.last_round == 0
                else ("started before; there is nothing to do")
            )
            raise ConflictError(ReplyCode.CAMPAIGN_STOPPED, f"plan {found[:16]}... was {was}")
        return Start(plan_hash=found), plan_meaning(plan) | agreement(contract, found)

    def outcome(signed: Signed) -> dict[str, Any]:
        return standing_of(signed.contract, find_plan(signed.contract, plan_hash))

    sign(office, "start a campaign", describe, form=form, yes=yes, outcome=outcome)


@campaign.command()
@click.argument("plan_hash", metavar="HASH")
@click.option("--reason", required=True, help="For the log, for ever.")
@click.option(
    "--after-round",
    type=click.IntRange(min=1),
    help="Let the rounds up to this one run [default: none, it stops at once].",
)
@office_options
@yes_option
@format_option
def stop(
    plan_hash: str, reason: str, after_round: int | None, office: Office, form: str, yes: bool
) -> None:
    """Stop a campaign, for good. One officer alone can; nobody can take it back."""
    from tacitly_common.contract.acts import Limit

    def describe(contract: "Contract") -> Shown:
        found = find_plan(contract, plan_hash)
        act = Limit(plan_hash=found, last_round=after_round or 0, reason=reason)
        return act, {"plan_hash": found, "last_round": act.last_round, "reason": reason}

    def outcome(signed: Signed) -> dict[str, Any]:
        found = find_plan(signed.contract, plan_hash)
        return standing_of(signed.contract, found) | {
            "last_round": signed.contract.campaigns[found].last_round
        }

    sign(office, "stop a campaign", describe, form=form, yes=yes, outcome=outcome)


campaign.add_command(list_)
