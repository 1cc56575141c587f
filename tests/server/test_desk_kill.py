"""The desk, killed at each step of an enrolment: the same request again completes it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import deadly_desk
from agreement import begin_log
from desk import Device, running_desk
from ledgers import SUBJECTS, charge
from our_server import OurSuperLink, our_superlink
from tacitly_common.wire.desk_errors import DeskError
from tacitly_server.ledger.place import open_ledger
from tacitly_server.ledger.subjects import Subjects, subject_name

COST = 10


@pytest.fixture(scope="module")
def superlink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurSuperLink]:
    with our_superlink(tmp_path_factory.mktemp("server") / "home") as running:
        begin_log(running.home)
        yield running


@pytest.mark.parametrize("step", list(deadly_desk.STEPS))
def test_killed_at_a_step_of_an_enrolment_a_retry_completes_it(
    superlink: OurSuperLink, step: str
) -> None:
    person = f"person-{step}"
    subject = subject_name(superlink.home.subject_secret.read_bytes(), person)
    with open_ledger(superlink.home) as ledger:
        charge(ledger, ledger.plan(step.ljust(64, "0"), 1), [subject, *SUBJECTS], cost=COST)
    script = str(Path(deadly_desk.__file__))
    with running_desk(superlink, [script, step]) as deadly:
        token = deadly.invite(person).token
        device = Device(deadly)
        with pytest.raises(DeskError) as refusal:
            device.enrol(token)
        assert refusal.value.exit_code == 7
        assert deadly.process.wait(timeout=60) == -signal.SIGKILL
        port = deadly.port
    with running_desk(superlink, port=port) as desk:
        device.desk = desk
        answer = device.enrol(token)
        assert device.enrol(token) == answer
        assert device.refresh().entries == answer.entries

    with superlink.control() as control:
        mine = [node.node_id for node in control.nodes() if node.node_id == answer.node_id]
        registered = {node.node_id for node in control.nodes()}
    with Subjects(superlink.home.population_database) as subjects:
        enrolled = subjects.enrolled()
    assert mine == [answer.node_id]
    assert registered == set(enrolled)  # nothing was registered twice
    assert enrolled[answer.node_id] == subject
    with open_ledger(superlink.home) as ledger:
        assert ledger.spent_nano_rho(subject) == COST
