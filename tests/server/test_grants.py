"""Grants on the server: hours long, renewed while the officers' log lets the campaign run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from campaign_home import CampaignHome, make_home

from agreement import approve, begin_log, change_policy, sign, stop
from officers import STRANGER, lax_policy
from tacitly_common.contract.acts import Approve, ContractError, ProposeChange
from tacitly_common.contract.grant import Grant, judge_grant, parse_grant
from tacitly_common.contract.signatures import private_pem, public_hex
from tacitly_common.errors import ValidationError
from tacitly_common.wire.codes import ReplyCode
from tacitly_server.campaigns.grants import GRANT_HOURS, Grants
from tacitly_server.campaigns.officers_log import OfficersLog
from tacitly_server.rounds.permit import Ending, Permit

BEGIN = datetime(2027, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass
class Office:
    """A server with a started campaign, and a clock."""

    made: CampaignHome
    now: datetime = BEGIN
    grants: Grants = field(init=False)

    def __post_init__(self) -> None:
        self.reopen()

    def reopen(self) -> None:
        """As another process does."""
        self.grants = Grants.open(self.made.home, self.made.plan)
        self.grants.now = lambda: self.now

    def grant(self, round_number: int = 1) -> Grant:
        permit = self.grants(round_number)
        assert isinstance(permit, Permit)
        signed = parse_grant(permit.grant)
        assert signed is not None
        contract = OfficersLog(self.made.home.officers_log).contract()
        assert self.made.directory.grant.read_bytes() == permit.grant
        assert ReplyCode.OK is judge_grant(
            signed,
            self.made.plan,
            contract.policy,
            grant_key=contract.grant_key,
            now=self.now,
        )
        return signed.grant


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(make_home(tmp_path))


def test_a_grant_is_kept_for_half_its_life_and_then_renewed(office: Office) -> None:
    first = office.grant()
    assert first.expires_at == BEGIN + GRANT_HOURS * HOUR
    office.now = BEGIN + GRANT_HOURS / 2 * HOUR - timedelta(seconds=1)
    assert office.grant() == first
    office.reopen()
    assert office.grant() == first
    office.now += timedelta(seconds=1)
    renewed = office.grant()
    assert (renewed.issued_at, renewed.expires_at) == (office.now, office.now + GRANT_HOURS * HOUR)


def test_it_is_renewed_forever_while_the_campaign_may_run(office: Office) -> None:
    for _ in range(50):
        office.now += 5 * HOUR
        assert office.grant().expires_at > office.now + 5 * HOUR


def test_it_is_no_longer_than_policy_allows(office: Office) -> None:
    long = office.grant()
    change_policy(office.made.home, lax_policy(maximum_grant_hours=3))
    short = office.grant()
    assert long.expires_at - long.issued_at == GRANT_HOURS * HOUR
    assert short.expires_at - short.issued_at == 3 * HOUR


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"2027', b'"2026')),
    ],
    ids=["lost", "torn", "forged"],
)
def test_another_takes_the_place_of_one_that_is_no_good(
    office: Office, spoil: Callable[[Path], object]
) -> None:
    office.grant()
    spoil(office.made.directory.grant)
    office.now += HOUR
    assert office.grant().issued_at == office.now


def test_a_clock_put_back_gives_a_new_one(office: Office) -> None:
    office.grant()
    office.now = BEGIN - timedelta(days=400)
    assert office.grant().issued_at == office.now


def test_nothing_is_renewed_for_a_campaign_that_was_stopped(office: Office) -> None:
    office.grant()
    held = office.made.directory.grant.read_bytes()
    stop(office.made.home, office.made.plan)
    office.now = BEGIN + 11 * HOUR
    assert office.grants(1) is Ending.STOPPED
    assert office.made.directory.grant.read_bytes() == held


def test_there_is_none_before_the_start(tmp_path: Path) -> None:
    office = Office(make_home(tmp_path))
    office.made.home.officers_log.unlink()
    begin_log(office.made.home)
    office.reopen()
    approve(office.made.home, office.made.plan)
    assert office.grants(1) is Ending.STOPPED
    assert not office.made.directory.grant.exists()


def test_a_limit_is_for_later_rounds_only(office: Office) -> None:
    stop(office.made.home, office.made.plan, after_round=5)
    assert isinstance(office.grants(5), Permit)
    assert office.grants(6) is Ending.LIMITED


def test_a_key_that_officers_do_not_know_signs_nothing(office: Office) -> None:
    office.made.home.grant_key.write_bytes(private_pem(STRANGER))
    office.reopen()
    with pytest.raises(ValidationError, match="names the grant key"):
        office.grants(1)
    assert not office.made.directory.grant.exists()

    proposal = sign(office.made.home, "ada", ProposeChange(grant_key=public_hex(STRANGER))).hash
    for name in ("bea", "cyn"):
        sign(office.made.home, name, Approve(proposal=proposal))
    office.grant()


def test_a_log_that_was_altered_gives_no_permit(office: Office) -> None:
    office.grant()
    log = office.made.home.officers_log
    log.write_bytes(
        log.read_bytes().replace(b'"organisation":"Example"', b'"organisation":"Exampla"')
    )
    office.reopen()
    with pytest.raises(ContractError, match="entry 1"):
        office.grants(1)
