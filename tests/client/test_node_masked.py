"""One device's steps of a masked attempt, and what is no step of it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from plans import masked_plan
from tacitly_client.node.masked import MaskedAttempts
from tacitly_common.campaign import CampaignPlan
from tacitly_common.secagg.terms import SecaggError
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.group_terms import group_number, group_terms
from tacitly_common.wire.messages import Reply, Step, Task
from tacitly_common.wire.phases import Phase
from tacitly_server.aggregation.masking import GroupRound
from tacitly_simulations.bench.masked_group import NOW, authority, device

if TYPE_CHECKING:
    from collections.abc import Callable

PLAN = masked_plan(
    cohort=msgspec.structs.replace(masked_plan().cohort, minimum=2, target=4),
    masking=msgspec.structs.replace(masked_plan().masking, group_size=4),
)
NODES = (1, 2, 3, 4)
MODEL = np.zeros(PLAN.model.parameters, np.float32).tobytes()


@dataclass
class Node:
    """A device and what its trainer was asked."""

    attempts: MaskedAttempts
    code: ReplyCode = ReplyCode.OK
    trained: list[bytes] = field(default_factory=list)

    def train(self, model: bytes) -> Reply:
        self.trained.append(model)
        update = np.full(PLAN.model.trainable_parameters, 5, np.int32)
        return Reply(1, 1, self.code, update if self.code is ReplyCode.OK else None)

    def say(
        self,
        phase: Phase,
        payload: bytes,
        *,
        at: tuple[int, int] = (1, 1),
        model: bytes = MODEL,
        update_left: bool = False,
    ) -> Reply:
        return self.attempts.answer(
            Task(PLAN.hash, *at),
            Step(phase, payload),
            model if phase is Phase.UPLOAD else b"",
            self.train,
            update_left=update_left,
        )


def node(node_id: int, plan: CampaignPlan = PLAN) -> Node:
    return Node(MaskedAttempts(plan, lambda: device(node_id), lambda: NOW))


class Group:
    """Four devices and an honest server, which stands before a phase."""

    def __init__(self, before: Phase) -> None:
        self.nodes = {node_id: node(node_id) for node_id in NODES}
        terms = group_terms(PLAN, round_=1, attempt=1, group=0)
        self.server = GroupRound(terms, authority().certificate, now=NOW)
        self.asked = dict.fromkeys(NODES, group_number(0))
        steps: list[
            tuple[Phase, Callable[[int, bytes], object], Callable[[], dict[int, bytes]]]
        ] = [
            (Phase.ADVERTISE, self.server.advertised, self.rosters),
            (Phase.SHARE, self.server.shared, self.deliveries),
            (Phase.UPLOAD, self.server.uploaded, self.survivors),
            (Phase.CONFIRM, self.server.confirmed, self.confirmations),
        ]
        for phase, take, ask in steps:
            if phase >= before:
                break
            for node_id, each in self.nodes.items():
                reply = each.say(phase, self.asked[node_id])
                assert reply.step is not None
                assert take(node_id, reply.step.payload) is None
            self.asked = ask()

    def rosters(self) -> dict[int, bytes]:
        return dict.fromkeys(NODES, self.server.close_adverts())

    def deliveries(self) -> dict[int, bytes]:
        self.server.close_shares()
        return {node_id: self.server.delivery(node_id) for node_id in NODES}

    def survivors(self) -> dict[int, bytes]:
        return dict.fromkeys(NODES, self.server.close_uploads())

    def confirmations(self) -> dict[int, bytes]:
        self.server.close_confirmations()
        return {node_id: self.server.confirmations(node_id) for node_id in NODES}


@pytest.mark.parametrize("phase", Phase)
def test_the_newest_step_again_is_answered_by_the_same_bytes(phase: Phase) -> None:
    group = Group(phase)
    one = group.nodes[1]
    first = one.say(phase, group.asked[1])
    assert first.code is ReplyCode.OK
    assert one.say(phase, group.asked[1]) == first
    assert len(one.trained) == (phase >= Phase.UPLOAD)


@pytest.mark.parametrize("phase", Phase)
def test_another_message_of_a_phase_that_was_answered_ends_the_attempt(phase: Phase) -> None:
    group = Group(phase)
    one = group.nodes[1]
    one.say(phase, group.asked[1])
    other = group_number(1) if phase is Phase.ADVERTISE else b"other"
    assert one.say(phase, other).step is None
    assert not one.attempts.goes_on
    after = one.say(phase, group.asked[1])
    assert after.step is None or phase is Phase.ADVERTISE
    assert len(one.trained) == (phase >= Phase.UPLOAD)


def test_the_same_shares_with_another_model_are_another_message() -> None:
    group = Group(Phase.UPLOAD)
    one = group.nodes[1]
    one.say(Phase.UPLOAD, group.asked[1])
    other = np.ones(PLAN.model.parameters, np.float32).tobytes()
    assert one.say(Phase.UPLOAD, group.asked[1], model=other).code is ReplyCode.MASKING_OUT_OF_PHASE
    assert len(one.trained) == 1


@pytest.mark.parametrize("phase", [Phase.SHARE, Phase.UPLOAD, Phase.CONFIRM, Phase.UNMASK])
def test_a_process_that_began_anew_has_no_part_in_the_attempt(phase: Phase) -> None:
    group = Group(phase)
    restarted = node(1)
    reply = restarted.say(phase, group.asked[1])
    assert reply == Reply(1, 1, ReplyCode.MASKING_OUT_OF_PHASE, None)
    assert restarted.trained == []


def test_an_attempt_whose_vector_has_left_is_never_begun_anew() -> None:
    reply = node(1).say(Phase.ADVERTISE, group_number(0), update_left=True)
    assert reply == Reply(1, 1, ReplyCode.ROUND_REPLAYED, None)


def test_a_newer_attempt_takes_the_place_of_an_older_one() -> None:
    group = Group(Phase.UPLOAD)
    one = group.nodes[1]
    assert one.say(Phase.ADVERTISE, group_number(0), at=(1, 2)).code is ReplyCode.OK
    assert one.say(Phase.UPLOAD, group.asked[1]).code is ReplyCode.MASKING_OUT_OF_PHASE
    # The older one's message has not ended the newer.
    assert one.attempts.goes_on


@pytest.mark.parametrize("payload", [b"", b"\0", group_number(1), b"\xff" * 4, b"\0" * 5])
def test_no_group_but_the_plans(payload: bytes) -> None:
    reply = node(1).say(Phase.ADVERTISE, payload)
    assert reply == Reply(1, 1, ReplyCode.MASKING_MALFORMED, None)


def test_what_the_trainer_refuses_is_the_answer_and_the_end() -> None:
    group = Group(Phase.UPLOAD)
    one = group.nodes[1]
    one.code = ReplyCode.BUDGET_EXHAUSTED
    assert one.say(Phase.UPLOAD, group.asked[1]) == Reply(1, 1, ReplyCode.BUDGET_EXHAUSTED, None)
    assert not one.attempts.goes_on


def test_nobody_trains_or_pays_for_shares_that_do_not_hold() -> None:
    group = Group(Phase.UPLOAD)
    one = group.nodes[1]
    assert one.say(Phase.UPLOAD, group.asked[1][:-1]).code is ReplyCode.MASKING_MALFORMED
    assert one.trained == []


def test_a_trainer_that_fails_ends_the_attempt() -> None:
    group = Group(Phase.UPLOAD)
    one = group.nodes[1]

    def fails(_model: bytes) -> Reply:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        one.attempts.answer(
            Task(PLAN.hash, 1, 1),
            Step(Phase.UPLOAD, group.asked[1]),
            MODEL,
            fails,
            update_left=False,
        )
    assert not one.attempts.goes_on


@pytest.mark.parametrize("phase", Phase)
def test_the_guard_knows_a_step_from_anything_else(phase: Phase) -> None:
    group = Group(phase)
    one = group.nodes[1]
    step = one.say(phase, group.asked[1]).step
    assert step is not None
    one.attempts.check_step(step)
    for payload in (b"", step.payload[:-1], step.payload + b"\0", b"\xc4\x04note"):
        with pytest.raises(SecaggError):
            one.attempts.check_step(Step(phase, payload))
