"""How the officers' log begins on the operator's machine, and what it amounts to, for people."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from tacitly_common.contract.acts import Genesis, Officer, begin
from tacitly_common.contract.log import Contract
from tacitly_common.contract.policy import Policy, parse_policy
from tacitly_common.errors import ValidationError
from tacitly_server.campaigns.officers_log import OfficersLog
from tacitly_server.home import ServerHome
from tacitly_server.initialise import grant_public_key


class OfficerFacts(msgspec.Struct, frozen=True):
    """An officer: their current key, and "active" or "revoked"."""

    name: str
    public_key: str
    standing: str


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What `tacitly-server contract show` shows."""

    schema_version: int = 1
    organisation: str
    genesis: str
    head: str
    length: int
    grant_key: str
    officers: tuple[OfficerFacts, ...]
    policy: Policy
    plans: tuple[str, ...]


def begin_log(
    home: ServerHome,
    organisation: str,
    officers: Sequence[str],
    policy: bytes,
    *,
    now: datetime,
) -> Contract:
    """Write the first entry: each of `officers` is "name=key", `policy` is JSON.

    Raises:
        ValidationError: an officer, the policy or the home is not in order.
        ConflictError: a log has begun already.
    """
    genesis = Genesis(
        organisation=organisation,
        officers=tuple(_officer(text) for text in officers),
        policy=parse_policy(policy),
        grant_key=grant_public_key(home),
    )
    return OfficersLog(home.officers_log).begin(begin(genesis, at=now))


def facts(contract: Contract) -> Facts:
    """The contract, for people."""
    return Facts(
        organisation=contract.organisation,
        genesis=contract.genesis,
        head=contract.head,
        length=contract.length,
        grant_key=contract.grant_key,
        officers=tuple(
            OfficerFacts(name, officer.keys[-1], "active" if officer.active else "revoked")
            for name, officer in sorted(contract.officers.items())
        ),
        policy=contract.policy,
        plans=tuple(sorted(contract.campaigns)),
    )


def _officer(text: str) -> Officer:
    name, equals, public_key = text.partition("=")
    if not equals:
        raise ValidationError(f"--officer must be NAME=KEY, got {text!r:.120}")
    return Officer(name=name, public_key=public_key)
