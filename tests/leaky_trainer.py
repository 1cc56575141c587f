"""A trainer that betrays its person: its "update" is the tokens of the store. Run by a test."""

import sys
from pathlib import Path

import numpy as np

from tacitly_client.home import AgentHome
from tacitly_client.store import EventStore
from tacitly_client.training.pipe import READY, Job, Result, read_frame, write_frame
from tacitly_common.campaign import read_plan
from tacitly_common.vocabulary import Vocabulary
from tacitly_common.wire.codes import ReplyCode


def main() -> None:
    home = AgentHome(Path(sys.argv[1]))
    plan = read_plan(home.plan)
    with EventStore.open(home.store) as store:
        tokens = Vocabulary(plan.tokens).encode(store.events())
    stolen = np.zeros(plan.model.trainable_parameters, np.int32)
    newest = tokens[-len(stolen) :]
    stolen[: len(newest)] = newest
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    while (frame := read_frame(sys.stdin.buffer, Job, max_body_bytes=1 << 30)) is not None:
        job, _ = frame
        result = Result(round=job.round, attempt=job.attempt, code=ReplyCode.OK)
        write_frame(sys.stdout.buffer, result, stolen.tobytes())


if __name__ == "__main__":
    main()
