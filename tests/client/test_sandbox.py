"""What the agent's processes are not able to do, by trying it in those very processes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import inside
from homes import make_home, training_plan
from stock_flower import eventually
from tacitly_client import sandbox
from tacitly_client.home import AgentHome
from tacitly_client.local_socket import connect
from tacitly_client.node.identity import create_node_key
from tacitly_client.sandbox import Confinement, Rules, confine
from tacitly_client.training.pipe import TRAIN

DENIED = {"EACCES", "EPERM", "EXDEV"}
NO_INTERNET = {"internet", "internet 6", "packets", "io_uring"}
NOBODY_MAY = {"read other's memory", "leave a core", "write document", "write beside home"}
INNER_MAY = {
    *("unix", "read key", "list store", "read ledger", "child reads key"),
    *("read document", "write home", "write node"),
}
# The modules that each imports after it has confined itself.
INNER = {
    "tacitly_client.daemon.vault_main": "tacitly_client.daemon.vault",
    "tacitly_client.control": "tacitly_client.control.service",
    "tacitly_client.capture": "tacitly_client.capture.main",
}


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    made = make_home(tmp_path / "home", training_plan())
    create_node_key(made)
    made.ca_certificate.write_bytes(made.authority_certificate.read_bytes())
    (tmp_path / "document").write_text("a letter")
    return made


@contextmanager
def process(home: AgentHome, module: str, when: str) -> Iterator[dict[str, str]]:
    """The process with its tries done; what came of each."""
    command = [sys.executable, "-P", inside.__file__, module, when]
    with subprocess.Popen(
        [*command, "--home", str(home.root)], stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            yield json.loads(running.stdout.readline())
        finally:
            running.terminate()


def test_the_node_opens_nothing_but_its_own(home: AgentHome) -> None:
    with process(home, "tacitly_client.node", "tacitly_client.node.agent") as told:
        denied = {what for what, came in told.items() if came in DENIED}
        assert denied == {
            *NOBODY_MAY,
            *("read key", "list store", "read ledger", "child reads key", "read document"),
            *("link key", "move key", "write home", "io_uring"),
        }
        assert {what for what, came in told.items() if came == "done"} == {
            *("internet", "internet 6", "packets", "unix", "write node"),
        }


@pytest.mark.parametrize("module", INNER)
def test_who_may_see_events_has_no_network_and_writes_the_home_alone(
    home: AgentHome, module: str
) -> None:
    with process(home, module, INNER[module]) as told:
        denied = {what for what, came in told.items() if came in DENIED}
        assert denied == NO_INTERNET | NOBODY_MAY
        assert {what for what, came in told.items() if came == "done"} >= INNER_MAY


def test_the_same_can_be_done_where_nothing_is_confined(home: AgentHome) -> None:
    """So the tests above fail for no other reason than the rules."""
    command = [sys.executable, "-P", inside.__file__, "--home", str(home.root)]
    told = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    # Systems may forbid these two to everybody.
    assert {what for what, came in told.items() if came != "done"} <= {
        "io_uring",
        "read other's memory",
    }


# The vault as shipped, but for the program that it takes for a trainer.
VAULT = """
import signal, sys
from tacitly_client.daemon.process import run_process
from tacitly_client.sandbox import inner_rules

TRAINER = sys.argv.pop(1)

def serve(home):
    from tacitly_client.daemon.vault import vault_of
    trainer = [sys.executable, "-P", TRAINER, "--home", str(home.root)]
    with vault_of(home, trainer=trainer) as vault:
        vault.serve()

run_process("", inner_rules, serve)
"""


def test_a_trainer_is_held_to_its_vaults_rules(home: AgentHome) -> None:
    command = [sys.executable, "-P", "-c", VAULT, inside.__file__, "--home", str(home.root)]
    with subprocess.Popen(command) as vault:
        try:
            eventually(home.vault_socket.exists)
            with connect(home.vault_socket) as connection:
                connection.sendall(TRAIN)
                told = json.loads(connection.makefile().readline())
        finally:
            vault.kill()
    denied = {what for what, came in told.items() if came in DENIED}
    # This one forbids itself no dumps, and the vault, its parent, is held to the same rules.
    assert denied | {"leave a core", "read other's memory"} == NO_INTERNET | NOBODY_MAY
    assert {what for what, came in told.items() if came == "done"} >= INNER_MAY


def test_rules_come_before_threads(tmp_path: Path) -> None:
    """A thread that runs already would not be held to them."""
    program = (
        "import threading; from tacitly_client.sandbox import Rules, confine\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "confine(Rules(network=False, writes=()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"before it starts a thread" in done.stderr


def test_what_the_system_cannot_do_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "forbid_dumps", lambda: None)  # of the test's own process
    monkeypatch.setattr(sandbox.sys, "platform", "darwin")
    confined = confine(Rules(network=False, writes=()))
    assert confined == Confinement("darwin has no such means", "darwin has no such means")
    assert "files are not confined" in confined.missing
    assert Confinement("", "").missing == ""
