"""What a grant, a plan and the log together allow: each refusal has its own code."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest

from officers import AT, GRANT_KEY, STRANGER, Log, genesis, lax_policy
from plans import small_plan
from tacitly_common.campaign import CampaignPlan, Level, SubjectMechanism
from tacitly_common.contract.acts import Approve, Limit, ProposePlan, Start, begin
from tacitly_common.contract.grant import (
    MOST_GRANT_BYTES,
    Grant,
    issue,
    judge_grant,
    parse_grant,
    sign_grant,
)
from tacitly_common.contract.judge import judge_campaign, judge_round, plan_of
from tacitly_common.contract.log import plan_hash_of
from tacitly_common.contract.policy import Policy, judge_plan
from tacitly_common.contract.signatures import public_hex
from tacitly_common.errors import ValidationError
from tacitly_common.wire.codes import ReplyCode

PLAN = small_plan()
HOUR = timedelta(hours=1)


def judged(grant: Grant, *, key=GRANT_KEY, now=AT, plan: CampaignPlan = PLAN) -> ReplyCode:
    signed = parse_grant(sign_grant(grant, key).to_json())
    return judge_grant(signed, plan, lax_policy(), grant_key=public_hex(GRANT_KEY), now=now)


def terms(**changes: object) -> Grant:
    return msgspec.structs.replace(issue(PLAN, GRANT_KEY, now=AT, hours=12).grant, **changes)


def test_a_grant_of_the_plan_s_terms_holds_for_its_hours() -> None:
    assert judged(terms()) is ReplyCode.OK
    assert judged(terms(), now=AT + 12 * HOUR - timedelta(seconds=1)) is ReplyCode.OK
    assert judged(terms(), now=AT + 12 * HOUR) is ReplyCode.GRANT_EXPIRED
    assert judged(terms(), now=AT - timedelta(minutes=9)) is ReplyCode.OK
    assert judged(terms(), now=AT - timedelta(minutes=11)) is ReplyCode.GRANT_EXPIRED


def test_no_grant_is_longer_than_the_policy_allows() -> None:
    assert judged(terms(expires_at=AT + 24 * HOUR)) is ReplyCode.OK
    assert judged(terms(expires_at=AT + 25 * HOUR)) is ReplyCode.GRANT_EXPIRED


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"noise_multiplier": Decimal("3.77")}, ReplyCode.NOISE_TOO_LOW),
        ({"noise_multiplier": Decimal(0)}, ReplyCode.NOISE_TOO_LOW),
        ({"noise_multiplier": Decimal(4)}, ReplyCode.GRANT_INVALID),
        ({"clip_norm": Decimal("0.51")}, ReplyCode.CLIP_TOO_LARGE),
        ({"clip_norm": Decimal("0.49")}, ReplyCode.GRANT_INVALID),
        ({"cohort_minimum": 3}, ReplyCode.COHORT_TOO_SMALL),
        ({"cohort_minimum": 5}, ReplyCode.GRANT_INVALID),
        ({"purpose": "productivity-score"}, ReplyCode.OTHER_PURPOSE),
        ({"outputs": ("model_update", "keystrokes")}, ReplyCode.UNKNOWN_OUTPUT),
        ({"outputs": ()}, ReplyCode.UNKNOWN_OUTPUT),
        ({"plan_hash": "0" * 64}, ReplyCode.GRANT_INVALID),
    ],
)
def test_other_terms_than_the_plan_s_are_refused_by_name(
    change: dict[str, object], code: ReplyCode
) -> None:
    assert judged(terms(**change)) is code


def test_a_grant_that_the_server_did_not_sign_is_none() -> None:
    assert judged(terms(), key=STRANGER) is ReplyCode.GRANT_INVALID
    altered = msgspec.structs.replace(
        issue(PLAN, GRANT_KEY, now=AT, hours=1), grant=terms(expires_at=AT + 2 * HOUR)
    )
    key = public_hex(GRANT_KEY)
    assert judge_grant(altered, PLAN, lax_policy(), grant_key=key, now=AT) is (
        ReplyCode.GRANT_INVALID
    )
    assert judge_grant(None, PLAN, lax_policy(), grant_key=key, now=AT) is ReplyCode.GRANT_INVALID


@pytest.mark.parametrize(
    "document", [b"", b"{}", b"\xff", b" " * (MOST_GRANT_BYTES + 1), b'{"grant":1}']
)
def test_what_is_no_grant_is_none(document: bytes) -> None:
    assert parse_grant(document) is None


def test_numbers_that_are_none_are_no_grant() -> None:
    document = sign_grant(terms(), GRANT_KEY).to_json()
    assert parse_grant(document.replace(b'"3.78"', b'"NaN"')) is None


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        ({}, ReplyCode.OK),
        ({"purposes": ("evaluation",)}, ReplyCode.OTHER_PURPOSE),
        ({"minimum_noise_multiplier": Decimal("3.79")}, ReplyCode.NOISE_TOO_LOW),
        ({"maximum_clip_norm": Decimal("0.49")}, ReplyCode.CLIP_TOO_LARGE),
        ({"minimum_cohort": 5}, ReplyCode.COHORT_TOO_SMALL),
        ({"delta": Decimal("1e-7")}, ReplyCode.BEYOND_POLICY),
        ({"highest_level": Level.CLASSES}, ReplyCode.BEYOND_POLICY),
    ],
)
def test_no_plan_leaves_the_policy(policy: dict[str, object], code: ReplyCode) -> None:
    assert judge_plan(PLAN, lax_policy(**policy)) is code
    log = Log([begin(genesis(policy=lax_policy(**policy)), at=AT)]).start(PLAN)
    assert judge_campaign(log.contract, PLAN.hash, now=AT) is code


def test_policies_check_themselves() -> None:
    with pytest.raises(ValidationError, match="purposes must be sorted"):
        lax_policy(purposes=())
    with pytest.raises(ValidationError, match="minimum_cohort must lie in"):
        lax_policy(minimum_cohort=1)
    assert isinstance(lax_policy(), Policy)
    strict = lax_policy(lifetime_epsilon=Decimal(4), epoch_epsilon=Decimal(2))
    assert strict.lifetime_nano_rho == 351_003_648
    assert 0 < strict.epoch_nano_rho < strict.lifetime_nano_rho


def changed_plan(log: Log, change: Callable[[str], str]) -> str:
    text = change(PLAN.to_json().decode())
    log.add("ada", ProposePlan(plan=text))
    return plan_hash_of(text)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('["model_update"]', '["keystrokes"]', ReplyCode.UNKNOWN_OUTPUT),
        ('"rounds":20', '"rounds":0', ReplyCode.PLAN_MALFORMED),
        ('"nano_rho_per_person":349934220', '"nano_rho_per_person":1', ReplyCode.PLAN_MALFORMED),
        ('"rounds":20', '"rounds": 20', ReplyCode.PLAN_MALFORMED),
    ],
)
def test_a_plan_in_the_log_that_cannot_be_one_is_refused(
    old: str, new: str, code: ReplyCode
) -> None:
    log = Log()
    name = changed_plan(log, lambda text: text.replace(old, new))
    assert plan_of(log.contract, name) is code
    assert judge_campaign(log.contract, name, now=AT) is code


def test_every_step_of_a_campaign_s_life_has_its_answer() -> None:
    log = Log()

    def answer(now=AT) -> ReplyCode:
        return judge_campaign(log.contract, PLAN.hash, now=now)

    assert answer() is ReplyCode.UNKNOWN_PLAN
    proposal = log.propose(PLAN)
    log.add("bea", Approve(proposal=proposal))
    assert answer() is ReplyCode.PLAN_NOT_APPROVED
    log.add("cyn", Approve(proposal=proposal))
    assert answer() is ReplyCode.CAMPAIGN_STOPPED
    log.add("cyn", Start(plan_hash=PLAN.hash))
    assert answer() is ReplyCode.OK
    assert answer(PLAN.expires) is ReplyCode.CAMPAIGN_EXPIRED
    log.add("bea", Limit(plan_hash=PLAN.hash, last_round=7, reason="enough"))
    assert answer() is ReplyCode.OK
    assert judge_round(log.contract, PLAN.hash, 7) is ReplyCode.OK
    assert judge_round(log.contract, PLAN.hash, 8) is ReplyCode.CAMPAIGN_STOPPED
    log.add("bea", Limit(plan_hash=PLAN.hash, last_round=0, reason="enough"))
    assert answer() is ReplyCode.CAMPAIGN_STOPPED


def test_other_client_code_is_refused() -> None:
    plan = small_plan(client_version="9.9.9")
    log = Log().start(plan)
    assert judge_campaign(log.contract, plan.hash, now=AT) is ReplyCode.CLIENT_VERSION


def test_an_unlimited_round_and_a_noisier_plan_are_fine() -> None:
    plan = small_plan(
        subject=SubjectMechanism(clip_norm=Decimal("0.1"), noise_multiplier=Decimal(9))
    )
    log = Log().start(plan)
    assert judge_round(log.contract, plan.hash, 20) is ReplyCode.OK
    assert plan_of(log.contract, plan.hash) == plan
