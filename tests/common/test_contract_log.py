"""The officers' log: who may do what, and that nothing in it can be changed afterwards."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from officers import AT, GRANT_KEY, KEYS, STRANGER, Log, genesis, lax_policy
from plans import small_plan
from tacitly_common.contract.acts import (
    Act,
    Approve,
    ConflictError,
    ContractError,
    Genesis,
    Limit,
    NotAuthorisedError,
    Officer,
    ProposeChange,
    ProposePlan,
    Revoke,
    Start,
    begin,
    parse_entry,
    rotation,
    signed,
)
from tacitly_common.contract.log import advance, read_log
from tacitly_common.contract.signatures import public_hex
from tacitly_common.errors import ValidationError
from tacitly_common.wire.codes import ReplyCode

PLAN = small_plan()


def approved_log() -> Log:
    return Log().start(PLAN)


def refused(log: Log, code: ReplyCode, kind: type[ContractError] = ContractError) -> str:
    """The log's last entry is refused, with this code; what the error says."""
    before = Log(log.entries[:-1]).contract
    with pytest.raises(kind) as caught:
        advance(before, log.entries[-1])
    assert caught.value.code is code
    with pytest.raises(ContractError, match=f"entry {len(log.entries) - 1}: "):
        read_log(log.lines)
    return str(caught.value)


def test_two_officers_besides_the_proposer_approve_a_plan() -> None:
    log = Log()
    proposal = log.propose(PLAN)
    for name, approved in (("bea", False), ("cyn", True)):
        log.add(name, Approve(proposal=proposal))
        assert log.contract.approved(PLAN.hash) is approved
    assert log.contract.approvers(PLAN.hash) == {"bea", "cyn"}


def test_a_log_survives_being_written_and_read() -> None:
    log = approved_log()
    contract = read_log(log.lines, genesis=log.entries[0].hash)
    assert contract == log.contract
    assert contract.campaigns[PLAN.hash].started
    assert (contract.length, contract.head) == (5, log.entries[-1].hash)


def test_the_proposer_cannot_approve_and_nobody_can_twice() -> None:
    log = Log()
    proposal = log.propose(PLAN)
    log.add("ada", Approve(proposal=proposal))
    assert "ada made this proposal" in refused(log, ReplyCode.SAME_OFFICER_TWICE, ConflictError)
    log.entries.pop()
    log.add("bea", Approve(proposal=proposal))
    log.add("bea", Approve(proposal=proposal))
    assert "bea has approved" in refused(log, ReplyCode.SAME_OFFICER_TWICE, ConflictError)


def test_an_unapproved_plan_cannot_be_started() -> None:
    log = Log()
    log.add("bea", Approve(proposal=log.propose(PLAN)))
    log.add("cyn", Start(plan_hash=PLAN.hash))
    assert "1 of 2 approvals" in refused(log, ReplyCode.PLAN_NOT_APPROVED)


@pytest.mark.parametrize("signer", ["cyn", "ada", "eve"])
def test_a_revoked_officer_and_a_stranger_do_nothing(signer: str) -> None:
    log = Log()
    log.add("dan", Revoke(officer="cyn", reason="left"))
    log.add("dan", Revoke(officer="ada", reason="lost the key"))
    log.add(signer, ProposePlan(plan="{}"), key=KEYS.get(signer, STRANGER))
    refused(log, ReplyCode.OFFICER_NOT_ACTIVE, NotAuthorisedError)


def test_approvals_of_an_officer_revoked_later_count_no_more() -> None:
    log = approved_log()
    log.add("dan", Revoke(officer="bea", reason="lost the key"))
    assert log.contract.approvers(PLAN.hash) == {"cyn"}
    assert not log.contract.approved(PLAN.hash)
    log.add("dan", Approve(proposal=log.entries[1].hash))
    assert log.contract.approved(PLAN.hash)


def test_one_officer_alone_stops_and_lowers_and_nobody_raises_again() -> None:
    log = approved_log()
    for said, holds in ((7, 7), (9, 7), (0, 0), (3, 0)):
        log.add("bea", Limit(plan_hash=PLAN.hash, last_round=said, reason="seen enough"))
        assert log.contract.campaigns[PLAN.hash].last_round == holds


def test_a_rotated_key_signs_and_the_old_one_no_longer() -> None:
    log = approved_log()
    log.add("bea", rotation("bea", STRANGER))
    assert log.contract.approved(PLAN.hash)
    log.add("bea", Limit(plan_hash=PLAN.hash, last_round=1, reason="less"), key=STRANGER)
    assert log.contract.campaigns[PLAN.hash].last_round == 1
    log.add("bea", Start(plan_hash=PLAN.hash), key=KEYS["bea"])
    refused(log, ReplyCode.LOG_FORGED, NotAuthorisedError)


def test_a_rotation_needs_the_new_key_s_proof_and_a_key_nobody_had() -> None:
    log = Log()
    log.add("bea", msgspec.structs.replace(rotation("bea", STRANGER), proof="0" * 128))
    refused(log, ReplyCode.LOG_FORGED)
    log.entries.pop()
    log.add("bea", rotation("cyn", STRANGER))
    refused(log, ReplyCode.LOG_FORGED)
    log.entries.pop()
    log.add("bea", rotation("bea", KEYS["cyn"]))
    refused(log, ReplyCode.SAME_OFFICER_TWICE, ConflictError)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (
            ProposeChange(officer=Officer(name="eve", public_key=public_hex(STRANGER))),
            lambda contract: contract.officers["eve"].active,
        ),
        (
            ProposeChange(policy=lax_policy(minimum_cohort=50)),
            lambda contract: contract.policy.minimum_cohort == 50,
        ),
        (
            ProposeChange(grant_key=public_hex(STRANGER)),
            lambda contract: contract.grant_key == public_hex(STRANGER),
        ),
    ],
)
def test_a_change_takes_effect_with_the_second_approval(change, seen) -> None:
    log = Log()
    before = log.contract
    proposal = log.add("ada", change).hash
    log.add("bea", Approve(proposal=proposal))
    unchanged = log.contract
    assert (unchanged.policy, unchanged.grant_key) == (before.policy, before.grant_key)
    assert unchanged.officers == before.officers
    log.add("cyn", Approve(proposal=proposal))
    assert seen(log.contract)
    log.add("dan", Approve(proposal=proposal))
    assert seen(log.contract)


def test_a_change_counts_only_officers_who_are_active_when_it_takes_effect() -> None:
    log = Log()
    proposal = log.add("ada", ProposeChange(policy=lax_policy(minimum_cohort=50))).hash
    log.add("bea", Approve(proposal=proposal))
    log.add("cyn", Revoke(officer="bea", reason="left"))
    log.add("cyn", Approve(proposal=proposal))
    assert log.contract.policy.minimum_cohort == 2
    log.add("dan", Approve(proposal=proposal))
    assert log.contract.policy.minimum_cohort == 50


def test_one_key_never_becomes_two_officers() -> None:
    log = Log()
    log.add("ada", ProposeChange(officer=Officer(name="eve", public_key=public_hex(KEYS["bea"]))))
    refused(log, ReplyCode.SAME_OFFICER_TWICE, ConflictError)
    log.entries.pop()
    log.add("ada", ProposeChange(officer=Officer(name="bea", public_key=public_hex(STRANGER))))
    refused(log, ReplyCode.LOG_FORGED, ConflictError)
    with pytest.raises(ValidationError, match="share a name or a key"):
        genesis(officers=(*genesis().officers, Officer(name="eve", public_key="ab" * 32)) * 2)


def test_three_officers_are_the_fewest() -> None:
    with pytest.raises(ValidationError, match="name at least 3"):
        genesis(officers=genesis().officers[:2])


@pytest.mark.parametrize(
    ("signer", "act", "code"),
    [
        ("bea", Approve(proposal="0" * 64), ReplyCode.LOG_FORGED),
        ("bea", Start(plan_hash="0" * 64), ReplyCode.UNKNOWN_PLAN),
        ("bea", Limit(plan_hash="0" * 64, last_round=0, reason="x"), ReplyCode.UNKNOWN_PLAN),
        ("bea", Revoke(officer="eve", reason="x"), ReplyCode.LOG_FORGED),
        ("bea", ProposePlan(plan=PLAN.to_json().decode()), ReplyCode.LOG_FORGED),
        ("bea", genesis(), ReplyCode.LOG_FORGED),
    ],
)
def test_an_act_without_its_object_is_refused(signer: str, act: Act, code: ReplyCode) -> None:
    log = approved_log()
    log.add(signer, act)
    refused(log, code)


def test_entries_cannot_be_left_out_repeated_or_reordered() -> None:
    lines = approved_log().lines
    assert read_log(lines[:-1])
    for broken in (
        [*lines[:2], *lines[3:]],
        [*lines, lines[-1]],
        [lines[0], lines[2], lines[1], *lines[3:]],
        lines[1:],
        [],
    ):
        with pytest.raises(ContractError) as caught:
            read_log(broken)
        assert caught.value.code is ReplyCode.LOG_FORGED


def test_another_beginning_than_the_pinned_one_is_refused() -> None:
    lines = [begin(genesis(organisation="Example, forged"), at=AT).to_json()]
    with pytest.raises(ContractError, match="the log begins with"):
        read_log(lines, genesis=Log().entries[0].hash)


def test_a_genesis_that_somebody_signed_is_none() -> None:
    first = Log().entries[0]
    with pytest.raises(ContractError, match="does not begin with a genesis"):
        advance(None, signed(first.statement, GRANT_KEY))


@given(data=st.data())
def test_one_flipped_byte_anywhere_is_found_at_its_entry(data: st.DataObject) -> None:
    lines = approved_log().lines
    number = data.draw(st.integers(0, len(lines) - 1))
    line = bytearray(lines[number])
    place = data.draw(st.integers(0, len(line) - 1))
    line[place] ^= data.draw(st.integers(1, 255))
    broken = [*lines[:number], bytes(line), *lines[number + 1 :]]
    with pytest.raises(ContractError) as caught:
        read_log(broken, genesis=Log().entries[0].hash)
    # A first entry has no signature: the pin, or what follows, tells.
    assert f"entry {number}: " in str(caught.value) or number == 0


def test_what_is_no_canonical_entry_is_none() -> None:
    line = Log().lines[0]
    for broken in (b"", b"{}", b"\xff", line + b" ", line.replace(b'":', b'": ', 1)):
        with pytest.raises(ContractError, match="entry"):
            parse_entry(broken)


def test_a_contract_is_a_value() -> None:
    contract = Log().contract
    assert replace(contract) == contract
    assert isinstance(Log().entries[0].statement.act, Genesis)
