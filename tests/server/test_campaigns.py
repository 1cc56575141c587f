"""Filing campaigns on the server's disk and choosing the one to run."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from our_server import new_campaign
from tacitly_common.campaign import CampaignPlan, read_plan
from tacitly_common.errors import ValidationError
from tacitly_server.campaigns.filing import active_campaign, create_campaign, list_campaigns
from tacitly_server.home import ServerHome
from tacitly_server.initialise import initialise
from tacitly_server.rounds.receipts import Outcome, Receipt, append_receipt


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    made = ServerHome(tmp_path / "home")
    initialise(made, [], now=datetime.now(UTC))
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
    assert list_campaigns(home)[plan.hash].released_round == 1


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
    assert list_campaigns(home) == {}


def test_a_plan_for_another_application_is_refused(home: ServerHome) -> None:
    with pytest.raises(ValidationError, match="make a plan with that app_hash"):
        create_campaign(home, *new_campaign(app_hash="1" * 64))


def test_only_released_rounds_count(home: ServerHome) -> None:
    plan, model = new_campaign(rounds=10)
    directory = create_campaign(home, plan, model)
    append_receipt(directory.receipts, receipt(plan, 9, Outcome.RELEASED))
    append_receipt(directory.receipts, receipt(plan, 10, Outcome.LOST))
    assert list_campaigns(home)[plan.hash].released_round == 9
    assert not list_campaigns(home)[plan.hash].finished


def test_the_only_unfinished_campaign_is_active(home: ServerHome) -> None:
    assert active_campaign(home, None) is None
    done, model = new_campaign(rounds=10)
    append_receipt(create_campaign(home, done, model).receipts, receipt(done, 10, Outcome.RELEASED))
    assert active_campaign(home, None) is None
    plan, model = new_campaign(rounds=11)
    create_campaign(home, plan, model)
    assert active_campaign(home, None) == plan.hash
    assert active_campaign(home, None, passed_over={plan.hash}) is None


def test_between_two_unfinished_campaigns_the_operator_chooses(home: ServerHome) -> None:
    plans = [new_campaign(rounds=rounds) for rounds in (10, 11)]
    for plan, model in plans:
        create_campaign(home, plan, model)
    with pytest.raises(ValidationError, match=r"choose one with .*--campaign"):
        active_campaign(home, None)
    assert active_campaign(home, plans[0][0].hash) == plans[0][0].hash


@pytest.mark.parametrize("wanted", ["f" * 64, "../../etc", ""])
def test_an_unknown_campaign_is_refused(home: ServerHome, wanted: str) -> None:
    with pytest.raises(ValidationError, match="no campaign"):
        active_campaign(home, wanted)
