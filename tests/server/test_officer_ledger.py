"""`tacitly-officer budget` and `ledger`, on the ledger of a server's home."""

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from ledgers import Books
from officers import lax_policy
from plans import small_plan
from tacitly_common import verify_ledger
from tacitly_common.accounting.subject import cap_nano_rho, shown_epsilon
from tacitly_common.campaign import CampaignPlan, revise
from tacitly_common.contract.policy import Policy
from tacitly_common.errors import LedgerError, ValidationError
from tacitly_server.home import ServerHome
from tacitly_server.ledger.population import AttemptState, PopulationLedger
from tacitly_server.officer import cli
from tacitly_server.rounds.permit import caps_of

PLAN = small_plan()
OTHER = revise(PLAN, name="other")
POLICY = lax_policy(epoch_epsilon=Decimal(4), lifetime_epsilon=Decimal(6))
PEOPLE = [f"{n:064x}" for n in range(12)]


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    """A server on which twelve persons took part in nine rounds, six of them in a tenth."""
    place = ServerHome(tmp_path / "home")
    place.root.mkdir(mode=0o700)
    books = Books(place.population_database, place.root)
    with books.open() as ledger:
        for number in range(1, 10):
            held(ledger, number, PEOPLE)
        held(ledger, 10, PEOPLE[:6])
    place.ledger_public_key.write_text(books.witness.public_key + "\n")
    file(place, OTHER)
    return place


def held(ledger: PopulationLedger, number: int, people: list[str]) -> None:
    """One released round of the plan."""
    key = ledger.plan(PLAN.hash, number)
    ledger.charge(
        key,
        people,
        epochs=PLAN.data_epochs,
        cost_nano_rho=PLAN.cost_nano_rho,
        caps=caps_of(PLAN, POLICY),
    )
    ledger.mark(key, AttemptState.RELEASED, result_sha256="e" * 64)


def file(home: ServerHome, plan: CampaignPlan) -> None:
    directory = home.campaign(plan.hash)
    directory.root.mkdir(parents=True)
    directory.plan.write_bytes(plan.to_json())


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return written(tmp_path / "policy.json", POLICY)


def written(path: Path, content: Policy | CampaignPlan) -> Path:
    path.write_bytes(msgspec.json.encode(content))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)), env={"COLUMNS": "80"})


def document(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--format", "json")
    assert result.exception is None, result.output
    parsed: dict[str, Any] = json.loads(result.stdout)
    assert parsed["schema_version"] == 1
    return parsed


def test_the_worst_person_is_shown_for_life_and_for_each_month(
    home: ServerHome, policy: Path
) -> None:
    answer = document("budget", "show", "--home", home.root, "--policy", policy)
    spent = 10 * PLAN.cost_nano_rho
    month, lifetime = answer["worst_person"]
    assert (month["on"], lifetime["on"]) == ("2023-11", "lifetime")
    for row, epsilon in ((month, 4), (lifetime, 6)):
        assert row["nano_rho"] == spent
        assert row["epsilon"] == shown_epsilon(spent, 1e-6)
        assert (row["cap_nano_rho"], row["cap_epsilon"]) == (cap_nano_rho(epsilon, 1e-6), epsilon)
    assert month["used_percent"] == 100
    assert answer["persons"] == 12
    assert sum(one["persons"] for one in answer["distribution"]) == 12
    shown = run("budget", "show", "--home", home.root, "--policy", policy).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "100%" in shown


def test_without_a_policy_no_limit_is_claimed(home: ServerHome) -> None:
    answer = document("budget", "show", "--home", home.root, "--delta", "1e-5")
    assert answer["worst_person"][0]["cap_nano_rho"] is None
    spent = 10 * PLAN.cost_nano_rho
    assert answer["worst_person"][0]["epsilon"] == shown_epsilon(spent, 1e-5)


def test_few_persons_are_not_counted(tmp_path: Path) -> None:
    with Books(tmp_path / "population.db", tmp_path).open() as ledger:
        held(ledger, 1, PEOPLE[:3])
    answer = document("budget", "show", "--home", tmp_path)
    assert answer["persons"] is None
    shown = run("budget", "show", "--home", tmp_path).stdout
    assert "* too few to show" in shown


def test_a_forecast_says_what_the_budgets_still_pay_for(
    home: ServerHome, policy: Path, tmp_path: Path
) -> None:
    plan = written(tmp_path / "plan.json", PLAN)
    answer = document("budget", "forecast", plan, "--home", home.root, "--policy", policy)
    # Of 100 persons 6 have spent ten participations, 6 nine: 94 are left, 88 of them with ten.
    assert (answer["rounds_released"], answer["rounds_planned"]) == (10, 10)
    assert answer["rounds_feasible"] == (88 * 10 + 6) // 8
    assert answer["persons_left"] == 94
    (other,) = answer["other_campaigns"]
    assert other["name"] == "other"
    # A month's cap is ten participations: what this plan takes, the other has not.
    assert other["rounds_feasible"] == (88 * 10 + 6) // 8
    assert other["rounds_feasible_after"] == 0
    shown = run("budget", "forecast", plan, "--home", home.root, "--policy", policy).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "Other campaigns" in shown


def test_a_campaign_that_is_over_is_not_among_the_others(home: ServerHome, tmp_path: Path) -> None:
    file(home, PLAN)
    file(home, revise(PLAN, name="expired", expires=PLAN.expires.replace(year=2020)))
    answer = document(
        *("budget", "forecast", written(tmp_path / "plan.json", OTHER), "--home", home.root)
    )
    assert [one["name"] for one in answer["other_campaigns"]] == ["test"]


def test_the_ledger_is_shown_by_campaign(home: ServerHome) -> None:
    answer = document("ledger", "show", "--home", home.root)
    assert answer["campaigns"] == [
        {
            "plan_hash": PLAN.hash,
            "released": 10,
            "lost": 0,
            "unfinished": 0,
            "void": 0,
            "largest_spent_nano_rho": 10 * PLAN.cost_nano_rho,
        }
    ]
    shown = run("ledger", "show", "--home", home.root).stdout
    assert answer["head"] in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_ledger_in_order_verifies_and_one_changed_number_is_named(home: ServerHome) -> None:
    answer = document("ledger", "verify", "--home", home.root)
    assert answer["in_order"]
    assert answer["witnessed_entry"] is not None
    assert "in order" in run("ledger", "verify", "--home", home.root).stdout

    books = Books(home.population_database, home.root)
    books.tamper("UPDATE journal SET cost_nano_rho = 1 WHERE sequence = 5")
    script = Path(sys.executable).with_name("tacitly-officer")
    ended = subprocess.run(
        [script, "ledger", "verify", "--home", home.root, "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 5
    answer = json.loads(ended.stdout)
    assert not answer["in_order"]
    assert "entry 5" in answer["problems"][0]
    assert "entry 5" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "entry 5" in run("ledger", "verify", "--home", home.root).stdout


def test_checkpoints_of_another_key_do_not_count(home: ServerHome) -> None:
    result = run("ledger", "verify", "--home", home.root, "--public-key", "0" * 64)
    assert isinstance(result.exception, LedgerError)


def test_an_export_is_what_the_auditors_file_checks(
    home: ServerHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "export.jsonl"
    answer = document("ledger", "export", "--home", home.root, "--out", out)
    assert answer["records"] == len(out.read_bytes().splitlines())
    assert out.stat().st_mode & 0o777 == 0o600
    key = home.ledger_public_key.read_text().strip()
    assert verify_ledger.main([str(out), "--public-key", key]) == 0
    assert "in order" in capsys.readouterr().out
    again = run("ledger", "export", "--home", home.root, "--out", out)
    assert isinstance(again.exception, ValidationError)


@pytest.mark.parametrize(
    "command", [("budget", "show"), ("ledger", "show"), ("ledger", "export", "--out", "x")]
)
def test_a_home_without_a_ledger_is_said_and_stays_empty(
    tmp_path: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*command, "--home", tmp_path)
    assert isinstance(result.exception, LedgerError)
    assert "no such ledger" in str(result.exception)
    assert list(tmp_path.iterdir()) == []
