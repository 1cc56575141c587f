"""When a run is started, stopped and left alone."""

from dataclasses import dataclass, field, replace

import pytest

from tacitly_server.bundle import bundle
from tacitly_server.control import ControlError, Run
from tacitly_server.run_keeper import RunKeeper

CAMPAIGN, OTHER = "c" * 64, "d" * 64


@dataclass
class Server:
    """The runs of a SuperLink, and what the keeper did. `look` is one look, one second later."""

    known: list[Run] = field(default_factory=list)
    refuses: bool = False
    now: float = 0.0
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keeper = RunKeeper(self, self.said.append, lambda: self.now)

    def runs(self) -> list[Run]:
        return list(self.known)

    def start(self, fab: bytes, *, campaign: str) -> int:
        assert fab == bundle()
        if self.refuses:
            raise ControlError("refused")
        self.known.insert(0, Run(len(self.known) + 1, campaign, "pending", "", ""))
        return self.known[0].run_id

    def stop(self, run_id: int) -> None:
        self.change(run_id, "finished", "stopped")

    def change(self, run_id: int, status: str, sub_status: str = "", details: str = "") -> None:
        self.known = [
            replace(run, status=status, sub_status=sub_status, details=details)
            if run.run_id == run_id
            else run
            for run in self.known
        ]

    def look(self, *, lives: bool = False, released_round: int = 0, seconds: float = 1.0) -> None:
        self.now += seconds
        self.keeper.look(CAMPAIGN, released_round, serverapp_lives=lives)

    def states(self) -> list[str]:
        """Oldest first."""
        return [run.sub_status or run.status for run in reversed(self.known)]


def test_a_campaign_without_a_run_gets_one_and_only_one() -> None:
    server = Server()
    server.look()
    server.look()
    assert server.states() == ["pending"]


def test_runs_of_other_campaigns_are_none_of_its_business() -> None:
    server = Server([Run(9, OTHER, "running", "", "")])
    server.look()
    assert [run.campaign for run in server.known] == [CAMPAIGN, OTHER]
    assert server.known[1].status == "running"


def test_a_run_whose_serverapp_lives_is_left_alone() -> None:
    server = Server()
    server.look()
    server.change(1, "running")
    for _ in range(9):
        server.look(lives=True)
    assert server.states() == ["running"]


def test_a_run_whose_serverapp_is_gone_is_stopped_when_seen_twice_and_replaced() -> None:
    server = Server()
    server.look()
    server.change(1, "running")
    server.look()
    assert server.states() == ["running"]
    server.look()
    assert server.states() == ["stopped"]
    server.look()
    server.look(seconds=2)
    assert server.states() == ["stopped", "pending"]


def test_a_serverapp_that_ends_its_run_and_then_its_process_is_not_stopped() -> None:
    server = Server()
    server.look()
    server.change(1, "running")
    server.look()
    server.change(1, "finished", "completed")
    server.look()
    assert server.states() == ["completed"]


def test_a_starting_run_is_given_time() -> None:
    server = Server()
    server.look()
    server.change(1, "starting")
    for _ in range(4):
        server.look()
    assert server.states() == ["starting"]
    server.look(seconds=3)
    assert server.states() == ["stopped"]


def test_a_completed_run_ends_the_campaign() -> None:
    server = Server()
    server.look()
    server.change(1, "finished", "completed")
    server.look()
    server.look(seconds=1000)
    assert server.keeper.over
    assert server.states() == ["completed"]


def test_a_run_that_completed_before_this_server_started_is_tried_again() -> None:
    server = Server([Run(1, CAMPAIGN, "finished", "completed", "")])
    server.look()
    assert server.states() == ["completed", "pending"]
    assert not server.keeper.over


def test_failures_in_a_row_pause_ever_longer_until_a_round_is_released() -> None:
    server = Server()
    pauses = []
    for _ in range(9):
        server.look(seconds=0)
        began, runs = server.now, len(server.known)
        server.change(server.known[0].run_id, "finished", "failed", "no disk")
        while len(server.known) == runs:
            server.look()
        pauses.append(server.now - began)
    assert pauses == [2, 3, 5, 9, 17, 33, 61, 61, 61]
    assert "run 1 ended (failed): no disk; next in 1 s" in server.said

    server.change(server.known[0].run_id, "finished", "failed")
    server.look(released_round=1)
    server.look(released_round=1, seconds=1)
    assert server.states()[-1] == "pending"


def test_of_two_unfinished_runs_the_older_is_stopped() -> None:
    running = [Run(2, CAMPAIGN, "pending", "", ""), Run(1, CAMPAIGN, "running", "", "")]
    server = Server(running)
    server.look(lives=True)
    assert server.states() == ["stopped", "pending"]


def test_no_run_is_started_while_an_old_serverapp_still_ends() -> None:
    server = Server([Run(1, CAMPAIGN, "finished", "stopped", "")])
    server.look(lives=True)
    assert server.states() == ["stopped"]
    server.look()
    assert server.states() == ["stopped", "pending"]


def test_a_refused_start_is_not_repeated_at_once() -> None:
    server = Server(refuses=True)
    with pytest.raises(ControlError):
        server.look()
    server.refuses = False
    server.look(seconds=0.5)
    assert server.known == []
    server.look(seconds=0.5)
    assert server.states() == ["pending"]
