"""Suggestions for other programs: control service, vault and worker, as processes of their own."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from hand_clock import HandClock
from homes import make_home, training_plan
from released import release
from stock_flower import eventually
from tacitly_client.assist.exchange import Answer, Offer, Question, SuggestError, SuggestLink
from tacitly_client.control.control_pb2 import SuggestRequest, SuggestResponse
from tacitly_client.control.control_pb2_grpc import ControlStub
from tacitly_client.control.service import control, serving
from tacitly_client.daemon.vault import vault_of
from tacitly_client.home import AgentHome
from tacitly_client.local_socket import listen
from tacitly_client.models import Models
from tacitly_client.store import EventStore

PLAN = training_plan()
HABIT = "write and return the value of the argument " * 40
PATIENCE_SECONDS = 60


def made_home(root: Path, **how: Any) -> AgentHome:
    home = make_home(root, PLAN, text=HABIT, **how)
    Models.open(home).keep(PLAN, *release(PLAN))
    return home


@contextmanager
def asking(home: AgentHome) -> Iterator[ControlStub]:
    """The control service of a home whose vault serves."""
    with vault_of(home, hindrances=lambda _runs: ()) as vault:
        thread = threading.Thread(target=vault.serve)
        thread.start()
        try:
            with serving(home, HandClock()), control(home) as stub:
                yield stub
        finally:
            vault.stop()
            thread.join()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> AgentHome:
    return made_home(tmp_path_factory.mktemp("assist") / "home")


@pytest.fixture(scope="module")
def stub(home: AgentHome) -> Iterator[ControlStub]:
    with asking(home) as asked:
        yield asked


def suggested(stub: ControlStub, typed: str, **fields: Any) -> SuggestResponse:
    answer: SuggestResponse = stub.Suggest(
        SuggestRequest(typed=typed, **fields), timeout=PATIENCE_SECONDS
    )
    return answer


def words(answer: SuggestResponse) -> list[str]:
    return [each.text for each in answer.suggestions if each.kind == "word"]


def workers(home: AgentHome) -> list[psutil.Process]:
    """The processes that suggest for a home."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if {"tacitly_client.assist.worker", str(home.root)} <= set(child.cmdline())
    ]


def test_a_program_is_told_what_may_come_next_and_from_which_model(stub: ControlStub) -> None:
    answer = suggested(stub, "write and ret")
    assert words(answer)[0] == "return"
    assert {each.kind for each in answer.suggestions} == {"word", "key", "action"}
    assert (answer.plan_hash, answer.round) == (PLAN.hash, 3)


def test_how_many_and_with_whose_habits_is_the_program_s_choice(stub: ControlStub) -> None:
    assert len(words(suggested(stub, "re"))) == 3
    assert len(words(suggested(stub, "re", most=7))) == 7
    with_habits = suggested(stub, "write and ret").suggestions[0]
    without = suggested(stub, "write and ret", without_habits=True).suggestions[0]
    assert with_habits.probability > 0.9 > without.probability


def test_one_process_answers_all_that_is_asked(home: AgentHome, stub: ControlStub) -> None:
    suggested(stub, "a")
    (first,) = workers(home)
    suggested(stub, "b")
    assert workers(home) == [first]


@pytest.mark.parametrize("typed", ["", "x" * 5_000, "\x00\ud7ff\U0001f600", "\n\t\b" * 50])
def test_whatever_was_typed_is_answered(stub: ControlStub, typed: str) -> None:
    assert suggested(stub, typed).suggestions


def test_more_than_nine_is_refused_with_the_bounds(stub: ControlStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        suggested(stub, "re", most=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "most must lie in [1, 9]" in caught.value.details()
    assert suggested(stub, "re").suggestions


def test_a_killed_process_is_begun_again(home: AgentHome, stub: ControlStub) -> None:
    suggested(stub, "re")
    (worker,) = workers(home)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait(PATIENCE_SECONDS)
    assert words(suggested(stub, "write and ret"))[0] == "return"


def test_the_process_that_suggests_loads_no_torch_and_opens_no_network(
    home: AgentHome, stub: ControlStub
) -> None:
    suggested(stub, "re")
    (worker,) = workers(home)
    assert worker.net_connections() == []
    assert not any("libtorch" in each.path for each in worker.memory_maps())


def test_what_was_erased_is_held_by_no_process(tmp_path: Path) -> None:
    home = made_home(tmp_path / "home")
    with asking(home) as stub:
        assert suggested(stub, "write and ret").suggestions[0].probability > 0.9
        (worker,) = workers(home)
        with EventStore.open(home.store) as store:
            store.erase()
        # Without being asked anything more.
        worker.wait(PATIENCE_SECONDS)
        after = suggested(stub, "write and ret")
        assert after == suggested(stub, "write and ret", without_habits=True)


def test_a_newer_model_is_used_from_then_on(tmp_path: Path) -> None:
    home = made_home(tmp_path / "home")
    with asking(home) as stub:
        assert suggested(stub, "re").round == 3
        Models.open(home).keep(PLAN, *release(PLAN, round=4))
        assert suggested(stub, "re").round == 4


def test_it_ends_when_nobody_asks(tmp_path: Path) -> None:
    home = made_home(tmp_path / "home", linger_seconds=0.5)
    with asking(home) as stub:
        suggested(stub, "re")
        eventually(lambda: workers(home) == [])
        assert suggested(stub, "re").suggestions


def test_without_a_model_a_program_is_told_why(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", PLAN)
    with asking(home) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            suggested(stub, "re")
        assert "`tacitly-agent model fetch` asks for it" in caught.value.details()
        Models.open(home).keep(PLAN, *release(PLAN))
        assert suggested(stub, "re").suggestions


def test_without_a_vault_a_program_is_told_so_and_not_what_it_typed(tmp_path: Path) -> None:
    home = made_home(tmp_path / "home")
    with serving(home, HandClock()), control(home) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            suggested(stub, "quixotic")
        assert "is the agent running?" in caught.value.details()
        assert "quixotic" not in caught.value.details()


@pytest.mark.parametrize("answer", [b"nonsense\n", b'{"offers":1}\n', b"[" * 100_000])
def test_a_process_that_answers_something_else_is_given_up(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "vault.sock"
    with listen(path) as listener:

        def lie() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as said:
                said.readline()
                connection.sendall(answer)

        thread = threading.Thread(target=lie)
        thread.start()
        with pytest.raises(SuggestError, match="malformed line"):
            SuggestLink(path).ask(Question(typed="a", most=1, with_head=True))
        thread.join()


def test_what_passes_between_them_shows_no_text_by_itself() -> None:
    question = Question(typed="quixotic", most=1, with_head=True)
    answer = Answer(offers=(Offer(kind="word", text="quixotic", probability=0.5),))
    assert "quixotic" not in repr(question)
    assert "quixotic" not in repr(answer)
