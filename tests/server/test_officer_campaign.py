"""Officers decide, from their command line, at a real desk: what is signed, refused and shown."""

import json
import os
import pty
import stat
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from desk import Desk, desk_beside_superlink
from officers import KEYS, STRANGER, lax_policy
from our_server import new_campaign
from tacitly_common.campaign import CampaignPlan, SubjectMechanism
from tacitly_common.contract.acts import Act, Approve, ProposePlan
from tacitly_common.contract.log import Contract
from tacitly_common.contract.policy import Policy
from tacitly_common.contract.signatures import private_pem, public_hex, read_private_pem
from tacitly_common.errors import TacitlyError
from tacitly_server.officer import cli
from tacitly_server.officer.office import Office, session

OFFICER = Path(sys.executable).with_name("tacitly-officer")


class Hall:
    """Officers with key files, and the desk that they call."""

    def __init__(self, desk: Desk, root: Path) -> None:
        self.desk, self.root = desk, root
        for name, key in KEYS.items():
            self.write_key(name, key)

    def write_key(self, name: str, key: Ed25519PrivateKey) -> Path:
        path = self.root / f"{name}.key"
        path.write_bytes(private_pem(key))
        path.chmod(0o600)
        return path

    def office(self, name: str) -> Office:
        return Office(self.address, self.ca, self.root / f"{name}.key", name, None)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.desk.port}"

    @property
    def ca(self) -> Path:
        return self.desk.home.tls / "ca.crt"

    def environment(self, name: str) -> dict[str, str]:
        return {
            "TACITLY_OFFICER_SERVER": self.address,
            "TACITLY_OFFICER_CA": str(self.ca),
            "TACITLY_OFFICER_KEY": str(self.root / f"{name}.key"),
            "TACITLY_OFFICER_NAME": name,
            "COLUMNS": "200",
        }

    def run(self, name: str, *arguments: object) -> Result:
        return CliRunner().invoke(cli, list(map(str, arguments)), env=self.environment(name))

    def done(self, name: str, *arguments: object) -> dict[str, Any]:
        """The one document of a command that succeeded."""
        result = self.run(name, *arguments, "--format", "json")
        assert result.exception is None, (result.exception, result.output)
        document: dict[str, Any] = json.loads(result.stdout)
        assert document["schema_version"] == 1
        return document

    def refused(self, name: str, *arguments: object) -> tuple[int, str]:
        """Exit code and message of a command that was refused; nothing reached the log."""
        before = self.desk.log.contract()
        result = self.run(name, *arguments)
        assert isinstance(result.exception, TacitlyError), (result.exception, result.output)
        assert self.desk.log.contract() == before
        return result.exception.exit_code, str(result.exception)

    def files(self, plan: CampaignPlan, model: Any) -> tuple[Path, str, Path]:
        """The arguments of `propose`."""
        path, start = self.root / f"{plan.hash}.json", self.root / f"{plan.hash}.npy"
        path.write_bytes(plan.to_json())
        np.save(start, model)
        return path, "--model", start

    def proposed(self, **changes: Any) -> CampaignPlan:
        plan, model = new_campaign(**changes)
        self.done("ada", "campaign", "propose", *self.files(plan, model))
        return plan

    def approved(self, **changes: Any) -> CampaignPlan:
        plan = self.proposed(**changes)
        for name in ("bea", "cyn"):
            self.done(name, "campaign", "approve", plan.hash)
        return plan

    def listed(self, plan: CampaignPlan) -> dict[str, Any]:
        campaigns = self.done("dan", "campaign", "list")["campaigns"]
        (found,) = [one for one in campaigns if one["plan_hash"] == plan.hash]
        return found


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    root = tmp_path_factory.mktemp("hall")
    with desk_beside_superlink(root / "server") as desk:
        yield Hall(desk, root)


# ----------------------------------------------------------------------------- keys


def test_a_new_key_is_for_its_owner_alone_and_never_replaced(tmp_path: Path) -> None:
    out = tmp_path / "ada.key"
    made = CliRunner().invoke(cli, ["key", "new", "--out", str(out)])
    key = read_private_pem(out.read_bytes(), source=out)
    assert made.stdout.strip() == public_hex(key)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    before = out.read_bytes()
    again = CliRunner().invoke(cli, ["key", "new", "--out", str(out)])
    assert "exists" in str(again.exception)
    assert out.read_bytes() == before


def test_a_key_with_a_passphrase_signs_for_who_knows_it(hall: Hall) -> None:
    out = hall.root / "locked.key"
    made = CliRunner().invoke(
        cli, ["key", "new", "--out", str(out), "--passphrase-prompt"], input="horse\nhorse\n"
    )
    public_key = made.stdout.strip().splitlines()[-1]
    arguments = ["officer", "add", "locked", "--public-key", public_key]
    proposal = hall.done("ada", *arguments)["proposal"]
    for name in ("bea", "cyn"):
        hall.done(name, "campaign", "approve", proposal)
    listing = ["campaign", "list"]
    environment = hall.environment("locked")
    right = CliRunner().invoke(cli, listing, env=environment, input="horse\n")
    assert right.exception is None, right.output
    wrong = CliRunner().invoke(cli, listing, env=environment, input="donkey\n")
    assert "its passphrase is another" in str(wrong.exception)
    assert b"horse" not in out.read_bytes()


def test_a_key_that_others_can_read_signs_nothing(hall: Hall, tmp_path: Path) -> None:
    path = tmp_path / "open.key"
    path.write_bytes(private_pem(KEYS["ada"]))
    path.chmod(0o644)
    code, said = hall.refused("ada", "campaign", "list", "--key", path)
    assert (code, "can be read by others" in said) == (2, True)


def test_the_example_is_a_policy(hall: Hall) -> None:
    del hall
    example = CliRunner().invoke(cli, ["policy", "example"]).stdout
    assert isinstance(msgspec.json.decode(example, type=Policy), Policy)


# ----------------------------------------------------------------------------- the way of a plan


def test_a_plan_runs_after_two_others_approved_and_one_started_it(hall: Hall) -> None:
    plan, model = new_campaign(name="whole-way")
    document = hall.done("ada", "campaign", "propose", *hall.files(plan, model))
    assert (document["signer"], document["plan_hash"]) == ("ada", plan.hash)
    assert document["epsilon"] >= 3.99
    assert document["standing"] == "proposed"
    assert hall.listed(plan)["standing"] == "proposed"
    first = hall.done("bea", "campaign", "approve", plan.hash)
    assert (first["standing"], first["approved_by"]) == ("proposed", ["bea"])
    # The beginning of the hash is enough, and the proposing entry's own hash too.
    second = hall.done("cyn", "campaign", "approve", document["entry"][:12])
    assert (second["standing"], second["approved_by"]) == ("approved", ["bea", "cyn"])
    assert hall.done("dan", "campaign", "start", plan.hash[:12])["standing"] == "running"
    listed = hall.listed(plan)
    assert (listed["standing"], listed["why_not"]) == ("running", "")
    assert (listed["released_rounds"], listed["rounds"]) == (0, plan.rounds)
    stopped = hall.done("bea", "campaign", "stop", plan.hash, "--reason", "seen enough")
    assert (stopped["standing"], stopped["last_round"]) == ("stopped", 0)
    assert "was stopped by an officer" in hall.listed(plan)["why_not"]
    code, said = hall.refused("dan", "campaign", "start", plan.hash)
    assert (code, "for good" in said) == (6, True)


def test_a_limit_is_never_raised(hall: Hall) -> None:
    plan = hall.approved(name="limited")
    hall.done("ada", "campaign", "start", plan.hash)
    reason = ("--reason", "less")
    hall.done("ada", "campaign", "stop", plan.hash, "--after-round", 5, *reason)
    later = hall.done("bea", "campaign", "stop", plan.hash, "--after-round", 9, *reason)
    assert (later["last_round"], later["standing"]) == (5, "running")


def test_before_signing_a_person_reads_what_it_costs_and_who_approved(hall: Hall) -> None:
    plan = hall.proposed(name="shown")
    hall.done("bea", "campaign", "approve", plan.hash)
    result = hall.run("cyn", "campaign", "approve", plan.hash)
    assert result.exception is None, result.output
    before, _, after = result.output.partition("Signed")
    for shown in (
        plan.hash,
        "next-interaction",
        str(plan.cap_nano_rho),
        str(plan.worst_case.epsilon),
        "proposer",
        "ada",
        "bea",
    ):
        assert shown in before
    assert "approved" in after


def test_in_a_terminal_a_person_is_asked_and_may_say_no(hall: Hall) -> None:
    plan = hall.proposed(name="asked")
    before = hall.desk.log.contract()

    def approve(answer: bytes) -> int:
        ours, theirs = pty.openpty()
        os.write(ours, answer)
        process = subprocess.run(
            [OFFICER, "campaign", "approve", plan.hash],
            stdin=theirs,
            capture_output=True,
            env={**os.environ, **hall.environment("bea")},
            check=False,
        )
        os.close(theirs)
        os.close(ours)
        assert b"Sign this as bea?" in process.stderr
        return process.returncode

    assert approve(b"n\n") == 1
    assert hall.desk.log.contract() == before
    assert approve(b"y\n") == 0
    assert hall.listed(plan)["approved_by"] == ["bea"]


# ----------------------------------------------------------------------------- what is refused


def test_a_start_without_two_approvals_needs_approval(hall: Hall) -> None:
    plan = hall.proposed(name="unapproved")
    hall.done("bea", "campaign", "approve", plan.hash)
    code, said = hall.refused("cyn", "campaign", "start", plan.hash)
    assert (code, "has 1 of 2 approvals" in said) == (4, True)


def test_one_officer_counts_once(hall: Hall) -> None:
    plan = hall.proposed(name="once")
    assert hall.refused("ada", "campaign", "approve", plan.hash)[0] == 6
    hall.done("bea", "campaign", "approve", plan.hash)
    code, said = hall.refused("bea", "campaign", "approve", plan.hash)
    assert (code, "bea has approved this proposal" in said) == (6, True)


def test_a_plan_is_proposed_once(hall: Hall) -> None:
    plan, model = new_campaign(name="twice")
    hall.done("ada", "campaign", "propose", *hall.files(plan, model))
    assert hall.refused("bea", "campaign", "propose", *hall.files(plan, model))[0] == 6


@pytest.mark.parametrize(
    ("changes", "exit_code", "reason"),
    [
        ({"purpose": "surveillance"}, 5, "other_purpose"),
        ({"delta": Decimal("1e-7")}, 5, "beyond_policy"),
        ({"client_version": "9.9.9"}, 5, "devices with Tacitly 9.9.9"),
        (
            {
                "subject": SubjectMechanism(
                    clip_norm=Decimal("0.5"), noise_multiplier=Decimal("0.02")
                ),
            },
            3,
            "for a lifetime",
        ),
    ],
)
def test_a_plan_outside_the_policy_is_not_signed(
    hall: Hall, changes: dict[str, Any], exit_code: int, reason: str
) -> None:
    plan, model = new_campaign(**changes)
    code, said = hall.refused("ada", "campaign", "propose", *hall.files(plan, model))
    assert (code, reason in said) == (exit_code, True), said


def test_a_model_that_is_not_the_plans_is_not_sent(hall: Hall) -> None:
    plan, model = new_campaign(name="model")
    code, said = hall.refused("ada", "campaign", "propose", *hall.files(plan, model + 1))
    assert (code, "has the SHA-256" in said) == (2, True)
    path, _, start = hall.files(plan, model)
    start.write_bytes(b"")
    code, said = hall.refused("ada", "campaign", "propose", path, "--model", start)
    assert (code, "is not an .npy file" in said) == (2, True)


def test_a_cost_that_does_not_compute_is_not_approved(hall: Hall) -> None:
    """The server put it into the log: no honest desk would have taken it."""
    plan, _ = new_campaign(name="misstated")
    document = plan.to_json().decode()
    misstated = document.replace(f'"epsilon":"{plan.worst_case.epsilon}"', '"epsilon":"1.0"')
    assert misstated != document
    proposal = hall.desk.append("ada", ProposePlan(plan=misstated)).hash
    code, said = hall.refused("bea", "campaign", "approve", proposal)
    assert (code, "the plan states ε = 1.0" in said) == (5, True)
    wrong_sum = document.replace(str(plan.cap_nano_rho), str(plan.cap_nano_rho - 1))
    proposal = hall.desk.append("ada", ProposePlan(plan=wrong_sum)).hash
    code, said = hall.refused("bea", "campaign", "approve", proposal)
    assert (code, "it computes to" in said) == (5, True)


def test_who_is_no_officer_signs_nothing(hall: Hall) -> None:
    plan = hall.proposed(name="stranger")
    approve = ("campaign", "approve", plan.hash)
    key = hall.write_key("stranger", STRANGER)
    assert hall.refused("stranger", *approve)[0] == 8
    code, said = hall.refused("bea", *approve, "--key", key)
    assert (code, "not signed with bea's current key" in said) == (8, True)
    assert hall.refused("bea", "campaign", "list", "--key", key)[0] == 8


@pytest.mark.parametrize("text", ["", "abc", "f" * 64])
def test_an_unknown_hash_is_said(hall: Hall, text: str) -> None:
    assert hall.refused("bea", "campaign", "approve", text)[0] == 2
    assert hall.refused("bea", "campaign", "stop", text, "--reason", "x")[0] == 2


def test_a_desk_that_is_not_there_is_exit_code_7(hall: Hall) -> None:
    code, _ = hall.refused("bea", "campaign", "list", "--server", "127.0.0.1:1")
    assert code == 7


def test_a_log_with_another_beginning_is_refused(hall: Hall) -> None:
    code, said = hall.refused("bea", "campaign", "list", "--genesis", "f" * 64)
    assert (code, "the log begins with" in said) == (5, True)
    hall.done("bea", "campaign", "list", "--genesis", hall.desk.log.contract().genesis)


# ----------------------------------------------------------------------------- races


def test_an_officer_who_was_a_moment_late_signs_anew(hall: Hall) -> None:
    plan = hall.proposed(name="race")
    entry_hash = hall.desk.log.contract().campaigns[plan.hash].proposal
    asked: list[int] = []

    def approve(contract: Contract) -> Act:
        if not asked:  # between reading the log and submitting, another officer is faster
            hall.desk.append("cyn", Approve(proposal=entry_hash))
        asked.append(contract.length)
        return Approve(proposal=entry_hash)

    with session(hall.office("bea")) as desk:
        signed = desk.sign(approve)
    assert asked[1] == asked[0] + 1
    assert signed.entry.statement.sequence == asked[1]
    assert hall.listed(plan)["approved_by"] == ["bea", "cyn"]


def test_whose_act_was_overtaken_is_refused(hall: Hall) -> None:
    plan = hall.proposed(name="overtaken")
    entry_hash = hall.desk.log.contract().campaigns[plan.hash].proposal

    def approve(contract: Contract) -> Act:
        if not contract.approvers(plan.hash):
            hall.desk.append("bea", Approve(proposal=entry_hash))
        return Approve(proposal=entry_hash)

    with session(hall.office("bea")) as desk, pytest.raises(TacitlyError) as caught:
        desk.sign(approve)
    assert caught.value.exit_code == 6
    assert "has approved this proposal" in str(caught.value)


# ----------------------------------------------------------------------------- who signs


def test_officers_come_change_their_keys_and_go(hall: Hall) -> None:
    new = Ed25519PrivateKey.generate()
    hall.write_key("eve", new)
    proposal = hall.done("ada", "officer", "add", "eve", "--public-key", public_hex(new))[
        "proposal"
    ]
    waiting = hall.done("dan", "officer", "list")["changes"]
    (change,) = [one for one in waiting if one["proposal"] == proposal]
    assert change["change"] == {"new_officer": "eve", "public_key": public_hex(new)}
    assert hall.done("bea", "campaign", "approve", proposal)["in_effect"] is False
    assert hall.done("cyn", "campaign", "approve", proposal)["in_effect"] is True
    plan = hall.proposed(name="by-eve")
    hall.done("eve", "campaign", "approve", plan.hash)

    newer = Ed25519PrivateKey.generate()
    rotated = hall.write_key("eve-new", newer)
    hall.done("eve", "officer", "rotate", "--new-key", rotated)
    stop = ("campaign", "stop", plan.hash, "--reason", "test")
    assert hall.refused("eve", *stop)[0] == 8
    hall.done("bea", "campaign", "approve", plan.hash)
    assert hall.listed(plan)["standing"] == "approved"  # what eve approved stays approved

    gone = hall.done("ada", "officer", "revoke", "eve", "--reason", "left")
    assert gone["approvals_that_count_no_more"] == [plan.hash]
    assert "eve" not in gone["active_officers"]
    assert hall.listed(plan)["standing"] == "proposed"
    assert hall.refused("eve", *stop, "--key", rotated)[0] == 8
    assert hall.refused("eve", "campaign", "list", "--key", rotated)[0] == 8


def test_a_policy_is_changed_by_three(hall: Hall) -> None:
    path = hall.root / "policy.json"
    path.write_bytes(msgspec.json.encode(lax_policy(maximum_grant_hours=7)))
    document = hall.done("ada", "policy", "propose", path)
    assert document["maximum_grant_hours"] == "7 (now 24)"
    for name in ("bea", "cyn"):
        hall.done(name, "campaign", "approve", document["proposal"])
    assert hall.done("dan", "officer", "list")["policy"]["maximum_grant_hours"] == 7
    path.write_text("{}")
    assert hall.refused("ada", "policy", "propose", path)[0] == 2


def test_the_servers_grant_key_is_changed_by_three(hall: Hall) -> None:
    now = hall.desk.log.contract().grant_key
    proposal = hall.done("ada", "key", "change-grant", public_hex(STRANGER))["proposal"]
    for name in ("bea", "cyn"):
        hall.done(name, "campaign", "approve", proposal)
    assert hall.done("dan", "officer", "list")["grant_key"] == public_hex(STRANGER) != now


def test_lists_are_tables_for_people(hall: Hall) -> None:
    plan = hall.proposed(name="tabled")
    listed = hall.run("dan", "campaign", "list")
    assert plan.hash[:12] in listed.output
    assert "tabled" in listed.output
    people = hall.run("dan", "officer", "list")
    assert public_hex(KEYS["ada"]) in people.output
    assert "lifetime epsilon" in people.output
