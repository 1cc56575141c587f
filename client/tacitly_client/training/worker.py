"""The trainer process: python -m tacitly_client.training.worker --home DIR

It may open the store and the ledger and has no network. It reads jobs from stdin and writes
results to stdout (`pipe.py`), nothing else: whatever a library prints goes to stderr. It ends,
with exit status 0, when stdin ends or no job came for `trainer_linger_seconds`.

Unless the person lets it train at any time it is as nice as a process can be. Its memory is
bounded in any case.

torch and Opacus take seconds and 340 MB to load. They are loaded after arguments, settings and
plan are checked, and gone when the process ends, so an idle agent holds neither.
"""

import io
import os
import resource
import select
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import click

if TYPE_CHECKING:
    from tacitly_client.home import AgentHome

# The node may have given this round up while we loaded; the next one then finds us loaded.
_FIRST_JOB_SECONDS: Final = 60.0
_NICEST: Final = 19
# Several times what the largest plan needs; a trainer that would take more fails, alone.
_MEMORY_BYTES: Final = 2 * 2**30


@click.command()
@click.option("--home", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--parent-pid", type=int, help="End when this process ends.")
def main(home: Path, parent_pid: int | None) -> None:
    """Train for the agent whose directory is --home. Started by the vault, not by hand."""
    from tacitly_client.home import AgentHome
    from tacitly_client.local_socket import private_directory
    from tacitly_client.processes import forbid_dumps, use_one_core
    from tacitly_common.errors import TacitlyError
    from tacitly_common.processes import end_with_parent

    if parent_pid is not None:
        # Not SIGTERM: a trainer that stands still would not see it.
        end_with_parent(parent_pid, signal.SIGKILL)
    forbid_dumps()
    use_one_core()
    # torch asks for one; the vault lets nobody write outside the home.
    private_directory(AgentHome(home).run)
    tempfile.tempdir = str(AgentHome(home).run)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    # Unbuffered: bytes of a next job must stay in the pipe, where `select` sees them.
    requests = io.BufferedReader(io.FileIO(os.dup(0), "rb"), buffer_size=1)
    replies = io.BufferedWriter(io.FileIO(os.dup(1), "wb"))
    os.dup2(2, 1)
    try:
        serve(AgentHome(home), requests, replies)
    except TacitlyError as error:
        print(f"tacitly trainer: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def serve(home: "AgentHome", requests: BinaryIO, replies: BinaryIO) -> None:
    """Load torch, say READY, answer jobs until there are no more.

    A job that fails is answered DEVICE_FAULT. stderr gets the message of our own errors, which
    hold no content, and of others the type alone.

    Raises:
        TacitlyError: the home has no usable plan or settings, or a frame is malformed.
    """
    from tacitly_client.home import TrainWhen, read_settings
    from tacitly_client.training.pipe import READY, Job, Result, read_frame, write_frame
    from tacitly_common.campaign import read_plan
    from tacitly_common.errors import TacitlyError
    from tacitly_common.wire.codes import ReplyCode

    settings, plan = read_settings(home), read_plan(home.plan)
    if settings.train_when is TrainWhen.IDLE:
        os.nice(_NICEST)

    from tacitly_client.training.attempt import answer

    replies.write(READY)
    replies.flush()
    patience = max(settings.trainer_linger_seconds, _FIRST_JOB_SECONDS)
    while select.select([requests], [], [], patience)[0]:
        patience = settings.trainer_linger_seconds
        frame = read_frame(requests, Job, max_body_bytes=4 * plan.model.parameters)
        if frame is None:
            return
        job, body = frame
        try:
            code, update = answer(home, plan, settings, job, body, now=datetime.now(UTC))
        except Exception as error:
            shown = f": {error}" if isinstance(error, TacitlyError) else ""
            print(f"tacitly trainer: {type(error).__name__}{shown}", file=sys.stderr, flush=True)
            code, update = ReplyCode.DEVICE_FAULT, b""
        write_frame(replies, Result(round=job.round, attempt=job.attempt, code=code), update)


if __name__ == "__main__":
    main()
