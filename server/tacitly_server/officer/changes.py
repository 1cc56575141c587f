"""Changes to who signs and to what plans must keep to: how they are read before they are signed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tacitly_server.officer.office import Signed

if TYPE_CHECKING:
    from tacitly_common.contract.acts import ProposeChange
    from tacitly_common.contract.log import Contract
    from tacitly_common.contract.policy import Policy


def proposed(signed: Signed) -> Mapping[str, Any]:
    """What others approve: the proposal's own hash."""
    return {"proposal": signed.entry.hash}


def meaning(contract: "Contract", change: "ProposeChange") -> dict[str, Any]:
    """What a change will do, against what holds now."""
    if change.officer is not None:
        return {"new_officer": change.officer.name, "public_key": change.officer.public_key}
    if change.grant_key is not None:
        return {"grant_key": change.grant_key, "grant_key_now": contract.grant_key}
    assert change.policy is not None  # noqa: S101 a change names one of the three
    return policy_change(contract.policy, change.policy)


def policy_change(now: "Policy", then: "Policy") -> dict[str, Any]:
    """Every field of the new policy; what differs says what it was."""
    fields: dict[str, Any] = {}
    for name in then.__struct_fields__:
        before, after = getattr(now, name), getattr(then, name)
        fields[name] = after if before == after else f"{_text(after)} (now {_text(before)})"
    return fields


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
