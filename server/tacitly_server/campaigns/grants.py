"""Grants on the server: written and renewed while the officers' log lets a campaign run.

    permits = Grants.open(home, plan)
    permits(round_number)          # Permit, or the Ending that the campaign has come to

A grant is good for `GRANT_HOURS`, or what policy allows if that is less, and is renewed at half
its life. Nothing is renewed for a campaign that may not run: what devices hold then dies by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tacitly_common.accounting.caps import Caps
from tacitly_common.campaign import CampaignPlan
from tacitly_common.contract.grant import SignedGrant, issue, judge_grant, parse_grant
from tacitly_common.contract.judge import judge_campaign, judge_round
from tacitly_common.contract.log import Contract
from tacitly_common.contract.policy import Policy
from tacitly_common.contract.signatures import public_hex, read_private_pem
from tacitly_common.errors import ValidationError
from tacitly_common.wire.codes import ReplyCode
from tacitly_server.campaigns.officers_log import OfficersLog
from tacitly_server.home import CampaignDirectory, ServerHome
from tacitly_server.private_files import read_private, write_private
from tacitly_server.rounds.permit import Ending, Permit, caps_of

GRANT_HOURS: Final = 12

_ENDINGS: Final = {
    ReplyCode.CAMPAIGN_STOPPED: Ending.STOPPED,
    ReplyCode.CAMPAIGN_EXPIRED: Ending.EXPIRED,
    ReplyCode.PLAN_NOT_APPROVED: Ending.NOT_APPROVED,
}


@dataclass(slots=True)
class Grants:
    """The permits of one campaign, by the officers' log as it is at each call."""

    plan: CampaignPlan
    directory: CampaignDirectory
    log: OfficersLog
    key: Ed25519PrivateKey
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _contract: Contract | None = None
    _caps: tuple[Policy, Caps] | None = None

    @classmethod
    def open(cls, home: ServerHome, plan: CampaignPlan) -> Self:
        """Of a campaign that is filed in `home`.

        Raises:
            ValidationError: there is no grant key, or others can read it.
        """
        key = read_private_pem(read_private(home.grant_key), source=home.grant_key)
        return cls(plan, home.campaign(plan.hash), OfficersLog(home.officers_log), key)

    def __call__(self, round_number: int) -> Permit | Ending:
        """The permit for a round with a grant that devices take, or why there is none.

        Raises:
            ValidationError: there is no log, or it names another grant key than this server's.
            ContractError: the log was altered.
            OSError: the grant cannot be written.
        """
        contract = self._contract = self.log.later(self._contract)
        code = judge_campaign(contract, self.plan.hash, now=self.now())
        if code is not ReplyCode.OK:
            return _ENDINGS.get(code, Ending.REFUSED)
        if judge_round(contract, self.plan.hash, round_number) is not ReplyCode.OK:
            return Ending.LIMITED
        return Permit(self._grant(contract).to_json(), self._caps_by(contract.policy))

    def _grant(self, contract: Contract) -> SignedGrant:
        """The one in hand, or a new one if that is half used up, or policy or key have changed."""
        now = self.now()
        held = self._held()
        if held is not None and self._fresh(held, contract, now):
            return held
        if contract.grant_key != public_hex(self.key):
            raise ValidationError(
                f"the officers' log names the grant key {contract.grant_key[:16]}..., this "
                f"server's is {public_hex(self.key)}; put the old grant.key back, or have "
                "`tacitly-officer key change-grant` approved"
            )
        hours = min(GRANT_HOURS, contract.policy.maximum_grant_hours)
        renewed = issue(self.plan, self.key, now=now, hours=hours)
        write_private(self.directory.grant, renewed.to_json())
        return renewed

    def _held(self) -> SignedGrant | None:
        try:
            return parse_grant(self.directory.grant.read_bytes())
        except FileNotFoundError:
            return None

    def _fresh(self, held: SignedGrant, contract: Contract, now: datetime) -> bool:
        code = judge_grant(held, self.plan, contract.policy, grant_key=contract.grant_key, now=now)
        issued, expires = held.grant.issued_at, held.grant.expires_at
        return code is ReplyCode.OK and issued <= now < issued + (expires - issued) / 2

    def _caps_by(self, policy: Policy) -> Caps:
        """What policy and plan let a campaign take, computed once for each policy."""
        if self._caps is None or self._caps[0] is not policy:
            self._caps = (policy, caps_of(self.plan, policy))
        return self._caps[1]
