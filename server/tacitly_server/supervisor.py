"""`tacitly-server up`: keeps SuperLink, SuperExec and the active campaign's run alive.

    supervisor ─┬─ SuperLink    (tacitly_server.superlink)
                ├─ SuperExec    (tacitly_server.superexec) ── ServerApp, one for each run
                └─ desk         (tacitly_server.enrolment)

Each is started again separately: a run survives SuperLink's death if it is
back within Flower's heartbeat (60 s). A ServerApp that died is never started again by Flower,
which notices only after about 67 s: here its process is watched, its run stopped, and a new run
goes on from the last released round. All of them end when the supervisor does, also by SIGKILL.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from tacitly_common.contract.log import Contract
from tacitly_common.errors import TacitlyError, ValidationError
from tacitly_common.processes import Child, handles, living_children, wait_or_kill
from tacitly_server import certificates
from tacitly_server.campaigns.filing import active_campaign, campaign_state, check_filed
from tacitly_server.campaigns.officers_log import OfficersLog
from tacitly_server.campaigns.standing import Standing, why_not
from tacitly_server.control import Control, ControlError, Run
from tacitly_server.health import (
    WRITE_SECONDS,
    ProcessStatus,
    RunStatus,
    Status,
    SupervisorError,
    only_supervisor,
    write_status,
)
from tacitly_server.home import HOME_VARIABLE, ServerHome
from tacitly_server.request_guard import OPERATOR_ADDRESS
from tacitly_server.run_keeper import Report, RunKeeper
from tacitly_server.superlink import FLOWER_ENVIRONMENT, bind_all, read_secrets

_TICK_SECONDS: Final = 1.0
# Runs are looked at when there is reason to, and in any case this often.
_LOOK_SECONDS: Final = 15.0
_PORT_WAIT_SECONDS: Final = 10.0
_END_SECONDS: Final = 6.0
_CANNOT_START: Final = 2


def child_environment(home: ServerHome) -> dict[str, str]:
    """What SuperLink, SuperExec and the ServerApp see. Loopback calls never go to a proxy."""
    scripts = str(Path(sys.executable).parent)
    no_proxy = f"{OPERATOR_ADDRESS},localhost"
    return {
        **os.environ,
        **FLOWER_ENVIRONMENT,
        HOME_VARIABLE: str(home.root.resolve()),
        "FLWR_HOME": str(home.flower.resolve()),
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        # SuperExec finds `flwr-serverapp` here.
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
    }


@dataclass(slots=True)
class Supervisor:
    """One running server. `run` blocks until `stop` is set."""

    home: ServerHome
    host: str
    port: int
    enrolment_port: int
    wanted_campaign: str | None
    report: Report
    stop: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float] = time.monotonic
    _children: tuple[Child, Child, Child] = field(init=False)
    _contract: Contract | None = None

    def run(self) -> None:
        """Start everything, keep it running, and end it in order.

        Raises:
            ValidationError: secrets, certificates, address or campaign are not in order.
            SupervisorError: a server runs here already, or a part of it refuses to start.
        """
        os.umask(0o077)
        with only_supervisor(self.home):
            ends = certificates.check(self.home.tls, now=datetime.now(UTC))
            read_secrets(self.home)
            if self.wanted_campaign is not None:
                check_filed(self.home, self.wanted_campaign)
            self._wait_for_port(self.port)
            self._wait_for_port(self.enrolment_port)
            self._children = self._make_children()
            status = Status(
                supervisor_pid=os.getpid(),
                host=self.host,
                port=self.port,
                enrolment_port=self.enrolment_port,
                certificate_ends=ends.isoformat(),
            )
            try:
                with Control.of(self.home, self.port) as control:
                    self._supervise(control, status)
            finally:
                self._end(status)

    def _supervise(self, control: Control, status: Status) -> None:
        superlink, superexec, desk = self._children
        keeper = RunKeeper(control, self.report, self.clock)
        looked_at = written_at = -_LOOK_SECONDS
        ended: set[str] = set()
        while not self.stop.is_set():
            before = status
            for child in self._children:
                child.tend()
                if child.exit_code == _CANNOT_START:
                    raise SupervisorError(f"{child.name} cannot start: {child.last_line()}")
            answers = control.healthy()
            if answers and not before.superlink_answers:
                self.report(f"SuperLink answers at https://{self.host}:{self.port}")
            apps = living_children(superexec.pid) if superexec.pid else []
            if before.campaign and keeper.over and before.campaign not in ended:
                ended.add(before.campaign)
                self.report(
                    f"campaign {before.campaign[:12]} is over: "
                    f"{before.released_round} of {before.rounds} rounds released"
                )
            status = self._campaign_status(before, ended, serverapp_lives=bool(apps))
            if status.campaign != before.campaign:
                keeper = RunKeeper(control, self.report, self.clock)
            if status.campaign and answers and not status.problem and not keeper.over:
                now = self.clock()
                app_pid = apps[0] if apps else None
                due = now - looked_at >= _LOOK_SECONDS or app_pid != before.serverapp_pid
                if due or not apps:
                    status = _look(keeper, status, serverapp_lives=bool(apps))
                    looked_at = now
            status = msgspec.structs.replace(
                status,
                superlink_answers=answers,
                superlink=ProcessStatus(pid=superlink.pid, restarts=superlink.restarts),
                superexec=ProcessStatus(pid=superexec.pid, restarts=superexec.restarts),
                desk=ProcessStatus(pid=desk.pid, restarts=desk.restarts),
                serverapp_pid=apps[0] if apps else None,
                run=_run_status(keeper.newest),
                runs_started=keeper.started,
            )
            if status != before or self.clock() - written_at >= WRITE_SECONDS:
                self._write(status)
                written_at = self.clock()
            self.stop.wait(_TICK_SECONDS)

    def _campaign_status(
        self, status: Status, ended: Collection[str], *, serverapp_lives: bool
    ) -> Status:
        """`status` with the campaign to run, its progress, and why it does not run if so.

        A campaign is kept until it has ended, or may not run and its ServerApp has seen that.
        """
        now = datetime.now(UTC)
        try:
            log = OfficersLog(self.home.officers_log)
            contract = self._contract = log.later(self._contract)
            campaign = status.campaign
            kept = campaign is not None and campaign not in ended
            if kept and not serverapp_lives:
                kept = not why_not(contract, campaign or "", now=now)
            if not kept:
                following = active_campaign(
                    self.home, contract, self.wanted_campaign, now=now, passed_over=ended
                )
                campaign = following or campaign
            if campaign is None:
                return msgspec.structs.replace(status, problem="")
            state = campaign_state(self.home.campaign(campaign), contract, now=now)
            problem = ""
            if state.standing is not Standing.FINISHED:
                problem = why_not(contract, campaign, now=now)
        except TacitlyError as error:
            if str(error) != status.problem:
                self.report(str(error))
            return msgspec.structs.replace(status, problem=str(error))
        released = state.progress.released_round
        if released > (status.released_round if campaign == status.campaign else 0):
            self.report(f"round {released} of {state.plan.rounds} released")
        if problem and problem != status.problem:
            self.report(problem)
        return msgspec.structs.replace(
            status,
            campaign=campaign,
            rounds=state.plan.rounds,
            released_round=released,
            problem=problem,
        )

    def _write(self, status: Status) -> None:
        try:
            write_status(self.home, status)
        except OSError as error:
            self.report(f"{self.home.status}: {error.strerror}")

    def _make_children(self) -> tuple[Child, Child, Child]:
        environment = child_environment(self.home)
        own_pid = str(os.getpid())
        place = ["--home", str(self.home.root), "--parent-pid", own_pid]
        common = [*place, "--port", str(self.port)]
        desk = [*place, "--port", str(self.enrolment_port), "--server-port", str(self.port)]
        entry = [sys.executable, "-m"]
        return (
            self._child(
                "SuperLink",
                [*entry, "tacitly_server.superlink", *common, "--host", self.host],
                environment,
            ),
            self._child("SuperExec", [*entry, "tacitly_server.superexec", *common], environment),
            self._child(
                "desk",
                [*entry, "tacitly_server.enrolment", *desk, "--host", self.host],
                environment,
            ),
        )

    def _child(self, name: str, command: list[str], environment: dict[str, str]) -> Child:
        log = self.home.logs / f"{name.lower()}.log"
        return Child(name, command, environment, log, self.clock, self.report)

    def _wait_for_port(self, port: int) -> None:
        """Give a process whose supervisor was killed the time to end."""
        until = self.clock() + _PORT_WAIT_SECONDS
        while True:
            try:
                sockets = bind_all(self.host, port)
            except ValidationError:
                if self.clock() >= until or self.stop.wait(_TICK_SECONDS / 2):
                    raise
            else:
                for bound in sockets:
                    bound.close()
                return

    def _end(self, status: Status) -> None:
        """SuperExec first: its ServerApp then reports its own end while SuperLink listens."""
        superlink, superexec, desk = self._children
        desk.end(_END_SECONDS)
        apps = handles(living_children(superexec.pid) if superexec.pid else [])
        superexec.end(_END_SECONDS)
        wait_or_kill(apps, _END_SECONDS)
        superlink.end(_END_SECONDS)
        self._write(status)
        self.report("ended")


def _look(keeper: RunKeeper, status: Status, *, serverapp_lives: bool) -> Status:
    """`status` after the keeper's look: SuperLink may go away at any time."""
    if status.campaign is None:
        return status
    try:
        keeper.look(status.campaign, status.released_round, serverapp_lives=serverapp_lives)
    except ControlError as error:
        return msgspec.structs.replace(status, problem=str(error))
    return status


def _run_status(run: Run | None) -> RunStatus | None:
    if run is None:
        return None
    return RunStatus(
        id=str(run.run_id), status=run.status, sub_status=run.sub_status, details=run.details
    )
