from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from threading import Event, Timer

import msgspec
import numpy as np
import pytest
from campaign_home import subject
from campaign_lab import NODES, SEVEN, D, Lab
from flwr.app import Message
from inprocess_grid import (
    Delivery,
    Node,
    answer_with,
    gone,
    honest,
    raising,
    raw,
    refusing,
    silent,
    twice,
    unparsable,
)
from msgspec import UNSET, UnsetType

from ledgers import open_ledger
from plans import masked_plan, small_plan
from tacitly_common.accounting.caps import Caps
from tacitly_common.campaign import ServerOptimizerName, ServerOptimizerPlan
from tacitly_common.errors import LedgerError
from tacitly_common.mechanisms import encodings
from tacitly_common.mechanisms.gaussian import release, secure_generator
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import Reply, parse_train_content, reply_content
from tacitly_server.ledger.population import AttemptState
from tacitly_server.rounds.campaign import Patience
from tacitly_server.rounds.checkpoint import read_initial
from tacitly_server.rounds.clock import SystemClock
from tacitly_server.rounds.permit import Ending
from tacitly_server.rounds.receipts import Outcome, Receipt, model_sha256, read_receipts

HUGE = np.full(D, 2**30, dtype=np.int32)


@pytest.fixture
def make_lab(tmp_path: Path) -> Callable[..., Lab]:
    return lambda **changes: Lab(tmp_path, **changes)


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab()


def test_a_campaign_moves_the_model_by_the_mean_of_each_round(lab: Lab) -> None:
    assert lab.run() is Ending.ROUNDS_REACHED
    assert lab.checkpoint().round == 3
    np.testing.assert_allclose(lab.checkpoint().model, lab.moved_by(8, 8, 8), rtol=1e-6)
    assert [a.state for a in lab.attempts()] == [AttemptState.RELEASED] * 3
    assert lab.seen == read_receipts(lab.directory.receipts)
    last = lab.seen[-1]
    assert (last.round, last.attempt, last.outcome) == (3, 1, Outcome.RELEASED)
    assert (last.selected, last.usable, last.refusals) == (8, 8, {})
    assert last.model_sha256 == model_sha256(lab.checkpoint().model)
    assert last.noise_multiplier == lab.plan.subject.noise_multiplier
    assert last.bytes_up >= 8 * 4 * D


def test_residues_are_added_modulo_the_field_and_undone(make_lab: Callable[..., Lab]) -> None:
    """Rotated, noised answers: the model moves by their mean, and by no more noise than planned."""
    masked = masked_plan()
    lab = make_lab(subject=masked.subject, masking=masked.masking, rounds=1)
    update = np.linspace(-0.02, 0.02, D, dtype=np.float32)

    def device(message: Message) -> Iterable[Delivery]:
        task, _ = parse_train_content(message.content, parameters=lab.plan.model.parameters)
        encoded = encodings.release_without_noise(update, lab.plan, task.round, secure_generator())
        reply = Reply(task.round, task.attempt, ReplyCode.OK, encoded)
        yield Delivery(Message(reply_content(reply), reply_to=message))

    lab.grid.nodes = dict.fromkeys(NODES, device)
    outside = np.full(D, 1 << lab.plan.field_bits, np.int32)
    lab.grid.nodes[8] = honest(lab.plan, outside)
    lab.run()
    assert (lab.seen[-1].usable, lab.seen[-1].refusals) == (7, {"norm_too_large": 1})
    moved = lab.checkpoint().model - read_initial(lab.directory, lab.plan).model
    np.testing.assert_allclose(moved, update * 7 / 8, atol=8 * lab.plan.grid_step)


def test_a_finished_campaign_started_again_does_nothing(lab: Lab) -> None:
    lab.run()
    sent = len(lab.grid.pushed)
    assert lab.run() is Ending.ROUNDS_REACHED
    assert len(lab.grid.pushed) == sent


def test_each_round_sends_the_model_of_the_round_before(lab: Lab) -> None:
    lab.run()
    for message in lab.grid.pushed:
        task, model = parse_train_content(message.content, parameters=lab.plan.model.parameters)
        expected = lab.moved_by(*[8] * (task.round - 1))
        np.testing.assert_allclose(model, expected, rtol=1e-6)
        assert task.plan_hash == lab.plan.hash


def test_messages_die_with_the_rounds_deadline(lab: Lab) -> None:
    lab.run()
    assert {m.metadata.ttl for m in lab.grid.pushed} == {lab.plan.cohort.deadline_seconds}
    assert {m.metadata.group_id for m in lab.grid.pushed} == {"1.1", "2.1", "3.1"}


@pytest.mark.parametrize(
    ("node", "refusals"),
    [
        pytest.param(silent, {"no_answer": 1}, id="crash"),
        pytest.param(gone, {"node_unavailable": 1}, id="offline"),
        pytest.param(raising, {"node_error": 1}, id="exception"),
        pytest.param(unparsable, {"unreadable": 1}, id="unparsable"),
        pytest.param(raw(np.full(D, np.nan)), {"wrong_type": 1}, id="NaN"),
        pytest.param(raw(SEVEN[:-1]), {"wrong_shape": 1}, id="wrong shape"),
        pytest.param(raw(SEVEN, round_shift=1), {"wrong_attempt": 1}, id="wrong round"),
        pytest.param(raw(SEVEN, from_node=99), {"wrong_sender": 1}, id="wrong sender"),
        pytest.param(raw(HUGE), {"norm_too_large": 1}, id="huge norm"),
        pytest.param(refusing(ReplyCode.WRONG_MODEL), {"device_wrong_model": 1}, id="refusal"),
    ],
)
def test_one_bad_device_costs_its_own_contribution_only(
    make_lab: Callable[..., Lab], node: Node, refusals: dict[str, int]
) -> None:
    lab = make_lab(rounds=1, participations=1)
    lab.grid.nodes[3] = node
    assert lab.run() is Ending.ROUNDS_REACHED
    (receipt,) = lab.seen
    assert (receipt.selected, receipt.usable, receipt.refusals) == (8, 7, refusals)
    np.testing.assert_allclose(lab.checkpoint().model, lab.moved_by(7), rtol=1e-6)
    assert lab.attempts()[0].subjects == 8  # it was charged all the same


def test_a_tenfold_update_is_left_out_and_the_rest_released(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(rounds=1, participations=1)
    zero = np.zeros(D, dtype=np.float32)
    for n in NODES:
        lab.grid.nodes[n] = raw(release(zero, lab.plan, secure_generator()))
    lab.grid.nodes[5] = raw(10 * release(zero, lab.plan, secure_generator()))
    lab.run()
    assert (lab.seen[0].usable, lab.seen[0].refusals) == (7, {"norm_too_large": 1})


def test_a_device_that_answers_twice_counts_once(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(rounds=1, participations=1)
    lab.grid.nodes[3] = twice(lab.plan, SEVEN)
    lab.run()
    assert (lab.seen[0].usable, lab.seen[0].refusals) == (8, {"unasked": 1})
    np.testing.assert_allclose(lab.checkpoint().model, lab.moved_by(8), rtol=1e-6)


def test_every_kind_of_bad_device_at_once_leaves_the_good_ones(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab(rounds=1, participations=1)
    bad: list[Node] = [silent, unparsable, raw(HUGE), raw(np.full(D, np.nan))]
    lab.grid.nodes.update(dict(zip(NODES, bad, strict=False)))
    assert lab.run() is Ending.ROUNDS_REACHED
    assert lab.seen[0].usable == lab.plan.cohort.minimum == 4
    assert sum(lab.seen[0].refusals.values()) == 4


def test_a_device_that_went_offline_after_selection_is_counted_undelivered(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab(rounds=1, participations=1)
    push = lab.grid.push_messages

    def lose_one(messages: Iterable[Message]) -> Iterable[str]:
        lab.grid.online.discard(2)
        return push(messages)

    lab.grid.push_messages = lose_one  # type: ignore[method-assign]
    lab.run()
    assert (lab.seen[0].usable, lab.seen[0].refusals) == (7, {"undelivered": 1})


def test_answers_are_added_as_they_come_until_all_are_there(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(rounds=1, participations=1)
    for n in NODES:
        lab.grid.nodes[n] = honest(lab.plan, SEVEN, after_seconds=2.0 * n)
    lab.run()
    assert lab.seen[0].usable == 8
    assert 16 <= lab.clock.now < 17


def test_a_straggler_is_waited_for_until_the_deadline_and_then_ignored_by_name(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab(rounds=2, participations=2)
    deadline = lab.plan.cohort.deadline_seconds
    lab.grid.nodes[3] = honest(lab.plan, SEVEN, after_seconds=deadline + 1)
    lab.run()
    assert [r.refusals for r in lab.seen] == [{"no_answer": 1}] * 2
    assert [r.seconds for r in lab.seen] == [deadline] * 2
    np.testing.assert_allclose(lab.checkpoint().model, lab.moved_by(7, 7), rtol=1e-6)


def test_a_device_that_dies_in_its_upload_holds_nobody_up(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(rounds=2, participations=2)
    never = Event()

    def half_uploaded() -> Message:
        never.wait(timeout=60)
        raise AssertionError

    # The first to be asked in each round: the others wait behind it.
    lab.grid.nodes[1] = lambda _message: [Delivery(half_uploaded)]
    assert lab.run() is Ending.ROUNDS_REACHED
    never.set()
    assert [(r.usable, r.refusals) for r in lab.seen] == [(7, {"no_answer": 1})] * 2


def test_a_slow_upload_is_counted_when_it_is_done(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(rounds=1, participations=1)
    lab.clock = SystemClock()
    done, answer = Event(), answer_with(lab.plan, SEVEN)

    def slow(message: Message) -> Iterable[Delivery]:
        def finish_upload() -> Message:
            done.wait(timeout=60)
            return answer(message)

        Timer(0.6, done.set).start()
        return [Delivery(finish_upload)]

    lab.grid.nodes[1] = slow
    assert lab.run() is Ending.ROUNDS_REACHED
    assert (lab.seen[0].usable, lab.seen[0].refusals) == (8, {})


def fails_once(then: Node) -> Node:
    """A node that cannot train when it is first asked."""
    turns = iter([refusing(ReplyCode.DEVICE_FAULT)])
    return lambda message: next(turns, then)(message)


def test_below_the_minimum_nothing_is_released_and_the_retry_is_a_new_charge(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab(rounds=3, participations=3)
    for n in range(1, 6):  # three good answers, one too few
        lab.grid.nodes[n] = fails_once(honest(lab.plan, SEVEN))
    assert lab.run() is Ending.BUDGET_EXHAUSTED
    assert [(r.round, r.attempt, r.outcome, r.usable) for r in lab.seen] == [
        (1, 1, Outcome.LOST, 3),
        (1, 2, Outcome.RELEASED, 8),
        (2, 1, Outcome.RELEASED, 8),
    ]
    assert lab.seen[0].model_sha256 is None
    assert lab.seen[0].refusals == {"device_device_fault": 5}
    np.testing.assert_allclose(lab.checkpoint().model, lab.moved_by(8, 8), rtol=1e-6)
    assert [a.cost_nano_rho for a in lab.attempts()] == [lab.plan.cost_nano_rho] * 3


def test_a_lost_cause_is_given_up_before_the_deadline(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(rounds=1, participations=1)
    for n in range(1, 6):
        lab.grid.nodes[n] = raising
    lab.grid.nodes[8] = silent
    lab.run()
    assert lab.clock.now < 1
    assert lab.seen[0].refusals == {"node_error": 5, "no_answer": 1}


def test_lost_attempts_in_a_row_are_followed_by_ever_longer_pauses(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab(rounds=10, participations=10)
    for n in NODES:
        lab.grid.nodes[n] = raising
    assert lab.run(Patience(pause_seconds=5, lost_in_a_row=3, max_pause_seconds=60)) is (
        Ending.BUDGET_EXHAUSTED
    )
    assert lab.pauses() == [0, 0, 5, 10, 20, 40, 60, 60, 60, 60]
    assert {r.outcome for r in lab.seen} == {Outcome.LOST}


def test_a_success_resets_the_pause(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(rounds=6, participations=6)
    good = honest(lab.plan, SEVEN)
    for n in NODES:
        failures = iter([True, True, False, True, False, False])
        lab.grid.nodes[n] = lambda m, f=failures: (raising if next(f) else good)(m)
    lab.run(Patience(pause_seconds=5, lost_in_a_row=2))
    assert lab.pauses() == [0, 5, 0, 0, 0, 0]


def test_with_too_few_online_nothing_is_charged_and_it_is_tried_again(lab: Lab) -> None:
    lab.grid.online = {1, 2, 3}
    sleep = lab.clock.sleep

    def come_online_later(seconds: float) -> None:
        if lab.clock.now >= 100:
            lab.grid.online = set(NODES)
        assert lab.attempts() == [] or lab.clock.now >= 100
        sleep(seconds)

    lab.clock.sleep = come_online_later  # type: ignore[method-assign]
    assert lab.run() is Ending.ROUNDS_REACHED
    assert lab.clock.now >= 100
    assert [(a.key.round, a.key.attempt, a.subjects) for a in lab.attempts()] == [
        (1, 1, 8),
        (2, 1, 8),
        (3, 1, 8),
    ]


def test_the_campaign_ends_when_nobody_can_pay(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(rounds=20, participations=2)
    assert lab.run() is Ending.BUDGET_EXHAUSTED
    assert [r.outcome for r in lab.seen] == [Outcome.RELEASED] * 2
    with open_ledger(lab.made.home.population_database) as ledger:
        spent = {ledger.spent_nano_rho(subject) for subject in lab.enrolled.values()}
    assert spent == {lab.plan.cap_nano_rho}
    assert lab.run() is Ending.BUDGET_EXHAUSTED
    assert len(lab.seen) == 2


def test_who_enrols_later_lets_it_go_on(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(rounds=4, participations=2)
    lab.run()
    for n in range(11, 19):
        lab.grid.nodes[n] = honest(lab.plan, SEVEN)
        lab.grid.online.add(n)
        lab.enrolled[n] = subject(n)
    assert lab.run() is Ending.ROUNDS_REACHED
    assert lab.checkpoint().round == 4


def test_two_devices_of_one_person_are_charged_once_and_asked_once(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab(rounds=2, participations=2)
    lab.enrolled.update({7: subject(1), 8: subject(1)})
    lab.run()
    assert [a.subjects for a in lab.attempts()] == [6, 6]
    for group in ("1.1", "2.1"):
        asked = [m.metadata.dst_node_id for m in lab.grid.pushed if m.metadata.group_id == group]
        assert len(asked) == 6
        assert len({1, 7, 8} & set(asked)) == 1


def test_a_crash_in_the_middle_is_a_lost_attempt_and_the_run_goes_on(lab: Lab) -> None:
    class PowerCutError(Exception):
        pass

    def cut(receipt: Receipt) -> None:
        if receipt.round == 1:
            lab.grid.nodes[4] = explode

    def explode(_message: Message) -> Iterable[Delivery]:
        raise PowerCutError

    with pytest.raises(PowerCutError):
        lab.run(on_round=cut)
    lab.grid.nodes[4] = honest(lab.plan, SEVEN)
    assert lab.run() is Ending.BUDGET_EXHAUSTED  # the lost attempt took one of three
    assert [(r.round, r.attempt, r.outcome) for r in read_receipts(lab.directory.receipts)] == [
        (1, 1, Outcome.RELEASED),
        (2, 1, Outcome.LOST),
        (2, 2, Outcome.RELEASED),
    ]


@pytest.mark.parametrize("name", list(ServerOptimizerName))
def test_stopped_and_resumed_it_gives_the_same_model_as_in_one_go(
    tmp_path: Path, name: ServerOptimizerName
) -> None:
    optimizer = ServerOptimizerPlan(name=name, learning_rate=Decimal("0.5"))
    straight = Lab(tmp_path / "straight", rounds=4, participations=4, optimizer=optimizer)
    straight.run()

    class StopError(Exception):
        pass

    broken = Lab(tmp_path / "broken", rounds=4, participations=4, optimizer=optimizer)

    def stop(_receipt: Receipt) -> None:
        raise StopError

    for _ in range(4):
        with pytest.raises(StopError):
            broken.run(on_round=stop)
    assert broken.checkpoint().round == 4
    np.testing.assert_array_equal(broken.checkpoint().model, straight.checkpoint().model)


def test_a_second_process_on_the_same_campaign_is_refused(lab: Lab) -> None:
    errors: list[str] = []

    def intrude(_receipt: Receipt) -> None:
        with pytest.raises(LedgerError, match="another process") as caught:
            lab.run()
        errors.append(str(caught.value))

    lab.run(on_round=intrude)
    assert len(errors) == 3


@pytest.mark.parametrize(("name", "adapter_rank"), [("output.bias", UNSET), ("gru.up", 2)])
def test_only_the_trainable_tensors_move(
    make_lab: Callable[..., Lab], name: str, adapter_rank: int | UnsetType
) -> None:
    model = msgspec.structs.replace(
        small_plan().model, trainable=(name,), adapter_rank=adapter_rank
    )
    lab = make_lab(rounds=1, participations=1, model=model)
    few = np.full(lab.plan.model.trainable_parameters, 7, dtype=np.int32)
    lab.grid.nodes = {n: honest(lab.plan, few) for n in NODES}
    lab.run()
    before = read_initial(lab.directory, lab.plan).model
    moved = np.flatnonzero(lab.checkpoint().model != before)
    (trained,) = lab.plan.model.trainable_layout()
    assert moved.tolist() == list(range(trained.start, trained.stop))


def test_attempts_lost_before_a_restart_count_for_the_pause_after_it(lab: Lab) -> None:
    with open_ledger(lab.made.home.population_database) as ledger:
        for _ in range(4):  # four processes, each killed after it had charged
            key = ledger.plan(lab.plan.hash, 1)
            ledger.charge(
                key, [subject(99)], epochs=lab.plan.data_epochs, cost_nano_rho=1, caps=Caps(4, 4, 4)
            )
            ledger.mark(key, AttemptState.LOST)
    before = lab.clock.monotonic()
    lab.run(Patience(pause_seconds=5.0, lost_in_a_row=2))
    assert lab.clock.monotonic() - before >= 20.0
