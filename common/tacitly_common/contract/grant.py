"""A grant: the server's signed word, good for hours, that a campaign may run on these terms.

It restates the terms of the plan it is for. A device compares each with the plan that two
officers approved, so that a server whose configuration has slipped, or that lies, is refused by
name, and what it signed is evidence.

    signed = issue(plan, key, now=now, hours=12)
    judge_grant(signed, plan, policy, grant_key=..., now=now)   # OK, or why not
"""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tacitly_common.campaign import CampaignPlan
from tacitly_common.contract.policy import Policy
from tacitly_common.contract.signatures import SignatureError, sign, verify
from tacitly_common.errors import UNDECODABLE
from tacitly_common.validation import in_range, non_negative, utc
from tacitly_common.wire.codes import ReplyCode

MOST_GRANT_BYTES: Final = 2_048
_GRANT: Final = "grant"
# A device's clock may be behind the server's by this much.
_SKEW: Final = timedelta(minutes=10)


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The terms, and when they hold."""

    plan_hash: str
    purpose: str
    noise_multiplier: Decimal
    clip_norm: Decimal
    cohort_minimum: int
    outputs: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime

    def __post_init__(self) -> None:
        utc(issued_at=self.issued_at, expires_at=self.expires_at)
        # What is no number compares with nothing.
        non_negative(noise_multiplier=self.noise_multiplier, clip_norm=self.clip_norm)

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return msgspec.json.encode(self, order="sorted")


class SignedGrant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A grant with the signature of the server's grant key."""

    grant: Grant
    signature: str

    def to_json(self) -> bytes:
        """Canonical JSON: how it travels."""
        return msgspec.json.encode(self, order="sorted")


def issue(plan: CampaignPlan, key: Ed25519PrivateKey, *, now: datetime, hours: int) -> SignedGrant:
    """A grant of the plan's own terms, from `now` on."""
    in_range(1, 24 * 31, hours=hours)
    return sign_grant(
        Grant(
            plan_hash=plan.hash,
            purpose=plan.purpose,
            noise_multiplier=plan.subject.noise_multiplier,
            clip_norm=plan.subject.clip_norm,
            cohort_minimum=plan.cohort.minimum,
            outputs=tuple(plan.outputs),
            issued_at=now,
            expires_at=now + timedelta(hours=hours),
        ),
        key,
    )


def sign_grant(grant: Grant, key: Ed25519PrivateKey) -> SignedGrant:
    """Whatever terms a server wants to put its name to."""
    return SignedGrant(grant=grant, signature=sign(key, _GRANT, grant.to_json()))


def parse_grant(document: bytes) -> SignedGrant | None:
    """A grant from the wire; None if it is none."""
    if len(document) > MOST_GRANT_BYTES:
        return None
    try:
        return msgspec.json.decode(document, type=SignedGrant)
    except UNDECODABLE:
        return None


def judge_grant(
    signed: SignedGrant | None,
    plan: CampaignPlan,
    policy: Policy,
    *,
    grant_key: str,
    now: datetime,
) -> ReplyCode:
    """OK if the grant lets `plan` run at `now`, by this device's own clock.

    | refused because                                                | code             |
    |----------------------------------------------------------------|------------------|
    | there is none, it is not the server's, or another plan's       | GRANT_INVALID    |
    | it is over, not yet begun, or for longer than policy allows    | GRANT_EXPIRED    |
    | its terms are worse than the plan's                            | their own codes  |
    | its terms are better than the plan's: not what was approved    | GRANT_INVALID    |
    """
    if signed is None or signed.grant.plan_hash != plan.hash:
        return ReplyCode.GRANT_INVALID
    grant = signed.grant
    try:
        verify(grant_key, _GRANT, grant.to_json(), signed.signature)
    except SignatureError:
        return ReplyCode.GRANT_INVALID
    longest = timedelta(hours=policy.maximum_grant_hours)
    if not grant.issued_at - _SKEW <= now < grant.expires_at <= grant.issued_at + longest:
        return ReplyCode.GRANT_EXPIRED
    return _judge_terms(grant, plan)


def _judge_terms(grant: Grant, plan: CampaignPlan) -> ReplyCode:
    if grant.purpose != plan.purpose:
        return ReplyCode.OTHER_PURPOSE
    if grant.outputs != tuple(plan.outputs):
        return ReplyCode.UNKNOWN_OUTPUT
    if not grant.noise_multiplier >= plan.subject.noise_multiplier:
        return ReplyCode.NOISE_TOO_LOW
    if not grant.clip_norm <= plan.subject.clip_norm:
        return ReplyCode.CLIP_TOO_LARGE
    if grant.cohort_minimum < plan.cohort.minimum:
        return ReplyCode.COHORT_TOO_SMALL
    stated = (grant.noise_multiplier, grant.clip_norm, grant.cohort_minimum)
    agreed = (plan.subject.noise_multiplier, plan.subject.clip_norm, plan.cohort.minimum)
    return ReplyCode.OK if stated == agreed else ReplyCode.GRANT_INVALID
