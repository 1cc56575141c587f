"""What our SuperLink checks before it starts, and whom its plugin lets in."""

import socket
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from our_server import command
from stock_flower import free_port
from tacitly_common.errors import ValidationError
from tacitly_server.home import ServerHome
from tacitly_server.initialise import initialise
from tacitly_server.superlink import Secrets, bind_all, read_secrets
from tacitly_server.superlink_plugins import TokenAuthentication


@pytest.fixture
def home(tmp_path: Path) -> ServerHome:
    made = ServerHome(tmp_path / "home")
    initialise(made, [], now=datetime.now(UTC))
    return made


def refusal(home: ServerHome, port: int, *arguments: str) -> str:
    """The last line of a start that must exit with code 2."""
    ended = subprocess.run(
        command(home, port, *arguments), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2, ended.stderr
    return ended.stderr.strip().splitlines()[-1]


def test_an_expired_certificate_is_refused_at_the_start(tmp_path: Path) -> None:
    home = ServerHome(tmp_path / "home")
    initialise(home, [], now=datetime.now(UTC) - timedelta(days=398))
    said = refusal(home, free_port())
    assert "server.crt expired on" in said
    assert "run `tacitly-server renew`" in said


def test_a_home_that_was_never_made_is_refused_at_the_start(tmp_path: Path) -> None:
    said = refusal(ServerHome(tmp_path / "nothing"), free_port())
    assert "run `tacitly-server init` first" in said


def test_a_port_in_use_is_refused_at_the_start(home: ServerHome) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        said = refusal(home, other.getsockname()[1])
    assert "Address already in use" in said
    assert "choose another port" in said


@pytest.mark.parametrize("name", ["control_token", "superexec_secret"])
def test_a_secret_that_others_can_read_is_refused(home: ServerHome, name: str) -> None:
    path: Path = getattr(home, name)
    path.chmod(0o644)
    with pytest.raises(ValidationError, match=f"{path.name} can be read by others"):
        read_secrets(home)


def test_secrets_are_not_shown() -> None:
    assert "token" not in repr(Secrets(b"token-value", b"secret-value"))


def test_the_operators_address_is_always_listened_at() -> None:
    port = free_port()
    addresses = []
    for host in ("127.0.0.1", "0.0.0.0", "127.0.0.2", "::1"):  # noqa: S104
        sockets = bind_all(host, port)
        addresses.append([bound.getsockname()[0] for bound in sockets])
        for bound in sockets:
            bound.close()
    assert addresses == [
        ["127.0.0.1"], ["0.0.0.0"], ["127.0.0.2", "127.0.0.1"], ["::1", "127.0.0.1"],  # noqa: S104
    ]  # fmt: skip


def test_a_name_is_no_address_to_listen_at() -> None:
    with pytest.raises(ValidationError, match="--host must be an address"):
        bind_all("server.example", 1)


@pytest.mark.parametrize(
    "given",
    [[], [("k", "wrong")], [("k", "")], [("k", "right"), ("k", "right")], [("k", "right ")]],
)
def test_anything_but_the_one_token_is_refused(given: list[tuple[str, str | bytes]]) -> None:
    assert TokenAuthentication(b"right").validate_tokens_in_metadata(given) == (False, None)


def test_the_token_is_the_operators() -> None:
    valid, account = TokenAuthentication(b"right").validate_tokens_in_metadata([("k", "right")])
    assert valid
    assert account is not None
    assert TokenAuthentication(b"right").get_login_details() is None
    assert TokenAuthentication(b"right").get_auth_tokens("code") is None
    assert TokenAuthentication(b"right").refresh_tokens([("k", "right")]) == (None, None)
