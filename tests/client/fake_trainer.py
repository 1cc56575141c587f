"""A trainer process that does what its first argument says, or the file that it names with an @.
Run as a script by tests.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from tacitly_client.training.pipe import READY, Job, Result, read_frame, write_frame
from tacitly_common.wire.codes import ReplyCode


def update_of(round_: int, coordinates: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """The update that the obedient trainer answers with."""
    return np.arange(coordinates, dtype=np.int32) * round_ - 7


def main() -> None:
    mode, coordinates, notes = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    if mode.startswith("@"):
        mode = Path(mode[1:]).read_text()
    (notes / "environment.json").write_text(json.dumps(dict(os.environ)))
    while mode == "slow-start" and not (notes / "go").exists():
        time.sleep(0.05)
    if mode == "dead-start":
        return
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    while (frame := read_frame(sys.stdin.buffer, Job, max_body_bytes=1 << 30)) is not None:
        job, _ = frame
        with (notes / "jobs").open("a") as file:
            file.write(f"{os.getpid()} {job.round} {job.attempt}\n")
        body = update_of(job.round, coordinates).tobytes()
        result = Result(round=job.round, attempt=job.attempt, code=ReplyCode.OK)
        match mode:
            case "crash":
                sys.stderr.write("KeyError: 'what was typed'\n")
                os._exit(3)
            case "hang" if job.round > 1:
                time.sleep(3_600)
            case "garbage":
                sys.stdout.buffer.write(b"not a frame at all, much longer than a length field")
                sys.stdout.buffer.flush()
                time.sleep(3_600)
            case "short":
                body = body[:-4]
            case "other-job":
                result = Result(round=job.round + 1, attempt=job.attempt, code=ReplyCode.OK)
            case "refuse":
                result = Result(
                    round=job.round, attempt=job.attempt, code=ReplyCode.BUDGET_EXHAUSTED
                )
                body = b""
            case "leak-in-refusal":
                result = Result(round=job.round, attempt=job.attempt, code=ReplyCode.WRONG_MODEL)
        write_frame(sys.stdout.buffer, result, body)
        if mode == "once":
            return


if __name__ == "__main__":
    main()
