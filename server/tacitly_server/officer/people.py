"""`tacitly-officer officer`: who signs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tacitly_server.officer.changes import meaning, proposed
from tacitly_server.officer.office import Office, Signed, office_options, read_key, session
from tacitly_server.officer.output import FILE, emit, facts, format_option, plain, table
from tacitly_server.officer.signing import Shown, sign, yes_option

if TYPE_CHECKING:
    from rich.console import Console

    from tacitly_common.contract.log import Contract


@click.group()
def officer() -> None:
    """Look at the officers, add one, change a key, revoke one."""


@officer.command(name="list")
@office_options
@format_option
def list_(office: Office, form: str) -> None:
    """Show who signs, the policy, and the changes that wait for approval."""
    from tacitly_common.contract.acts import ProposeChange

    with session(office) as desk:
        contract = desk.contract()
    people: list[dict[str, Any]] = [
        {"name": name, "public_key": state.keys[-1], "active": state.active}
        for name, state in sorted(contract.officers.items())
    ]
    waiting: list[dict[str, Any]] = [
        {
            "proposal": entry_hash,
            "proposer": proposal.proposer,
            "approved_by": sorted(proposal.approvals),
            "change": meaning(contract, proposal.act),
        }
        for entry_hash, proposal in contract.proposals.items()
        if isinstance(proposal.act, ProposeChange) and not proposal.done
    ]
    document = {
        "organisation": contract.organisation,
        "genesis": contract.genesis,
        "grant_key": contract.grant_key,
        "policy": contract.policy,
        "officers": people,
        "changes": waiting,
    }

    def show(console: "Console") -> None:
        console.print(
            table(
                f"Officers of {contract.organisation}",
                {"name": "left", "public key": "left", "": "left"},
                ([p["name"], p["public_key"], "" if p["active"] else "revoked"] for p in people),
            )
        )
        policy = {
            name.replace("_", " "): plain(getattr(contract.policy, name))
            for name in contract.policy.__struct_fields__
        }
        console.print(facts("Policy", policy))
        for one in waiting:
            rows = {
                "proposed by": one["proposer"],
                "approved by": ", ".join(one["approved_by"]) or "nobody yet",
                **{name.replace("_", " "): plain(value) for name, value in one["change"].items()},
            }
            console.print(facts(f"Waits for approval: {one['proposal']}", rows))

    emit(document, form, show)


@officer.command()
@click.argument("newcomer", metavar="NAME")
@click.option("--public-key", required=True, help="What their `tacitly-officer key new` printed.")
@office_options
@yes_option
@format_option
def add(newcomer: str, public_key: str, office: Office, form: str, yes: bool) -> None:
    """Propose a new officer, NAME. Two other officers must approve: `campaign approve HASH`."""
    from tacitly_common.contract.acts import Officer, ProposeChange

    change = ProposeChange(officer=Officer(name=newcomer, public_key=public_key))

    def describe(contract: "Contract") -> Shown:
        return change, meaning(contract, change)

    sign(office, "propose an officer", describe, form=form, yes=yes, outcome=proposed)


@officer.command()
@click.option("--new-key", required=True, type=FILE, help="From `tacitly-officer key new`.")
@office_options
@yes_option
@format_option
def rotate(new_key: Path, office: Office, form: str, yes: bool) -> None:
    """Sign with another key from now on. What you have approved stays approved."""
    from tacitly_common.contract.acts import rotation

    act = rotation(office.name, read_key(new_key))

    def describe(_contract: "Contract") -> Shown:
        return act, {"new_key": act.public_key}

    sign(office, "change your key", describe, form=form, yes=yes)


@officer.command()
@click.argument("officer_name", metavar="NAME")
@click.option("--reason", required=True, help="For the log, for ever.")
@office_options
@yes_option
@format_option
def revoke(officer_name: str, reason: str, office: Office, form: str, yes: bool) -> None:
    """Let NAME sign no more, at once. Plans that then lack approvals stop."""
    from tacitly_common.contract.acts import Revoke

    def describe(contract: "Contract") -> Shown:
        losing = [h for h in contract.campaigns if officer_name in contract.approvers(h)]
        return Revoke(officer=officer_name, reason=reason), {
            "officer": officer_name,
            "reason": reason,
            "approvals_that_count_no_more": tuple(losing),
        }

    def outcome(signed: Signed) -> dict[str, Any]:
        active = [name for name, state in signed.contract.officers.items() if state.active]
        return {"active_officers": tuple(sorted(active))}

    sign(office, "revoke an officer", describe, form=form, yes=yes, outcome=outcome)
