"""What the demo reads afterwards from the files that the agents left."""

import math
from decimal import Decimal

import msgspec

from tacitly_client.ledger import DeviceLedger
from tacitly_common.accounting.record import epsilon_of_rdp
from tacitly_common.accounting.subject import epsilon_of
from tacitly_simulations.demo.deployment import Agent, Deployment
from tacitly_simulations.demo.report import Sent


def epsilon_server(deployment: Deployment) -> float:
    """At most what the server's operator learns of one person from the sums, with nobody's help."""
    plan = deployment.plan
    if plan.masked_sums is None:
        return epsilon_one_device(deployment)
    nano_rho = math.ceil(_most_paid(deployment) * plan.masked_sums.loss(Decimal(0)))
    return epsilon_of(nano_rho, float(plan.delta))


def epsilon_one_device(deployment: Deployment) -> float:
    """At most what would be learned of one person from the own updates of their device, unmasked.

    A share has a `minimum`-th of the sum's variance, so a participation costs `minimum` times
    as much against whoever sees the share alone.
    """
    plan = deployment.plan
    return epsilon_of(_most_paid(deployment) * plan.cohort.minimum, float(plan.delta))


def _most_paid(deployment: Deployment) -> int:
    """What the person of whom most updates left has paid for them, in nano-ρ."""
    updates = max(sum(each.holds_update for each in sent(agent)) for agent in deployment.agents)
    return updates * deployment.plan.cost_nano_rho


def epsilon_record_level(deployment: Deployment) -> float:
    """The most any device spent at the record level."""
    delta, spent = float(deployment.plan.delta), []
    for agent in deployment.agents:
        with DeviceLedger.open(agent.home.ledger) as ledger:
            spent.append(epsilon_of_rdp(ledger.record_rdp(deployment.plan.hash), delta))
    return max(spent)


class _Reply(msgspec.Struct, frozen=True):
    """A journal's line of an answer to a task."""

    round: int
    code: str
    bytes: int
    sha256: str
    phase: str = ""


class _JournalLine(msgspec.Struct, frozen=True):
    """Any line: `call` names what was asked of the desk, and is empty in an answer's."""

    call: str = ""


def sent(agent: Agent) -> list[Sent]:
    """Every answer to a task that left an agent."""
    lines = agent.home.egress_journal.read_bytes().splitlines()
    replies = [
        msgspec.json.decode(line, type=_Reply)
        for line in lines
        if not msgspec.json.decode(line, type=_JournalLine).call
    ]
    return [
        Sent(reply.round, reply.phase.lower(), reply.code.lower(), reply.bytes, reply.sha256)
        for reply in replies
    ]


def stored(agent: Agent) -> int:
    """How many events an agent's store holds."""
    from tacitly_client.store import EventStore

    with EventStore.open(agent.home.store) as store:
        return store.count()
