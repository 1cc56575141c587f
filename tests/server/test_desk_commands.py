"""The operator's commands around the desk: begin a log, look at it, invite, shut out."""

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from officers import KEYS, lax_policy
from tacitly_common.contract.acts import ConflictError
from tacitly_common.contract.signatures import public_hex
from tacitly_common.errors import TacitlyError
from tacitly_common.invitation import parse_invitation
from tacitly_server import cli
from tacitly_server.campaigns.officers_log import OfficersLog
from tacitly_server.health import Status, write_status
from tacitly_server.home import ServerHome
from tacitly_server.initialise import grant_public_key


def run(*arguments: object) -> str:
    """The output of a `tacitly-server` command that must succeed."""
    result = CliRunner().invoke(cli.cli, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object) -> TacitlyError:
    """The error of a `tacitly-server` command."""
    result = CliRunner().invoke(cli.cli, list(map(str, arguments)))
    assert isinstance(result.exception, TacitlyError), result.output
    return result.exception


def beginning(home: ServerHome, names: tuple[str, ...] = ("ada", "bea", "cyn")) -> list[object]:
    """The arguments that begin a log."""
    policy = home.root / "policy.json"
    policy.write_bytes(msgspec.json.encode(lax_policy()))
    officers = [f"--officer={name}={public_hex(KEYS[name])}" for name in names]
    return [
        *("contract", "begin", "--home", home.root, "--organisation", "Example"),
        *officers,
        *("--policy", policy),
    ]


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    run("init", "--home", tmp_path / "home", "--name", "tacitly.example.org")
    return ServerHome(tmp_path / "home")


def test_init_makes_keys_once_and_prints_what_officers_sign(home: ServerHome) -> None:
    made = [home.grant_key, home.authority_key, home.authority_certificate]
    before = [path.read_bytes() for path in made]
    said = run("init", "--home", home.root)
    assert f"grant key {grant_public_key(home)}\n" in said
    assert [path.read_bytes() for path in made] == before
    assert {path.stat().st_mode & 0o777 for path in made} == {0o600}


def test_a_log_begins_once_and_is_shown(home: ServerHome) -> None:
    genesis = run(*beginning(home)).strip()
    contract = OfficersLog(home.officers_log).contract()
    assert contract.genesis == genesis
    assert contract.grant_key == grant_public_key(home)
    shown = json.loads(run("contract", "show", "--home", home.root, "--format", "json"))
    assert shown["schema_version"] == 1
    assert (shown["genesis"], shown["head"], shown["length"]) == (genesis, genesis, 1)
    assert [officer["name"] for officer in shown["officers"]] == ["ada", "bea", "cyn"]
    assert shown["policy"]["minimum_noise_multiplier"] == "0.01"
    table = run("contract", "show", "--home", home.root)
    assert genesis in table
    assert public_hex(KEYS["bea"]) in table
    again = refused(*beginning(home))
    assert isinstance(again, ConflictError)
    assert again.exit_code == 6


def test_a_log_of_two_officers_or_with_a_spoiled_policy_does_not_begin(home: ServerHome) -> None:
    few = refused(*beginning(home, ("ada", "bea")))
    assert "name at least 3" in str(few)
    arguments = beginning(home)
    (home.root / "policy.json").write_text('{"purposes": []}')
    assert "start from `tacitly-officer policy example`" in str(refused(*arguments))
    arguments = [*beginning(home), "--officer", "dan"]
    assert "NAME=KEY" in str(refused(*arguments))
    assert not OfficersLog(home.officers_log).lines()
    assert "contract begin" in str(refused("contract", "show", "--home", home.root))


def test_an_invitation_names_what_a_device_needs_and_its_token_is_not_kept(
    home: ServerHome,
) -> None:
    genesis = run(*beginning(home)).strip()
    write_status(
        home,
        Status(
            supervisor_pid=1,
            host="127.0.0.1",
            port=9000,
            enrolment_port=9001,
            certificate_ends="",
        ),
    )
    made = run("invite", "--home", home.root, "--person", "ada@example.org")
    invitation = parse_invitation(made.encode())
    assert invitation.server == "tacitly.example.org:9000"
    assert invitation.desk == "tacitly.example.org:9001"
    assert invitation.genesis == genesis
    assert invitation.ca == (home.tls / "ca.crt").read_text()
    files = [path for path in home.root.rglob("*") if path.is_file()]
    assert not [path for path in files if invitation.token.encode() in path.read_bytes()]
    assert not [path for path in files if b"ada@example.org" in path.read_bytes()]
    other = parse_invitation(
        run(
            *("invite", "--home", home.root, "--person", "ada@example.org"),
            *("--address", "127.0.0.1", "--server-port", 443, "--enrolment-port", 444),
        ).encode()
    )
    assert (other.server, other.desk) == ("127.0.0.1:443", "127.0.0.1:444")
    assert other.token != invitation.token


def test_nobody_is_invited_to_a_name_that_the_certificate_lacks_or_before_a_log_began(
    home: ServerHome,
) -> None:
    ports = ["--server-port", 8000, "--enrolment-port", 8001]
    invite = ["invite", "--home", home.root, "--person", "ada", *ports]
    assert "contract begin" in str(refused(*invite))
    run(*beginning(home))
    error = refused(*invite, "--address", "other.example.org")
    assert "tacitly-server renew --name other.example.org" in str(error)
    assert "up" in str(refused(*invite[:5]))  # no server has run that would know its ports
