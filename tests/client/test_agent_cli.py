"""`tacitly-agent` as a person types it, at a real desk over TLS."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from click.testing import CliRunner, Result

import scripted_desk
from device_ledgers import charge
from homes import training_plan
from officers import Log, genesis, lax_policy
from scripted_desk import Desk
from tacitly_client.campaigns import (
    JoinedAnotherError,
    NotApprovedError,
    UnsoundCampaignError,
)
from tacitly_client.cli import cli
from tacitly_client.contract_store import ContractStore
from tacitly_client.device_identity import CertificateError
from tacitly_client.enrolment import AlreadyEnrolledError
from tacitly_client.home import AgentHome, read_enrolment, read_settings
from tacitly_client.ledger import AttemptKey, DeviceLedger
from tacitly_client.store import EventStore
from tacitly_common.accounting.record import epsilon_of_rdp
from tacitly_common.accounting.subject import cap_nano_rho, shown_epsilon
from tacitly_common.campaign import CampaignPlan, Level, read_plan, revise
from tacitly_common.contract.acts import Approve, ContractError, Limit, Start, begin
from tacitly_common.errors import BudgetExceededError, LedgerError, ValidationError
from tacitly_common.events import Event, EventKind, to_json_line
from tacitly_common.wire.desk_errors import DeskError, DeskNotAuthorisedError
from tacitly_common.wire.desk_pb2 import EnrolResponse
from tacitly_server import certificates

SECOND_NS = 10**9
PLAN = training_plan()


def recording(text: str) -> bytes:
    return b"\n".join(
        to_json_line(Event(EventKind.KEY_DOWN, i * SECOND_NS, i * SECOND_NS, key=character))
        for i, character in enumerate(text)
    )


@dataclass
class Site:
    """An organisation: its desk, the log its officers have written, and one person's machine."""

    desk: Desk
    log: Log
    ca: Path
    home: Path

    @property
    def place(self) -> AgentHome:
        return AgentHome(self.home)

    def run(self, *arguments: str, stdin: bytes | None = None) -> Result:
        line = [arguments[0], "--home", str(self.home), *arguments[1:]]
        return CliRunner().invoke(cli, line, input=stdin)

    def enrol(self, *arguments: str, genesis_hash: str | None = None) -> Result:
        invitation = self.desk.invitation(
            "host:8000", self.ca, genesis_hash or self.log.entries[0].hash
        )
        file = self.ca.with_name("my.invitation")
        file.write_bytes(invitation.to_json())
        return self.run("enrol", str(file), *arguments)

    def publish(self) -> None:
        """What the officers have written is what the desk serves."""
        self.desk.lines = self.log.lines

    def files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.home.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("server") / "tls"
    certificates.create(made, ["127.0.0.1"], now=datetime.now(UTC))
    return made


@pytest.fixture
def site(tls: Path, tmp_path: Path) -> Iterator[Site]:
    """An organisation with one running campaign; nobody is enrolled."""
    ca = tmp_path / "ca.crt"
    ca.write_bytes((tls / "ca.crt").read_bytes())
    log = Log().start(PLAN)
    with scripted_desk.running(tls, log.lines) as desk:
        yield Site(desk, log, ca, tmp_path / "agent")


@pytest.fixture
def enrolled(site: Site) -> Site:
    result = site.enrol("--lifetime-epsilon", "4")
    assert result.exit_code == 0, result.output
    return site


@pytest.fixture
def joined(enrolled: Site) -> Site:
    assert enrolled.run("join", PLAN.hash, "--yes").exit_code == 0
    return enrolled


def test_the_list_of_commands_cuts_no_sentence_off() -> None:
    listed = CliRunner().invoke(cli, ["--help"], terminal_width=80).output.partition("Commands:")[2]
    assert "consent " in listed
    assert "..." not in listed


def test_enrolling_makes_keys_pins_the_log_and_joins_nothing(enrolled: Site) -> None:
    place = enrolled.place
    assert ContractStore(place).load() == enrolled.log.contract
    enrolment = read_enrolment(place)
    assert (enrolment.genesis, enrolment.node_id) == (enrolled.log.entries[0].hash, 42)
    settings = read_settings(place)
    assert settings.server == "host:8000"
    assert settings.lifetime_cap_nano_rho == cap_nano_rho(4.0, 1e-6)
    assert enrolled.home.stat().st_mode & 0o777 == 0o700
    for secret in (place.node_key, place.device_key):
        assert secret.stat().st_mode & 0o777 == 0o600
    assert not place.plan.exists()


def test_a_second_enrolment_is_refused_and_changes_nothing(enrolled: Site) -> None:
    before = enrolled.files()
    assert isinstance(enrolled.enrol().exception, AlreadyEnrolledError)
    assert AlreadyEnrolledError.exit_code == 6
    assert enrolled.files() == before


def test_a_token_that_is_not_good_is_refused_by_the_desk(site: Site) -> None:
    site.desk.refuses = (grpc.StatusCode.PERMISSION_DENIED, "the token was used")
    result = site.enrol()
    assert isinstance(result.exception, DeskNotAuthorisedError)
    assert result.exception.exit_code == 8
    assert not site.place.enrolment.exists()


def test_a_desk_that_does_not_answer_is_unreachable(site: Site) -> None:
    site.desk.address = "127.0.0.1:1"
    result = site.enrol()
    assert isinstance(result.exception, DeskError)
    assert result.exception.exit_code == 7


def test_a_log_of_another_beginning_is_refused_at_enrolment(site: Site) -> None:
    site.desk.lines = [begin(genesis(organisation="Evil"), at=datetime.now(UTC)).to_json()]
    result = site.enrol()
    assert isinstance(result.exception, ContractError)
    assert result.exception.exit_code == 5
    assert not site.place.enrolment.exists()


def another_key(response: EnrolResponse) -> None:
    response.certificate = response.authority


def another_node(response: EnrolResponse) -> None:
    response.node_id += 1


def no_certificate(response: EnrolResponse) -> None:
    response.certificate = b"x"


@pytest.mark.parametrize("spoil", [another_key, another_node, no_certificate])
def test_a_certificate_for_somebody_else_is_refused(site: Site, spoil: Any) -> None:
    site.desk.spoil = spoil
    assert isinstance(site.enrol().exception, CertificateError)
    assert not site.place.enrolment.exists()


def test_an_enrolment_that_was_cut_off_goes_on_with_the_same_keys(site: Site) -> None:
    site.desk.spoil = no_certificate
    site.enrol()
    keys = site.place.node_key.read_bytes(), site.place.device_key.read_bytes()
    site.desk.spoil = lambda _response: None
    assert site.enrol().exit_code == 0
    assert (site.place.node_key.read_bytes(), site.place.device_key.read_bytes()) == keys


def test_campaigns_lists_what_is_asked_and_what_this_machine_answers(enrolled: Site) -> None:
    other = revise(PLAN, rounds=19)
    enrolled.log.add("bea", Approve(proposal=enrolled.log.propose(other)))
    enrolled.publish()
    document = json.loads(enrolled.run("campaigns", "--format", "json").stdout)
    assert document["schema_version"] == 1
    assert document["log_length"] == len(enrolled.log.lines)
    running, proposed = document["campaigns"]
    assert running["plan_hash"] == PLAN.hash
    assert running["approved_by"] == ["bea", "cyn"]
    assert running["answer"] == "NOT_JOINED"
    assert running["cap_nano_rho"] == PLAN.cap_nano_rho
    assert running["epsilon_worst_case"] == float(PLAN.worst_case.epsilon)
    assert (proposed["plan_hash"], proposed["answer"]) == (other.hash, "PLAN_NOT_APPROVED")
    table = enrolled.run("campaigns").stdout
    assert "bea, cyn" in " ".join(table.split())


def test_without_its_desk_campaigns_shows_what_was_known_and_says_so(enrolled: Site) -> None:
    enrolled.desk.refuses = (grpc.StatusCode.UNAVAILABLE, "closed")
    result = enrolled.run("campaigns", "--format", "json")
    assert result.exit_code == 0
    assert "as of the last refresh" in result.stderr
    assert len(json.loads(result.stdout)["campaigns"]) == 1


def test_join_shows_what_is_asked_in_words_and_asks(enrolled: Site) -> None:
    said = enrolled.run("join", PLAN.hash[:10], stdin=b"n\n")
    assert said.exit_code == 1
    assert not enrolled.place.plan.exists()
    for words in (
        "purpose      next-interaction; legal basis: consent",
        "agreed by    bea and cyn; proposed by ada",
        "what leaves  one model update a time",
        "at most 10 times",
        f"ε {shown_epsilon(PLAN.cost_nano_rho, 1e-6):.4f} a time, {PLAN.worst_case.epsilon} in all",
        "finds at most 21 of 100 who did",
        "your limits  ε 4.0000 for life, 0.0000 spent: room for 10 of 10 times",
        "until        2100-01-01",
    ):
        assert words in said.output
    assert enrolled.run("join", PLAN.hash[:10], stdin=b"y\n").exit_code == 0
    assert read_plan(enrolled.place.plan) == PLAN


def test_a_plan_that_only_one_has_approved_cannot_be_joined(enrolled: Site) -> None:
    other = revise(PLAN, rounds=19)
    enrolled.log.add("bea", Approve(proposal=enrolled.log.propose(other)))
    enrolled.publish()
    result = enrolled.run("join", other.hash, "--yes")
    assert isinstance(result.exception, NotApprovedError)
    assert result.exception.exit_code == 4
    assert "1 of 2 approvals" in str(result.exception)
    assert not enrolled.place.plan.exists()


def test_a_campaign_that_one_officer_has_stopped_cannot_be_joined(enrolled: Site) -> None:
    enrolled.log.add("dan", Limit(plan_hash=PLAN.hash, last_round=0, reason="enough"))
    enrolled.publish()
    result = enrolled.run("join", PLAN.hash, "--yes")
    assert isinstance(result.exception, NotApprovedError)
    assert "CAMPAIGN_STOPPED" in str(result.exception)


def understated(plan: CampaignPlan) -> CampaignPlan:
    worst = msgspec.structs.replace(plan.worst_case, epsilon=Decimal("0.5"))
    return msgspec.structs.replace(plan, worst_case=worst)


def other_model(plan: CampaignPlan) -> CampaignPlan:
    model = msgspec.structs.replace(plan.model, vocabulary_size=plan.model.vocabulary_size + 1)
    return revise(plan, model=model)


def other_vocabulary(plan: CampaignPlan) -> CampaignPlan:
    return revise(plan, tokens=msgspec.structs.replace(plan.tokens, vocabulary_version=99))


@pytest.mark.parametrize("spoil", [understated, other_model, other_vocabulary])
def test_a_plan_that_is_not_what_it_says_or_does_not_fit_cannot_be_joined(
    enrolled: Site, spoil: Any
) -> None:
    plan = spoil(PLAN)
    enrolled.log.start(plan)
    enrolled.publish()
    result = enrolled.run("join", plan.hash, "--yes")
    assert isinstance(result.exception, UnsoundCampaignError)
    assert result.exception.exit_code == 5
    assert not enrolled.place.plan.exists()


def test_a_plan_beyond_the_policy_cannot_be_joined(site: Site) -> None:
    site.log = Log([begin(genesis(policy=lax_policy(highest_level=Level.CLASSES)), at=_NOW)])
    site.log.start(PLAN)
    site.publish()
    assert site.enrol().exit_code == 0
    result = site.run("join", PLAN.hash, "--yes")
    assert isinstance(result.exception, UnsoundCampaignError)
    assert "BEYOND_POLICY" in str(result.exception)


_NOW = datetime(2026, 11, 1, tzinfo=UTC)


def test_the_stricter_of_the_persons_and_the_policys_limit_holds(site: Site) -> None:
    policy = lax_policy(lifetime_epsilon=Decimal(3), epoch_epsilon=Decimal(2))
    site.log = Log([begin(genesis(policy=policy), at=_NOW)]).start(PLAN)
    site.publish()
    assert site.enrol("--lifetime-epsilon", "4").exit_code == 0
    shown = json.loads(site.run("status", "--format", "json").stdout)
    assert shown["lifetime"]["cap_nano_rho"] == cap_nano_rho(3.0, 1e-6)
    assert shown["month_cap_nano_rho"] == cap_nano_rho(2.0, 1e-6)
    room = cap_nano_rho(2.0, 1e-6) // PLAN.cost_nano_rho
    assert f"room for {room} of 10 times" in site.run("join", PLAN.hash, "--yes").output


def test_without_room_for_one_participation_there_is_no_joining(site: Site) -> None:
    assert site.enrol("--lifetime-epsilon", "0.5").exit_code == 0
    result = site.run("join", PLAN.hash, "--yes")
    assert isinstance(result.exception, BudgetExceededError)
    assert result.exception.exit_code == 3
    assert not site.place.plan.exists()


def test_one_campaign_at_a_time(joined: Site) -> None:
    other = revise(PLAN, rounds=19)
    joined.log.start(other)
    joined.publish()
    assert isinstance(joined.run("join", other.hash, "--yes").exception, JoinedAnotherError)
    assert joined.run("join", PLAN.hash, "--yes").exit_code == 0
    assert joined.run("leave").output == "left\n"
    assert joined.run("join", other.hash, "--yes").exit_code == 0
    assert read_plan(joined.place.plan) == other


@pytest.mark.parametrize("beginning", ["", "f" * 64, PLAN.hash[:7]])
def test_a_campaign_must_be_named_well_enough(enrolled: Site, beginning: str) -> None:
    result = enrolled.run("join", "--yes", beginning)
    assert isinstance(result.exception, ValidationError)


def test_after_a_forged_log_nothing_can_be_joined_and_status_says_why(enrolled: Site) -> None:
    forged = Log(list(enrolled.log.entries))
    forged.add("dan", Start(plan_hash="f" * 64))
    enrolled.desk.lines = forged.lines
    result = enrolled.run("join", PLAN.hash, "--yes")
    assert isinstance(result.exception, ContractError)
    assert result.exception.exit_code == 5
    # Also without asking the desk again.
    enrolled.desk.refuses = (grpc.StatusCode.UNAVAILABLE, "closed")
    assert isinstance(enrolled.run("join", PLAN.hash, "--yes").exception, UnsoundCampaignError)
    assert "UNKNOWN_PLAN: the server's last word" in enrolled.run("status").output
    assert not enrolled.place.plan.exists()


def test_leave_without_a_campaign_says_so(enrolled: Site) -> None:
    assert enrolled.run("leave").output == "no campaign was joined\n"


def test_withdraw_tells_the_desk_erases_the_keys_and_keeps_what_was_spent(joined: Site) -> None:
    place = joined.place
    with DeviceLedger.open(place.ledger) as ledger:
        charge(ledger, AttemptKey(PLAN.hash, 1, 0))
    joined.run("replay", "-", stdin=recording("hello"))
    assert joined.run("withdraw", stdin=b"n\n").exit_code == 1
    assert joined.desk.withdrawn == []
    assert joined.run("withdraw", "--yes").exit_code == 0
    assert len(joined.desk.withdrawn) == 1
    for gone in (place.node_key, place.device_key, place.enrolment, place.plan, place.settings):
        assert not gone.exists()
    # Coming back with a new invitation finds the old ledger and store.
    assert joined.enrol().exit_code == 0
    with DeviceLedger.open(place.ledger) as ledger:
        assert ledger.attempts() == 1
    with EventStore.open(place.store) as store:
        assert store.count() == 5


def test_a_withdrawal_that_cannot_be_told_leaves_the_campaign_at_least(joined: Site) -> None:
    joined.desk.refuses = (grpc.StatusCode.UNAVAILABLE, "closed")
    assert isinstance(joined.run("withdraw", "--yes").exception, DeskError)
    assert not joined.place.plan.exists()
    joined.desk.refuses = None
    assert joined.run("withdraw", "--yes").exit_code == 0


def test_what_a_refresh_tells_the_desk_is_in_the_journal(joined: Site) -> None:
    with DeviceLedger.open(joined.place.ledger) as ledger:
        charge(ledger, AttemptKey(PLAN.hash, 1, 0))
        head = ledger.head().hash
    joined.desk.refreshes.clear()
    joined.run("campaigns")
    (request,) = joined.desk.refreshes
    said = (request.log_length, request.attempts, request.ledger_head)
    assert said == (len(joined.log.lines), 1, head)
    last = json.loads(joined.place.egress_journal.read_text().splitlines()[-1])
    assert (last["call"], last["bytes"]) == ("refresh", request.ByteSize())
    assert (last["log_length"], last["attempts"], last["ledger_head"]) == said


def test_replay_fills_the_store(enrolled: Site) -> None:
    assert enrolled.run("replay", "-", stdin=recording("hello")).output == "stored 5 events\n"
    with EventStore.open(enrolled.place.store) as store:
        assert "".join(event.key for event in store.events()) == "hello"


@pytest.mark.parametrize("bad", [b"s3cret", recording("ba")[::-1]])
def test_a_bad_recording_is_named_by_line_and_not_quoted(enrolled: Site, bad: bytes) -> None:
    result = enrolled.run("replay", "-", stdin=recording("ab") + b"\n" + bad)
    assert isinstance(result.exception, ValidationError)
    assert str(result.exception).startswith("line 3:")
    assert "s3cret" not in str(result.exception)


def test_a_recording_that_goes_back_in_time_is_refused(enrolled: Site) -> None:
    backwards = b"\n".join(reversed(recording("ab").split(b"\n")))
    result = enrolled.run("replay", "-", stdin=backwards)
    assert isinstance(result.exception, ValidationError)
    assert "line 2: goes back in time" in str(result.exception)


def test_status_shows_stored_joined_spent_and_sent(joined: Site) -> None:
    joined.run("replay", "-", stdin=recording("hello"))
    output = joined.run("status").output
    assert f"campaign          test (next-interaction), {PLAN.hash[:16]}" in output
    assert "approved by       bea, cyn; proposed by ada" in output
    assert "answers tasks     OK" in output
    assert "events stored     5 (encrypted, on this machine only)" in output
    assert "lifetime budget   ε 0.0000 of 4.0000" in output
    assert "a month's data    at most ε 4.0000" in output
    assert "record level      ε 0.0000" in output
    assert "hello" not in output


def test_status_before_joining_names_no_campaign(enrolled: Site) -> None:
    assert "campaign          none" in enrolled.run("status").output
    assert json.loads(enrolled.run("status", "--format", "json").stdout)["campaign"] is None


def test_status_shows_the_record_level_beside_the_person_level(joined: Site) -> None:
    with DeviceLedger.open(joined.place.ledger) as ledger:
        charge(ledger, AttemptKey(PLAN.hash, 1, 0))
        exact = epsilon_of_rdp(ledger.record_rdp(PLAN.hash), PLAN.delta)
    assert exact > 1
    shown = json.loads(joined.run("status", "--format", "json").stdout)
    assert exact <= shown["campaign"]["record_epsilon"] < exact + 2e-4
    assert shown["record_epsilon_all"] == shown["campaign"]["record_epsilon"]
    assert f"ε {shown['record_epsilon_all']:.4f} over all" in joined.run("status").output


def test_ledger_verify_says_ok_or_the_place(enrolled: Site) -> None:
    with DeviceLedger.open(enrolled.place.ledger) as ledger:
        charge(ledger, AttemptKey("a" * 64, 1, 1))
        head = ledger.head()
    verify = ["ledger", "verify", "--home", str(enrolled.home)]
    assert CliRunner().invoke(cli, verify).output == f"ok (entries: 1, head: {head.hash})\n"
    with sqlite3.connect(enrolled.place.ledger) as db:
        db.execute("UPDATE total SET spent_nano_rho = 1 WHERE scope = 'lifetime'")
    db.close()
    result = CliRunner().invoke(cli, verify)
    assert isinstance(result.exception, LedgerError)
    assert result.exception.exit_code == 5
    assert "table total, row lifetime/: it holds 1, 1, should hold 34993422, 1" in str(
        result.exception
    )


def test_a_missing_ledger_is_refused_instead_of_begun_anew(enrolled: Site) -> None:
    enrolled.place.ledger.unlink()
    result = enrolled.run("status")
    assert isinstance(result.exception, LedgerError)
    assert "is missing" in str(result.exception)
    assert not enrolled.place.ledger.exists()
