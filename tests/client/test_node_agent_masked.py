"""The agent of a person who joined a plan that masks, against an unmodified SuperLink."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from device import agent, enrolled
from officers import grant_for
from plans import masked_plan
from stock_flower import StockSuperLink, bundle
from tacitly_common.secagg.messages import Advert, parse
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.group_terms import group_number, largest_payload_bytes
from tacitly_common.wire.messages import (
    Step,
    Task,
    model_record,
    parse_reply_content,
    parse_step_reply,
    step_content,
    train_content,
)
from tacitly_common.wire.phases import Phase


@pytest.fixture
def superlink(tmp_path: Path) -> Iterator[StockSuperLink]:
    with StockSuperLink(tmp_path) as running:
        yield running


def test_it_answers_steps_alone_and_trains_only_for_those_who_share(
    superlink: StockSuperLink,
) -> None:
    fab = bundle(superlink.directory / "app", client="")
    plan = masked_plan(app_hash=sha256(fab).hexdigest())
    device = enrolled(superlink, superlink.directory / "device", plan)
    task = Task(plan.hash, 1, 1, grant_for(plan))
    model = np.zeros(plan.model.parameters, np.float32)
    most_bytes = largest_payload_bytes(plan)
    with superlink.drive(superlink.start_run(fab)) as drive, agent(device, superlink):
        plain = drive.answer(drive.ask(device.node_id, train_content(task, model)))
        step = step_content(task, Step(Phase.ADVERTISE, group_number(0)))
        first, again = (drive.answer(drive.ask(device.node_id, step)) for _ in range(2))
        hasty = step_content(task, Step(Phase.UPLOAD, b"no shares"), model_record(model))
        refused = drive.answer(drive.ask(device.node_id, hasty))
    # In the open there is no update to be had, and nothing was asked of the trainer for it.
    assert parse_reply_content(plain.content, coordinates=1).code is ReplyCode.MALFORMED_TASK
    said = parse_step_reply(first.content, phase=Phase.ADVERTISE, most_bytes=most_bytes)
    assert said.step is not None
    parse(Advert, said.step.payload)
    assert said == parse_step_reply(again.content, phase=Phase.ADVERTISE, most_bytes=most_bytes)
    reply = parse_step_reply(refused.content, phase=Phase.UPLOAD, most_bytes=most_bytes)
    assert reply.code is ReplyCode.MASKING_OUT_OF_PHASE
    assert device.jobs() == []
