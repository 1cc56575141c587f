"""The desk as `tacitly-server up` runs it: found by an invitation, and back after a kill."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agreement import begin_log
from desk import Desk, Device, answers
from our_server import OurSuperLink
from stock_flower import eventually, free_port
from tacitly_common.invitation import parse_invitation
from tacitly_common.wire.desk_errors import DeskNotAuthorisedError
from tacitly_server.health import Status, read_status
from tacitly_server.home import ServerHome
from tacitly_server.initialise import initialise

SERVER = str(Path(sys.executable).with_name("tacitly-server"))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    home = ServerHome(tmp_path / "home")
    initialise(home, [], now=datetime.now(UTC))
    begin_log(home)
    port, enrolment_port = free_port(), free_port()
    command = [SERVER, "up", "--home", str(home.root), "--port", str(port)]
    with (home.root / "up.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--enrolment-port", str(enrolment_port)], stdout=log, stderr=log
        )
    desk = Desk(OurSuperLink(home, port), enrolment_port, process)
    try:
        eventually(lambda: home.status.exists() and read_status(home).superlink_answers)
        eventually(lambda: answers(desk))
        yield desk
    finally:
        desk.stack.close()
        process.terminate()
        process.wait()


def command(desk: Desk, *arguments: str) -> str:
    ended = subprocess.run(
        [SERVER, *arguments, "--home", str(desk.home.root)], capture_output=True, check=True
    )
    return ended.stdout.decode()


def test_an_invitation_enrols_a_kill_is_survived_and_the_operator_shuts_out(desk: Desk) -> None:
    made = command(desk, "invite", "--person", "ada", "--address", "127.0.0.1")
    invitation = parse_invitation(made.encode())
    assert invitation.desk == f"127.0.0.1:{desk.port}"
    assert invitation.server == f"127.0.0.1:{desk.superlink.port}"
    device = Device(desk)
    device.enrol(invitation.token)

    before = read_status(desk.home)
    assert before.desk.pid
    os.kill(before.desk.pid, signal.SIGKILL)

    def back() -> Status | None:
        status = read_status(desk.home)
        return status if status.desk.restarts == 1 and status.desk.pid else None

    after = eventually(back)
    assert after.superlink.pid == before.superlink.pid
    eventually(lambda: answers(desk))
    assert device.enrol(invitation.token) == device.answer
    assert json.loads(command(desk, "health"))["healthy"]

    command(desk, "unregister", str(device.answer.node_id))
    with pytest.raises(DeskNotAuthorisedError, match="was revoked"):
        device.refresh()

    desk.process.terminate()
    desk.process.wait()
    eventually(lambda: not Path(f"/proc/{after.desk.pid}").exists())
