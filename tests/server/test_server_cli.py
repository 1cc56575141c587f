"""The operator's commands: what they print, and how they refuse."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from agreement import approve, begin_log, sign
from ledgers import PLAN, charge
from our_server import new_campaign
from tacitly_common.contract.acts import Start
from tacitly_common.errors import LedgerError, TacitlyError, ValidationError
from tacitly_server import cli
from tacitly_server.bundle import app_hash
from tacitly_server.campaigns.filing import create_campaign
from tacitly_server.health import Status, write_status
from tacitly_server.home import ServerHome
from tacitly_server.ledger.place import LedgerPlace, open_ledger, witness_of
from tacitly_server.private_files import write_private


@pytest.fixture
def home(tmp_path: Path) -> Path:
    run("init", "--home", tmp_path / "home")
    return tmp_path / "home"


def run(*arguments: object) -> str:
    """The output of a `tacitly-server` command that must succeed."""
    result = CliRunner().invoke(cli.cli, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> TacitlyError:
    """The error of a `tacitly-server` command."""
    result = CliRunner().invoke(cli.cli, list(map(str, arguments)))
    assert isinstance(result.exception, TacitlyError), result.output
    return result.exception


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, tacitly_server.cli\n"
        "heavy = {'flwr', 'numpy', 'sqlalchemy', 'cryptography', 'httpx', 'scipy'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_init_gives_the_ledger_a_key_that_nobody_else_reads(home: Path) -> None:
    place = ServerHome(home)
    assert place.ledger_key.stat().st_mode & 0o777 == 0o600
    assert place.ledger_public_key.read_text() == witness_of(place).public_key + "\n"


def test_an_older_ledger_is_used_again_only_after_reconciling(home: Path, tmp_path: Path) -> None:
    place, copy = ServerHome(home), tmp_path / "backup.db"

    def spend(round_number: int) -> None:
        with open_ledger(place) as ledger:
            charge(ledger, ledger.plan(PLAN, round_number))

    spend(1)
    assert "written to" in run("ledger", "backup", "--home", home, copy)
    spend(2)
    assert "ledger reconcile" in run("ledger", "restore", "--home", home, copy)
    with pytest.raises(LedgerError, match="older copy"):
        spend(3)
    assert run("ledger", "reconcile", "--home", home).startswith("1 attempts charged")
    spend(3)
    place.ledger_witness.unlink()
    assert refused("ledger", "reconcile", "--home", home).exit_code == 5
    assert "agree" in run("ledger", "reconcile", "--witness-lost", "--home", home)


def test_the_ledger_and_its_witness_may_lie_elsewhere(home: Path, tmp_path: Path) -> None:
    place = ServerHome(home)
    elsewhere = LedgerPlace(f"sqlite:///{tmp_path}/other.db", f"{tmp_path}/witness.jsonl")
    write_private(place.ledger_place, msgspec.json.encode(elsewhere))
    with open_ledger(place) as ledger:
        charge(ledger, ledger.plan(PLAN, 1))
    assert (tmp_path / "other.db").exists()
    assert (tmp_path / "witness.jsonl").exists()
    assert not place.population_database.exists()
    write_private(place.ledger_place, b'{"databse": "x"}')
    with pytest.raises(ValidationError, match=r"ledger\.json.*databse"):
        open_ledger(place)


def test_an_error_is_one_line_and_its_exit_code(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("tacitly-server"), "nodes", "--home", tmp_path]
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == (
        f"tacitly-server: no server has run in {tmp_path}; "
        f"run `tacitly-server up --home {tmp_path}`\n"
    )


def test_init_makes_secrets_once(home: Path) -> None:
    place = ServerHome(home)
    secrets = [place.control_token, place.superexec_secret, place.subject_secret]
    before = [path.read_bytes() for path in secrets]
    assert "nothing to do" in run("init", "--home", home)
    assert [path.read_bytes() for path in secrets] == before
    assert len(set(before)) == 3
    assert home.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}


def test_init_in_a_directory_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    error = refused("init", "--home", tmp_path)
    assert "is open to others (mode 0755); run `chmod 700" in str(error)


def test_init_where_no_directory_can_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = refused("init", "--home", tmp_path / "file" / "home")
    assert "choose another --home" in str(error)
    assert error.exit_code == 2


def test_renew_says_when_the_new_certificate_ends(home: Path) -> None:
    assert "restart `tacitly-server up`" in run("renew", "--home", home)
    assert "tacitly-server init" in str(refused("renew", "--home", home / "nothing"))


def test_campaigns_are_listed_with_how_they_stand(home: Path) -> None:
    place = ServerHome(home)
    assert "contract begin" in str(refused("campaign", "list", "--home", home))
    begin_log(place)
    plan, model = new_campaign()
    create_campaign(place, plan, model)
    approve(place, plan)
    assert run("campaign", "list", "--home", home) == f"{plan.hash}\ttest\tapproved\t0/20\n"
    sign(place, "ada", Start(plan_hash=plan.hash))
    assert run("campaign", "list", "--home", home) == f"{plan.hash}\ttest\trunning\t0/20\n"
    assert run("campaign", "app-hash").strip() == app_hash() == plan.app_hash


def test_up_refuses_an_unknown_campaign(home: Path) -> None:
    error = refused("up", "--home", home, "--campaign", "f" * 64)
    assert "no campaign" in str(error)


def test_health_without_a_supervisor_is_exit_code_1(home: Path) -> None:
    status = Status(
        supervisor_pid=1, host="127.0.0.1", port=1, enrolment_port=2, certificate_ends=""
    )
    write_status(ServerHome(home), status)
    result = CliRunner().invoke(cli.cli, ["health", "--home", str(home)])
    assert result.exit_code == 1
    answer = json.loads(result.output)
    assert (answer["healthy"], answer["supervisor"]) == (False, False)


def test_a_status_that_is_damaged_is_said(home: Path) -> None:
    ServerHome(home).status.write_text("{")
    assert "restart `tacitly-server up`" in str(refused("health", "--home", home))
