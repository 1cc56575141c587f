"""Filing campaigns on the server's disk and choosing the one to run."""

import re
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from agreement import approve, begin_log, change_policy, sign, start, stop
from officers import lax_policy
from our_server import new_campaign
from tacitly_common.campaign import CampaignPlan, StopRules, read_plan
from tacitly_common.contract.acts import Approve, ProposePlan, Revoke, Start
from tacitly_common.errors import ValidationError
from tacitly_server.campaigns.filing import (
    CampaignState,
    active_campaign,
    create_campaign,
    list_campaigns,
)
from tacitly_server.campaigns.officers_log import OfficersLog
from tacitly_server.campaigns.standing import Progress, Standing, why_not
from tacitly_server.home import ServerHome
from tacitly_server.initialise import initialise
from tacitly_server.rounds.receipts import Outcome, Receipt, append_receipt

NOW = datetime(2027, 1, 1, tzinfo=UTC)


def state(home: ServerHome, plan: CampaignPlan, now: datetime = NOW) -> CampaignState:
    """As it is listed."""
    return list_campaigns(home, OfficersLog(home.officers_log).contract(), now=now)[plan.hash]


def active(
    home: ServerHome, wanted: str | None = None, passed_over: Collection[str] = ()
) -> str | None:
    """As the server chooses."""
    contract = OfficersLog(home.officers_log).contract()
    return active_campaign(home, contract, wanted, now=NOW, passed_over=passed_over)


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    made = ServerHome(tmp_path / "home")
    initialise(made, [], now=datetime.now(UTC))
    begin_log(made)
    return made


def receipt(plan: CampaignPlan, round_number: int, outcome: Outcome) -> Receipt:
    return Receipt(
        plan_hash=plan.hash,
        round=round_number,
        attempt=1,
        outcome=outcome,
        selected=8,
        usable=8,
        refusals={},
        noise_multiplier=Decimal("3.78"),
        cost_nano_rho=plan.cost_nano_rho,
        model_sha256=None,
        seconds=1.0,
        bytes_up=1,
    )


def test_a_filed_campaign_is_what_was_given(home: ServerHome) -> None:
    plan, model = new_campaign()
    directory = create_campaign(home, plan, model)
    assert read_plan(directory.plan) == plan
    assert np.array_equal(np.load(directory.initial_model), model)
    assert [path.name for path in home.campaigns.iterdir()] == [plan.hash]


def test_filing_it_again_changes_nothing(home: ServerHome) -> None:
    plan, model = new_campaign()
    directory = create_campaign(home, plan, model)
    append_receipt(directory.receipts, receipt(plan, 1, Outcome.RELEASED))
    assert create_campaign(home, plan, model) == directory
    assert state(home, plan).progress.released_round == 1


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda model: model + 1, "has the SHA-256"),
        (lambda model: model[1:], r"must be float32\[\d+\], got float32"),
        (lambda model: model.astype(np.float64), "got float64"),
    ],
)
def test_another_model_than_the_plans_is_refused(
    home: ServerHome, spoil: Callable[[np.ndarray], np.ndarray], reason: str
) -> None:
    plan, model = new_campaign()
    with pytest.raises(ValidationError, match=reason):
        create_campaign(home, plan, spoil(model))
    assert list(home.campaigns.iterdir()) == []


def test_a_plan_for_another_application_is_refused(home: ServerHome) -> None:
    with pytest.raises(ValidationError, match="make a plan with that app_hash"):
        create_campaign(home, *new_campaign(app_hash="1" * 64))


def test_only_released_rounds_count_and_what_was_lost_since(home: ServerHome) -> None:
    plan, model = new_campaign(rounds=10)
    directory = create_campaign(home, plan, model)
    append_receipt(directory.receipts, receipt(plan, 9, Outcome.LOST))
    append_receipt(directory.receipts, receipt(plan, 9, Outcome.RELEASED))
    append_receipt(directory.receipts, receipt(plan, 10, Outcome.LOST))
    append_receipt(directory.receipts, receipt(plan, 10, Outcome.LOST))
    assert state(home, plan).progress == Progress(released_round=9, lost_in_a_row=2)


def test_the_only_started_campaign_runs_until_it_is_finished(home: ServerHome) -> None:
    assert active(home) is None
    plan, model = new_campaign(rounds=10)
    directory = create_campaign(home, plan, model)
    approve(home, plan)
    assert active(home) is None
    sign(home, "ada", Start(plan_hash=plan.hash))
    assert active(home) == plan.hash
    assert active(home, passed_over={plan.hash}) is None
    append_receipt(directory.receipts, receipt(plan, 10, Outcome.RELEASED))
    assert active(home) is None


def test_between_two_started_campaigns_the_operator_chooses(home: ServerHome) -> None:
    plans = [new_campaign(rounds=rounds) for rounds in (10, 11)]
    for plan, model in plans:
        create_campaign(home, plan, model)
        start(home, plan)
    with pytest.raises(ValidationError, match=r"choose one with .*--campaign"):
        active(home)
    assert active(home, plans[0][0].hash) == plans[0][0].hash
    stop(home, plans[1][0])
    assert active(home) == plans[0][0].hash


def test_a_campaign_stands_where_officers_have_brought_it(home: ServerHome) -> None:
    plan, model = new_campaign(rounds=10, stop=StopRules(lost_in_a_row=2))
    directory = create_campaign(home, plan, model)
    assert state(home, plan).standing is Standing.REFUSED  # filed by nobody's wish
    proposal = sign(home, "ada", ProposePlan(plan=plan.to_json().decode())).hash
    assert state(home, plan).standing is Standing.PROPOSED
    sign(home, "bea", Approve(proposal=proposal))
    assert state(home, plan).standing is Standing.PROPOSED
    sign(home, "cyn", Approve(proposal=proposal))
    assert state(home, plan).standing is Standing.APPROVED
    sign(home, "cyn", Start(plan_hash=plan.hash))
    assert state(home, plan).standing is Standing.RUNNING
    assert state(home, plan, now=plan.expires).standing is Standing.EXPIRED
    append_receipt(directory.receipts, receipt(plan, 3, Outcome.RELEASED))
    stop(home, plan, after_round=4)
    assert state(home, plan).standing is Standing.RUNNING
    append_receipt(directory.receipts, receipt(plan, 4, Outcome.LOST))
    append_receipt(directory.receipts, receipt(plan, 4, Outcome.LOST))
    assert state(home, plan).standing is Standing.STOPPED  # by the plan's own rule
    append_receipt(directory.receipts, receipt(plan, 4, Outcome.RELEASED))
    assert state(home, plan).standing is Standing.STOPPED  # by the limit
    stop(home, plan)
    assert state(home, plan).standing is Standing.STOPPED
    append_receipt(directory.receipts, receipt(plan, 10, Outcome.RELEASED))
    assert state(home, plan).standing is Standing.FINISHED


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (lambda home, plan: stop(home, plan), "was stopped by an officer; propose another"),
        (
            lambda home, _plan: sign(home, "ada", Revoke(officer="cyn", reason="left")),
            "has 1 of 2 approvals by active officers",
        ),
        (
            lambda home, _plan: change_policy(home, lax_policy(minimum_cohort=50)),
            r"is refused \(cohort_too_small\)",
        ),
    ],
)
def test_why_a_campaign_does_not_run_is_said_with_the_way_out(
    home: ServerHome, happens: Callable[[ServerHome, CampaignPlan], object], reason: str
) -> None:
    plan, model = new_campaign()
    create_campaign(home, plan, model)
    log = OfficersLog(home.officers_log)
    assert "is not in the officers' log" in why_not(log.contract(), plan.hash, now=NOW)
    approve(home, plan)
    assert "approved and not started" in why_not(log.contract(), plan.hash, now=NOW)
    sign(home, "ada", Start(plan_hash=plan.hash))
    assert why_not(log.contract(), plan.hash, now=NOW) == ""
    assert "has expired" in why_not(log.contract(), plan.hash, now=plan.expires)
    happens(home, plan)
    assert re.search(reason, why_not(log.contract(), plan.hash, now=NOW))


@pytest.mark.parametrize("wanted", ["f" * 64, "../../etc", ""])
def test_an_unknown_campaign_is_refused(home: ServerHome, wanted: str) -> None:
    with pytest.raises(ValidationError, match="no campaign"):
        active(home, wanted)
