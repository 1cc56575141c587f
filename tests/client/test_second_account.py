"""What another account of the same machine can do to an agent: nothing. Tried by a real one.

Making an account takes root. Elsewhere these tests are skipped, and fail where
TACITLY_REQUIRE_ACCOUNTS=1 says that they must run.
"""

import errno
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homes import make_home, training_plan
from stock_flower import eventually
from tacitly_client.daemon.state import AgentState
from tacitly_client.home import AgentHome
from tacitly_client.live_file import read_live
from tacitly_client.node.identity import create_node_key
from tacitly_client.training.pipe import REPORT

AGENT = Path(sys.executable).with_name("tacitly-agent")


@pytest.fixture(scope="module")
def somebody() -> Iterator[pwd.struct_passwd]:
    """A second account, made for these tests."""
    if os.getuid() != 0 or shutil.which("useradd") is None:
        if os.environ.get("TACITLY_REQUIRE_ACCOUNTS") == "1":
            pytest.fail("no account can be made and TACITLY_REQUIRE_ACCOUNTS=1")
        pytest.skip("only root can make a second account")
    name = f"tacitly-{secrets.token_hex(4)}"
    subprocess.run(["useradd", "--system", "--no-create-home", name], check=True)
    yield pwd.getpwnam(name)
    subprocess.run(["userdel", name], check=True)


@pytest.fixture(scope="module")
def home() -> Iterator[AgentHome]:
    """The home of a running agent, where everybody can come as far as its door."""
    public = Path(tempfile.mkdtemp(prefix="tacitly-"))
    public.chmod(0o755)
    (public / "notice").write_text("for everybody")
    (public / "notice").chmod(0o644)
    made = make_home(public / "home", training_plan())
    create_node_key(made)
    made.ca_certificate.write_bytes(made.authority_certificate.read_bytes())
    command = [str(AGENT), "run", "--home", str(made.root)]
    environment = {"PATH": os.environ["PATH"]}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        eventually(lambda: made.vault_socket.exists() and made.control_socket.exists())
        eventually(lambda: bool(read_live(made.agent_state, AgentState)))
        yield made
        process.terminate()
    shutil.rmtree(public)


def as_(account: pwd.struct_passwd, attempt: Callable[[], object]) -> str:
    """What comes of an attempt by that account: "done" or the error's name."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        told = "failed"
        try:
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
            attempt()
            told = "done"
        except OSError as error:
            told = errno.errorcode[error.errno or 0]
        finally:
            os.write(writing, told.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        told = answer.read()
    os.waitpid(child, 0)
    return told


def connecting(path: Path) -> Callable[[], object]:
    def connect() -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))

    return connect


def precious(home: AgentHome) -> list[Path]:
    """Every file that only the person may read."""
    kept = [*home.store.rglob("*"), *home.outbox.rglob("*"), home.ledger]
    kept += [home.node_key, home.device_key]
    return [path for path in kept if path.is_file()]


def test_the_account_can_read_what_everybody_may(
    home: AgentHome, somebody: pwd.struct_passwd
) -> None:
    """So the tests below fail for no other reason."""
    assert as_(somebody, (home.root.parent / "notice").read_bytes) == "done"


def test_it_comes_in_nowhere(home: AgentHome, somebody: pwd.struct_passwd) -> None:
    for path in (home.vault_socket, home.control_socket):
        assert as_(somebody, connecting(path)) == "EACCES"
    for directory in (home.root, home.run, home.store, home.node, home.person):
        assert as_(somebody, lambda path=directory: list(path.iterdir())) == "EACCES"
    files = precious(home)
    assert {path.suffix for path in files} >= {".key", ".seg", ".db"}
    for path in files:
        assert as_(somebody, path.read_bytes) == "EACCES", path


def test_nor_if_the_homes_own_door_was_left_open(
    home: AgentHome, somebody: pwd.struct_passwd
) -> None:
    home.root.chmod(0o755)
    try:
        for path in (home.vault_socket, home.control_socket):
            assert as_(somebody, connecting(path)) == "EACCES"
        for path in precious(home):
            assert as_(somebody, path.read_bytes) == "EACCES", path
    finally:
        home.root.chmod(0o700)


def test_the_vault_asks_the_kernel_who_it_is(home: AgentHome, somebody: pwd.struct_passwd) -> None:
    """With every door open it still hangs up on another account, and answers its own."""
    opened = {home.root: 0o755, home.run: 0o755, home.vault_socket: 0o666}
    for path, mode in opened.items():
        path.chmod(mode)

    def report() -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(home.vault_socket))
            connection.sendall(REPORT)
            if not connection.recv(1):
                raise ConnectionRefusedError(errno.ECONNREFUSED, "hung up")

    try:
        assert as_(pwd.getpwuid(os.getuid()), report) == "done"
        assert as_(somebody, report) in {"ECONNREFUSED", "ECONNRESET", "EPIPE"}
    finally:
        for path in opened:
            path.chmod(0o600 if path == home.vault_socket else 0o700)


def test_it_cannot_look_into_the_processes(home: AgentHome, somebody: pwd.struct_passwd) -> None:
    state = read_live(home.agent_state, AgentState)
    assert state is not None
    for part in state.parts:
        memory = Path(f"/proc/{part.pid}/mem")
        assert as_(somebody, lambda path=memory: path.open("rb").close()) == "EACCES"
        assert as_(somebody, lambda pid=part.pid: os.kill(pid, 0)) == "EPERM"
