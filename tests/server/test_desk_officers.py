"""Officers at the desk: what they sign is checked, filed and appended, and else refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest

from desk import Desk, desk_beside_superlink
from officers import KEYS, STRANGER
from our_server import new_campaign
from tacitly_common.campaign import CampaignPlan, SubjectMechanism
from tacitly_common.contract.acts import (
    Approve,
    Limit,
    ProposePlan,
    Revoke,
    Start,
    rotation,
)
from tacitly_common.contract.grant import issue
from tacitly_common.contract.log import next_entry
from tacitly_common.contract.signatures import read_private_pem
from tacitly_common.wire.desk_client import read_whole_log
from tacitly_common.wire.desk_errors import (
    DeskApprovalNeededError,
    DeskBudgetError,
    DeskConflictError,
    DeskError,
    DeskInputError,
    DeskNotAuthorisedError,
    DeskVerificationError,
)
from tacitly_common.wire.desk_pb2_grpc import OfficersStub
from tacitly_server.rounds.receipts import Outcome, Receipt, append_receipt


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk_beside_superlink(tmp_path_factory.mktemp("desk") / "home") as running:
        yield running


@contextmanager
def refused(desk: Desk, kind: type[DeskError], said: str) -> Iterator[None]:
    """The block is refused like this, and log and filed campaigns stay as they are."""
    before = desk.log.lines(), sorted(desk.home.campaigns.iterdir())
    with pytest.raises(kind, match=said):
        yield
    assert (desk.log.lines(), sorted(desk.home.campaigns.iterdir())) == before


def proposal(name: str, **changes: Any) -> tuple[CampaignPlan, bytes]:
    """A plan that may be proposed, and its model's bytes."""
    plan, model = new_campaign(name=name, **changes)
    return plan, model.astype("<f4").tobytes()


def propose(desk: Desk, plan: CampaignPlan | str, model: bytes, *, by: str = "ada") -> str:
    """Submit a plan; the hash of the proposal."""
    document = plan if isinstance(plan, str) else plan.to_json().decode()
    entry = desk.entry(by, ProposePlan(plan=document))
    desk.submit(entry, model)
    return entry.hash


def test_a_plan_is_proposed_filed_approved_and_started(desk: Desk) -> None:
    plan, model = proposal("whole")
    name = propose(desk, plan, model)
    directory = desk.home.campaign(plan.hash)
    assert directory.plan.read_bytes() == plan.to_json()
    assert np.load(directory.initial_model).tobytes() == model
    for officer in ("bea", "cyn"):
        desk.submit(desk.entry(officer, Approve(proposal=name)))
    answer = desk.submit(desk.entry("dan", Start(plan_hash=plan.hash)))
    contract = desk.log.contract()
    assert contract.length == answer.log_length
    assert contract.campaigns[plan.hash].started


def test_the_log_is_read_by_anybody_from_any_entry(desk: Desk) -> None:
    stub = OfficersStub(desk.channel())
    assert read_whole_log(stub) == desk.log.lines()
    assert read_whole_log(stub, 1) == desk.log.lines(1)
    assert read_whole_log(stub, 10_000) == []


def test_the_same_entry_again_is_answered_again(desk: Desk) -> None:
    plan, model = proposal("again")
    entry = desk.entry("ada", ProposePlan(plan=plan.to_json().decode()))
    first = desk.submit(entry, model)
    assert desk.submit(entry, model) == first
    assert desk.log.contract().length == first.log_length


def test_an_entry_of_nobody_or_with_anothers_key_is_refused(desk: Desk) -> None:
    contract, act = desk.log.contract(), Revoke(officer="ada", reason="coup")
    for signer, key, said in (
        ("eve", STRANGER, "no officer here"),
        ("bea", STRANGER, "not signed with bea's current key"),
        ("bea", KEYS["cyn"], "not signed with bea's current key"),
    ):
        entry = next_entry(contract, act, signer=signer, key=key, at=datetime.now(UTC))
        with refused(desk, DeskNotAuthorisedError, said):
            desk.submit(entry)


def test_an_entry_that_does_not_follow_is_refused_as_a_conflict(desk: Desk) -> None:
    late = desk.entry("bea", Revoke(officer="ada", reason="late"))
    plan, model = proposal("faster")
    propose(desk, plan, model)
    with refused(desk, DeskConflictError, "read the log again and sign anew"):
        desk.submit(late)


def test_what_is_no_entry_is_refused(desk: Desk) -> None:
    entry = desk.entry("ada", Revoke(officer="bea", reason="test")).to_json()
    for document, said in (
        (b"nonsense", "not a log entry"),
        (entry.replace(b'"test"', b'"tesT"'), "not signed"),
        (entry + b" ", "canonical"),
    ):
        with refused(desk, DeskError, said):
            desk.submit(document)
    with refused(desk, DeskInputError, "at most"):
        desk.submit(b" " * 300_000)


def test_a_start_without_two_approvals_is_refused_with_its_code(desk: Desk) -> None:
    plan, model = proposal("unapproved")
    propose(desk, plan, model)
    with refused(desk, DeskApprovalNeededError, "PLAN_NOT_APPROVED"):
        desk.submit(desk.entry("ada", Start(plan_hash=plan.hash)))
    with refused(desk, DeskVerificationError, "UNKNOWN_PLAN"):
        desk.submit(desk.entry("ada", Start(plan_hash="f" * 64)))


def test_a_proposer_who_approves_is_refused(desk: Desk) -> None:
    plan, model = proposal("alone")
    name = propose(desk, plan, model)
    with refused(desk, DeskConflictError, "SAME_OFFICER_TWICE"):
        desk.submit(desk.entry("ada", Approve(proposal=name)))


def _low_noise(document: str) -> str:
    return document.replace('"noise_multiplier":"3.78"', '"noise_multiplier":"3.77"')


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda text: text.replace('"rounds":20', '"rounds": 20'), "PLAN_MALFORMED"),
        (lambda text: text.replace('"rounds":20', '"rounds":0'), "PLAN_MALFORMED"),
        (lambda text: text.replace('"model_update"', '"training_loss"'), "UNKNOWN_OUTPUT"),
        (_low_noise, "PLAN_MALFORMED"),  # it misstates its cost
        (lambda text: "nonsense", "PLAN_MALFORMED"),
        # Without an impact assessment, or without the workers' agreement, there is no campaign.
        (lambda text: text.replace('"dpia":"DPIA-1"', '"dpia":""'), "PLAN_MALFORMED"),
        (lambda text: text.replace('"works_agreement":"WA-1"', '"works_agreement":" "'), "PLAN_M"),
    ],
)
def test_a_plan_that_is_none_is_refused(desk: Desk, spoil: Any, code: str) -> None:
    plan, model = proposal("spoiled")
    document = spoil(plan.to_json().decode())
    assert document != plan.to_json().decode()
    with refused(desk, DeskVerificationError, code):
        propose(desk, document, model)


def test_a_plan_that_states_another_epsilon_than_it_costs_is_refused(desk: Desk) -> None:
    plan, model = proposal("epsilon")
    lower = msgspec.structs.replace(plan.worst_case, epsilon=Decimal("1.0"))
    document = msgspec.structs.replace(plan, worst_case=lower).to_json().decode()
    with refused(desk, DeskVerificationError, r"states ε = 1\.0"):
        propose(desk, document, model)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"purpose": "advertising"}, "OTHER_PURPOSE"),
        ({"delta": Decimal("1e-7")}, "BEYOND_POLICY"),
        ({"expires": datetime(2020, 1, 1, tzinfo=UTC)}, "CAMPAIGN_EXPIRED"),
        ({"client_version": "9.9.9"}, "CLIENT_VERSION"),
        (
            {
                "subject": SubjectMechanism(
                    clip_norm=Decimal("0.5"), noise_multiplier=Decimal("0.001")
                )
            },
            "NOISE_TOO_LOW",
        ),
        (
            {
                "subject": SubjectMechanism(
                    clip_norm=Decimal(2_000), noise_multiplier=Decimal("3.78")
                )
            },
            "CLIP_TOO_LARGE",
        ),
    ],
)
def test_a_plan_that_could_not_run_is_refused(
    desk: Desk, changes: dict[str, Any], code: str
) -> None:
    plan, model = proposal("outside", **changes)
    with refused(desk, DeskVerificationError, code):
        propose(desk, plan, model)


def test_a_plan_beyond_a_persons_lifetime_is_refused_as_over_budget(desk: Desk) -> None:
    loud = SubjectMechanism(clip_norm=Decimal("0.5"), noise_multiplier=Decimal("0.02"))
    plan, model = proposal("loud", subject=loud)
    with refused(desk, DeskBudgetError, "the policy allows"):
        propose(desk, plan, model)


def test_a_plan_for_another_application_or_model_is_refused(desk: Desk) -> None:
    for changes in ({"app_hash": "1" * 64}, {"initial_model_hash": "0" * 64}):
        plan, model = proposal("other", **changes)
        with refused(desk, DeskInputError, r"the plan (is for|names)"):
            propose(desk, plan, model)


def test_a_model_that_is_missing_or_too_much_is_refused(desk: Desk) -> None:
    plan, model = proposal("model")
    for other in (b"", model[:-4], model[:-1], model + model):
        with refused(desk, DeskInputError, "model"):
            propose(desk, plan, other)
    with refused(desk, DeskInputError, "comes with a proposed plan"):
        desk.submit(desk.entry("ada", Revoke(officer="bea", reason="test")), model)


def test_a_campaign_that_a_crash_left_filed_and_not_proposed_is_proposed_by_a_retry(
    desk: Desk,
) -> None:
    plan, model = proposal("crash")
    desk.home.campaign(plan.hash).root.mkdir()
    desk.home.campaign(plan.hash).plan.write_bytes(plan.to_json())
    assert plan.hash not in desk.log.contract().campaigns
    propose(desk, plan, model)
    assert plan.hash in desk.log.contract().campaigns


def receipt(plan: CampaignPlan, number: int, outcome: Outcome, refusals: dict[str, int]) -> Receipt:
    return Receipt(
        plan_hash=plan.hash,
        round=number,
        attempt=1,
        outcome=outcome,
        selected=8,
        usable=5,
        refusals=refusals,
        noise_multiplier=plan.subject.noise_multiplier,
        cost_nano_rho=plan.cost_nano_rho,
        model_sha256=None,
        seconds=1.0,
        bytes_up=10,
    )


def test_officers_see_how_far_campaigns_are_in_counts(desk: Desk) -> None:
    plan, model = proposal("counted")
    propose(desk, plan, model)
    directory = desk.home.campaign(plan.hash)
    for number, outcome, refusals in (
        (1, Outcome.RELEASED, {"TOO_SOON": 1}),
        (2, Outcome.LOST, {"TOO_SOON": 2, "NOT_JOINED": 1}),
        (2, Outcome.RELEASED, {}),
    ):
        append_receipt(directory.receipts, receipt(plan, number, outcome, refusals))
    (state,) = [s for s in desk.campaigns().campaigns if s.plan_hash == plan.hash]
    assert (state.released_rounds, state.lost_attempts) == (2, 1)
    assert dict(state.refusals) == {"TOO_SOON": 3, "NOT_JOINED": 1}
    assert state.granted_until == ""

    key = read_private_pem(desk.home.grant_key.read_bytes(), source="grant.key")
    now = datetime.now(UTC).replace(microsecond=0)
    directory.grant.write_bytes(issue(plan, key, now=now, hours=3).to_json())
    (state,) = [s for s in desk.campaigns().campaigns if s.plan_hash == plan.hash]
    assert datetime.fromisoformat(state.granted_until) == now + timedelta(hours=3)


def test_campaigns_are_for_active_officers_who_ask_now(desk: Desk) -> None:
    for officer, key, skew_seconds, said in (
        ("ada", STRANGER, 0, "campaigns request"),
        ("eve", STRANGER, 0, "no active officer"),
        ("ada", KEYS["ada"], 900, "set the clock"),
    ):
        with refused(desk, DeskNotAuthorisedError, said):
            desk.campaigns(officer, key, skew_seconds=skew_seconds)


def test_a_revoked_officer_and_a_former_key_open_nothing(desk: Desk) -> None:
    desk.submit(desk.entry("ada", rotation("ada", STRANGER)))
    with refused(desk, DeskNotAuthorisedError, "campaigns request"):
        desk.campaigns("ada", KEYS["ada"])
    assert desk.campaigns("ada", STRANGER).campaigns
    plan, model = proposal("ended")
    propose(desk, plan, model, by="cyn")
    desk.submit(desk.entry("bea", Limit(plan_hash=plan.hash, last_round=0, reason="enough")))
    desk.submit(desk.entry("bea", Revoke(officer="dan", reason="left")))
    with refused(desk, DeskNotAuthorisedError, "no active officer"):
        desk.campaigns("dan")
    with refused(desk, DeskNotAuthorisedError, "was revoked"):
        desk.submit(desk.entry("dan", Revoke(officer="bea", reason="revenge")))
