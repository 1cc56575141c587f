"""Receipts on a real disk: what stands, what does not, and what damage does."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homes import agree
from officers import AT, Log, genesis, lax_policy
from plans import small_plan
from tacitly_client import asking
from tacitly_client.asking import capture_asked
from tacitly_client.campaigns import join, joined_plan, leave
from tacitly_client.choices import exclude, set_level
from tacitly_client.consent import (
    Asked,
    capture_consent,
    consent_stands,
    give,
    read_receipts,
    takes_part,
    withdraw,
)
from tacitly_client.contract_store import ContractStore
from tacitly_client.home import AgentHome
from tacitly_client.notice import Language, notice_hash
from tacitly_client.redaction import ContentLevel
from tacitly_common.contract.acts import begin
from tacitly_common.errors import ValidationError

PLAN = small_plan()
OTHER = small_plan(name="other")
LATER = datetime(2026, 12, 1, tzinfo=UTC)


def enrolled(root: Path) -> AgentHome:
    home = AgentHome(root)
    root.mkdir(mode=0o700, parents=True)
    agree(home, Log().start(PLAN))
    return home


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    return enrolled(tmp_path / "home")


def ask(home: AgentHome, **levels: ContentLevel) -> Asked:
    return capture_asked(home, Language.EN, applications=levels)


def agreed(home: AgentHome, **levels: ContentLevel) -> Asked:
    asked = ask(home, **levels)
    asking.agree(home, asked, now=AT)
    return asked


def test_nothing_stands_before_anybody_was_asked(home: AgentHome) -> None:
    assert consent_stands(home) is None
    assert read_receipts(home) == []
    assert not takes_part(home, PLAN.hash)


def test_what_was_agreed_to_is_kept_with_its_text(home: AgentHome) -> None:
    asked = agreed(home, gedit=ContentLevel.CHARACTERS)
    receipt = consent_stands(home)
    assert receipt == read_receipts(home)[0]
    assert receipt is not None
    assert receipt.given_at == AT
    assert receipt.purposes == lax_policy().purposes
    assert receipt.applications == {"gedit": ContentLevel.CHARACTERS}
    kept = home.notices / f"{receipt.notice_sha256}.txt"
    assert kept.read_text() == asked.text
    assert receipt.notice_sha256 == notice_hash(asked.text)
    assert home.consent.stat().st_mode & 0o777 == 0o600


def test_consent_can_be_withdrawn_and_given_again(home: AgentHome) -> None:
    agreed(home)
    (withdrawn,) = withdraw(home, now=LATER)
    assert withdrawn.given_at == AT
    assert capture_consent(home).why_not == "you have withdrawn it"
    assert withdraw(home, now=LATER) == []
    agreed(home)
    assert consent_stands(home) is not None
    assert [receipt.stands for receipt in read_receipts(home)] == [True, False, True]


def test_withdrawing_ends_campaigns_too_and_leaving_one_leaves_capture(home: AgentHome) -> None:
    agreed(home)
    join(home, PLAN, "asked", now=AT)
    assert leave(home, now=LATER)
    assert consent_stands(home) is not None
    assert joined_plan(home) is None
    join(home, PLAN, "asked", now=AT)
    assert takes_part(home, PLAN.hash)
    assert len(withdraw(home, now=LATER)) == 2
    assert consent_stands(home) is None
    assert not takes_part(home, PLAN.hash)
    assert joined_plan(home) is None


def test_a_plan_without_its_receipt_is_not_joined(home: AgentHome) -> None:
    home.plan.write_bytes(PLAN.to_json())
    assert joined_plan(home) is None
    join(home, PLAN, "asked", now=AT)
    assert joined_plan(home) == PLAN
    home.plan.write_bytes(OTHER.to_json())
    assert joined_plan(home) is None


def test_joining_twice_gives_one_receipt(home: AgentHome) -> None:
    join(home, PLAN, "asked", now=AT)
    join(home, PLAN, "asked", now=LATER)
    (receipt,) = read_receipts(home)
    assert (receipt.plan_hash, receipt.purposes) == (PLAN.hash, (PLAN.purpose,))


@pytest.mark.parametrize(
    "changes",
    [
        {"lifetime_epsilon": Decimal(999)},
        {"purposes": ("next-interaction",)},
        {"minimum_cohort": 3},
        {"contact": "somebody@example.org"},
        {"workers_informed": "WA-2"},
    ],
)
def test_a_change_of_what_the_notice_says_asks_again(
    home: AgentHome, tmp_path: Path, changes: dict[str, object]
) -> None:
    agreed(home)
    log = Log([begin(genesis(policy=lax_policy(**changes)), at=AT)])
    ContractStore(home).begin(log.lines, genesis=log.entries[0].hash)
    assert consent_stands(home) is None  # another log than was pinned
    agree(home, log)
    assert capture_consent(home).why_not == "the notice has changed since you agreed to it"
    agreed(home)
    assert consent_stands(home) is not None


def test_a_change_that_the_notice_does_not_state_asks_nobody(home: AgentHome) -> None:
    agreed(home)
    agree(home, Log([begin(genesis(policy=lax_policy(maximum_clip_norm=Decimal(7))), at=AT)]))
    assert consent_stands(home) is not None


def test_more_than_was_agreed_to_asks_again_and_less_does_not(home: AgentHome) -> None:
    agreed(home, gedit=ContentLevel.WORDS)
    set_level(home, "gedit", ContentLevel.CLASSES)
    set_level(home, "mail", ContentLevel.COUNTS)
    exclude(home, "signal")
    assert consent_stands(home) is not None
    set_level(home, "mail", ContentLevel.CHARACTERS)
    assert "mail" in capture_consent(home).why_not
    agreed(home)
    assert consent_stands(home) is not None


def test_a_lower_default_covers_no_higher_one(home: AgentHome) -> None:
    asking.agree(home, capture_asked(home, Language.EN, level=ContentLevel.COUNTS), now=AT)
    assert consent_stands(home) is not None
    home.choices.unlink()  # the default is classes
    assert "the default" in capture_consent(home).why_not


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_damage_is_no_consent(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    home = enrolled(tmp_path_factory.mktemp("damage") / "home")
    agreed(home)
    join(home, PLAN, "asked", now=AT)
    content = home.consent.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    cut = data.draw(st.booleans())
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
    changed = content[:place] if cut else content[:place] + bytes([other]) + content[place + 1 :]
    home.consent.write_bytes(changed)
    if cut and changed in (b"", content.splitlines(keepends=True)[0]):
        assert not takes_part(home, PLAN.hash)  # an older copy, which is sound
        return
    assert consent_stands(home) is None
    assert not takes_part(home, PLAN.hash)
    # What is damaged can be withdrawn and replaced, and stays there to be looked at.
    assert withdraw(home, now=LATER) == []
    agreed(home)
    assert consent_stands(home) is not None
    (aside,) = home.person.glob("consent.damaged-*")
    assert aside.read_bytes() == changed


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can grow."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_a_full_disk_keeps_nobody_from_withdrawing_and_gives_no_consent(home: AgentHome) -> None:
    with full_disk(), pytest.raises(OSError, match="File too large"):
        give(home, ask(home), now=AT)
    assert consent_stands(home) is None
    agreed(home)
    join(home, PLAN, "asked", now=AT)
    receipts = home.consent.read_bytes()
    with full_disk():
        withdraw(home, now=LATER)
    assert consent_stands(home) is None
    assert joined_plan(home) is None
    assert (home.person / "consent.withdrawn.jsonl").read_bytes() == receipts


def test_without_enrolment_nobody_can_be_asked(tmp_path: Path) -> None:
    home = AgentHome(tmp_path)
    with pytest.raises(ValidationError, match="tacitly-agent enrol"):
        ask(home)
    assert consent_stands(home) is None
