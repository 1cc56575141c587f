"""`tacitly-agent consent` as a person types it, and how it goes with join, leave and withdraw."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from homes import agree
from officers import AT, Log, genesis, lax_policy
from plans import small_plan
from tacitly_client.choices import read_choices, set_level
from tacitly_client.cli import cli
from tacitly_client.consent import consent_stands, read_receipts, takes_part
from tacitly_client.home import AgentHome
from tacitly_client.notice import Language, NoticeError, notice_text, terms_of, words
from tacitly_client.redaction import ContentLevel
from tacitly_common.contract.acts import begin
from tray import fresh

PLAN = small_plan()


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    return fresh(tmp_path / "home")


def run(home: AgentHome, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--home", str(home.root)], input=stdin)


@pytest.mark.parametrize(
    ("language", "yes", "question"),
    [("en", "y\n", "Do you agree"), ("de", "y\n", "Willigen Sie ein")],
)
def test_the_whole_notice_is_shown_and_then_asked(
    home: AgentHome, language: str, yes: str, question: str
) -> None:
    result = run(home, "consent", "give", "--language", language, stdin=yes)
    assert result.exit_code == 0, result.output
    notice = notice_text(terms_of(Log().contract), Language(language))
    assert result.output.startswith(notice)
    assert question in result.output[len(notice) :]
    receipt = consent_stands(home)
    assert receipt is not None
    assert receipt.language == language


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_no_answer_and_a_no_are_no_consent_and_leave_no_trace(home: AgentHome, answer: str) -> None:
    assert run(home, "consent", "give", stdin=answer).exit_code == 1
    assert list(home.person.iterdir()) == []


def test_the_language_is_the_desktops(home: AgentHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert run(home, "consent", "give", "--yes").output.startswith("WORUM TACITLY SIE BITTET")


def test_levels_are_agreed_to_and_hold_at_once(home: AgentHome) -> None:
    set_level(home, "mail", ContentLevel.COUNTS)
    levels = ("--level", "counts", "--application", "Gedit=characters")
    result = run(home, "consent", "give", "--yes", *levels)
    assert "counts, for all applications; in gedit: characters; in mail: counts." in result.output
    choices = read_choices(home)
    assert choices.default is ContentLevel.COUNTS
    assert choices.applications == {"gedit": "characters", "mail": "counts"}
    receipt = consent_stands(home)
    assert receipt is not None
    assert receipt.level is ContentLevel.COUNTS
    assert receipt.applications == choices.applications


@pytest.mark.parametrize(
    ("language", "answer", "agrees"),
    [("en", "y", True), ("de", "j", True), ("de", "Ja", True), ("en", "j", False)]
    + [(language, no, False) for language in ("en", "de") for no in ("", "n", "perhaps")],
)
def test_only_a_yes_of_the_notice_s_language_agrees(
    home: AgentHome, language: str, answer: str, agrees: bool
) -> None:
    result = run(home, "consent", "give", "--language", language, stdin=f"{answer}\n")
    assert (result.exit_code, consent_stands(home) is not None) == (not agrees, agrees)
    said = words(Language(language))
    assert result.output.splitlines()[-1] == (said.agreed if agrees else said.refused)


@pytest.mark.parametrize("wrong", ["gedit", "gedit=verbatim", "=words"])
def test_a_level_that_is_none_is_refused(home: AgentHome, wrong: str) -> None:
    result = run(home, "consent", "give", "--yes", "--application", wrong)
    assert result.exit_code == 2
    assert read_receipts(home) == []


def test_receipts_are_shown_with_what_was_read(home: AgentHome) -> None:
    assert "you have not agreed" in run(home, "consent", "show").output
    run(home, "consent", "give", "--yes")
    shown = run(home, "consent", "show").output
    assert "agreed to capture for bench, next-interaction (default: classes)" in shown
    assert "consent to capture stands" in shown
    (text,) = home.notices.iterdir()
    assert f"you read {text}" in shown
    assert run(home, "consent", "withdraw").exit_code == 0
    document = json.loads(run(home, "consent", "show", "--format", "json").output)
    assert document["capture"] == {"stands": False, "why_not": "you have withdrawn it"}
    assert [bool(receipt["given_at"]) for receipt in document["receipts"]] == [True, False]


def test_withdrawing_needs_no_network_and_ends_campaigns_too(tmp_path: Path) -> None:
    home = AgentHome(tmp_path / "home")
    agree(home, Log().start(PLAN), joined=PLAN, desk="127.0.0.1:1")
    run(home, "consent", "give", "--yes")
    result = run(home, "consent", "withdraw")
    assert "nothing is captured, no campaign is answered" in result.output
    assert consent_stands(home) is None
    assert not takes_part(home, PLAN.hash)
    assert not home.egress_journal.exists()


def test_withdrawing_where_nothing_was_given_is_no_error(tmp_path: Path) -> None:
    result = run(AgentHome(tmp_path / "nowhere"), "consent", "withdraw")
    assert result.exit_code == 0
    assert not (tmp_path / "nowhere").exists()


def test_damaged_receipts_are_named_and_can_be_replaced(home: AgentHome) -> None:
    run(home, "consent", "give", "--yes")
    home.consent.write_bytes(home.consent.read_bytes()[:-9])
    result = run(home, "consent", "show")
    assert result.exception is not None
    assert "line 1, is damaged" in str(result.exception)
    run(home, "consent", "give", "--yes")
    assert consent_stands(home) is not None


@pytest.mark.parametrize("missing", ["workers_informed", "contact"])
def test_before_workers_were_informed_nobody_can_agree(tmp_path: Path, missing: str) -> None:
    home = AgentHome(tmp_path / "home")
    agree(home, Log([begin(genesis(policy=lax_policy(**{missing: ""})), at=AT)]))
    result = run(home, "consent", "give", "--yes")
    assert isinstance(result.exception, NoticeError)
    assert missing in str(result.exception)
    assert read_receipts(home) == []
