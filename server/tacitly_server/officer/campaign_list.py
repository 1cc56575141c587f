"""`tacitly-officer campaign list`: every plan, where it stands and how far it is."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from tacitly_server.officer.agreed import agreement
from tacitly_server.officer.office import Office, office_options, session
from tacitly_server.officer.output import Side, emit, format_option, indented, table

if TYPE_CHECKING:
    from rich.console import Console

    from tacitly_common.contract.log import Contract
    from tacitly_common.wire.desk_pb2 import CampaignState

_COLUMNS: Final[dict[str, Side]] = {
    "plan": "left",
    "name": "left",
    "standing": "left",
    "rounds": "right",
    "approved by": "left",
    "refused": "left",
}


@click.command(name="list")
@office_options
@format_option
def list_(office: Office, form: str) -> None:
    """Show every plan that was proposed, and what is wrong.

    A plan that devices refuse says why and how often, over all its attempts.
    """
    with session(office) as desk:
        contract = desk.contract()
        answer = desk.progress()
    states = {state.plan_hash: state for state in answer.campaigns}
    campaigns = [_document(contract, name, states.get(name)) for name in contract.campaigns]
    document = {"campaigns": campaigns, "alarms": list(answer.alarms)}

    def show(console: "Console") -> None:
        console.print(
            table(
                f"Campaigns of {contract.organisation}",
                _COLUMNS,
                (_row(one) for one in campaigns),
            )
        )
        for alarm in answer.alarms:
            console.print("\n[bold red]Alarm[/]\n")
            console.print(indented(alarm))

    emit(document, form, show)


def _document(
    contract: "Contract", plan_hash: str, state: "CampaignState | None"
) -> dict[str, Any]:
    from tacitly_common.contract.judge import plan_of
    from tacitly_common.wire.codes import ReplyCode
    from tacitly_server.campaigns.standing import Progress, standing, why_not

    now = datetime.now(UTC)
    found = plan_of(contract, plan_hash)
    plan = None if isinstance(found, ReplyCode) else found
    released = state.released_rounds if state else 0
    word = standing(contract, plan_hash, Progress(released_round=released), now=now)
    return {
        "plan_hash": plan_hash,
        "name": plan.name if plan else None,
        "purpose": plan.purpose if plan else None,
        "standing": word.value,
        "why_not": why_not(contract, plan_hash, now=now),
        "released_rounds": released,
        "rounds": plan.rounds if plan else None,
        "last_round": contract.campaigns[plan_hash].last_round,
        "lost_attempts": state.lost_attempts if state else 0,
        "refusals": dict(sorted(state.refusals.items())) if state else {},
        "granted_until": state.granted_until if state else "",
        **agreement(contract, plan_hash),
    }


def _row(one: dict[str, Any]) -> list[str]:
    return [
        one["plan_hash"][:12],
        one["name"] or "?",
        one["standing"],
        f"{one['released_rounds']}/{one['rounds'] or '?'}",
        ", ".join(one["approved_by"]),
        ", ".join(f"{name} {n}" for name, n in one["refusals"].items()),
    ]
