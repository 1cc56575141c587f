"""Masked rounds: the real device half against the real rounds, over a Grid in this process."""

import signal
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from flwr.app import Message
from inprocess_grid import Delivery
from masked_lab import MaskedDevice, MaskedLab, corrupted, run_until_killed, vanishing_at

from agreement import stop
from forks import forks
from plans import masked_plan
from tacitly_common.campaign import StopRules
from tacitly_common.mechanisms.encodings import decode_mean
from tacitly_common.mechanisms.gaussian import secure_generator
from tacitly_common.mechanisms.rounded_gaussian import encode
from tacitly_common.secagg.packing import packed_bytes
from tacitly_common.wire.group_terms import group_number
from tacitly_common.wire.phases import Phase
from tacitly_server.ledger.population import AttemptState
from tacitly_server.rounds import optimizer
from tacitly_server.rounds.checkpoint import read_checkpoint, read_initial
from tacitly_server.rounds.permit import Ending
from tacitly_server.rounds.receipts import Loss, Outcome, read_receipts


def check_model(lab: MaskedLab, nodes: list[int], at: tuple[int, int] = (1, 1)) -> None:
    """The released model is the one that those residues, added in the open, give, bit for bit."""
    mean = decode_mean(lab.plain_sum(at, nodes), lab.plan, 1)
    delta, _ = optimizer.step(lab.plan.optimizer, optimizer.OptimizerState(), mean)
    start = read_initial(lab.directory, lab.plan).model
    expected = optimizer.apply(lab.plan.model, start, delta)
    checkpoint = read_checkpoint(lab.directory.checkpoint, lab.plan)
    assert (checkpoint.round, checkpoint.attempt) == at
    np.testing.assert_array_equal(checkpoint.model, expected)


def test_the_model_is_that_of_the_plain_sum_bit_for_bit(tmp_path: Path) -> None:
    lab = MaskedLab(tmp_path)
    assert lab.run() is Ending.ROUNDS_REACHED
    (receipt,) = lab.receipts
    assert (receipt.outcome, receipt.usable, receipt.refusals) == (Outcome.RELEASED, 8, {})
    assert (receipt.groups, receipt.groups_unmasked) == (2, 2)
    assert list(receipt.phases) == ["advertise", "share", "upload", "confirm", "unmask"]
    assert {phase.answered for phase in receipt.phases.values()} == {8}
    check_model(lab, list(lab.devices))


@pytest.mark.parametrize("phase", Phase)
def test_devices_may_vanish_at_any_phase(tmp_path: Path, phase: Phase) -> None:
    lab = MaskedLab(tmp_path)
    gone = [3, 6]
    for node in gone:
        lab.devices[node].answers = vanishing_at(lab.devices[node], phase)
    assert lab.run() is Ending.ROUNDS_REACHED
    (receipt,) = lab.receipts
    assert receipt.refusals == {"no_answer": 2}
    # Whose vector has come is in the sum, and who did not unmask it is nobody's loss.
    stay = list(lab.devices) if phase > Phase.UPLOAD else [n for n in lab.devices if n not in gone]
    assert (receipt.outcome, receipt.usable) == (Outcome.RELEASED, len(stay))
    check_model(lab, stay)
    after = [p for p in Phase if p > phase]
    assert not any((at, p) in lab.devices[3].payloads for at in [(1, 1)] for p in after)


def test_a_device_that_restarts_has_vanished_from_the_attempt_and_is_in_the_next(
    tmp_path: Path,
) -> None:
    lab = MaskedLab(tmp_path, rounds=2)
    device = lab.devices[5]

    def restarts(message: Message, phase: Phase) -> Iterable[Delivery]:
        if phase is Phase.UPLOAD and len(lab.receipts) == 0:
            device.restart()
        return [Delivery(device.answer(message))]

    device.answers = restarts
    lab.run()
    assert [r.usable for r in lab.receipts] == [7, 8]
    assert lab.receipts[0].refusals == {"device_masking_out_of_phase": 1}


def test_an_answer_too_late_for_its_phase_is_never_pulled(tmp_path: Path) -> None:
    lab = MaskedLab(tmp_path)
    device = lab.devices[2]
    device.answers = lambda message, phase: [
        Delivery(device.answer(message), 1_000.0 if phase is Phase.UPLOAD else 0.0)
    ]
    lab.run()
    (receipt,) = lab.receipts
    assert (receipt.usable, receipt.refusals) == (7, {"no_answer": 1})
    check_model(lab, [n for n in lab.devices if n != 2])


def test_only_training_is_waited_for_to_the_end_if_somebody_vanished(tmp_path: Path) -> None:
    deadline = masked_plan().cohort.deadline_seconds
    took = {}
    for phase in (Phase.SHARE, Phase.UPLOAD):
        lab = MaskedLab(tmp_path / phase.name)
        lab.devices[3].answers = vanishing_at(lab.devices[3], phase)
        lab.run()
        (receipt,) = lab.receipts
        assert (receipt.usable, receipt.refusals) == (7, {"no_answer": 1})
        took[phase] = receipt.seconds
    assert took[Phase.SHARE] < 0.35 * deadline
    assert 0.75 * deadline <= took[Phase.UPLOAD] < 0.8 * deadline


def test_a_slow_phase_leaves_time_for_those_after_it(tmp_path: Path) -> None:
    lab = MaskedLab(tmp_path)
    deadline = lab.plan.cohort.deadline_seconds
    for device in lab.devices.values():
        device.answers = partial(slowly, device)
    lab.run()
    (receipt,) = lab.receipts
    assert receipt.usable == 8
    assert receipt.seconds <= deadline
    lives = {m.metadata.group_id.rpartition(".")[2]: m.metadata.ttl for m in lab.grid.pushed}
    assert max(lives, key=lambda phase: lives[phase]) == str(Phase.UPLOAD.value)


def slowly(device: MaskedDevice, message: Message, _phase: Phase) -> Iterable[Delivery]:
    """All of the message's life but the polling's last rest."""
    return [Delivery(device.answer(message), 0.8 * message.metadata.ttl)]


def test_a_second_answer_counts_for_nothing(tmp_path: Path) -> None:
    lab = MaskedLab(tmp_path)
    device = lab.devices[1]
    device.answers = lambda message, _phase: 2 * [Delivery(device.answer(message))]
    lab.run()
    (receipt,) = lab.receipts
    assert (receipt.usable, receipt.refusals) == (8, {"unasked": 5})
    check_model(lab, list(lab.devices))


@pytest.mark.parametrize(
    ("phase", "change", "refusal"),
    [
        (Phase.ADVERTISE, lambda _: b"", "masking_malformed"),
        (Phase.SHARE, lambda payload: payload + b"\0", "masking_malformed"),
        (Phase.UPLOAD, lambda payload: payload[:-1], "masking_malformed"),
        (Phase.UPLOAD, lambda _: bytes(2_000_000), "wrong_shape"),
        (Phase.CONFIRM, lambda _: bytes(2_000_000), "wrong_shape"),
        (Phase.UNMASK, lambda payload: payload[:-1], "masking_malformed"),
    ],
)
def test_a_malformed_step_costs_its_own_device_alone(
    tmp_path: Path, phase: Phase, change: Callable[[bytes], bytes], refusal: str
) -> None:
    lab = MaskedLab(tmp_path)
    device = lab.devices[4]

    def spoilt(message: Message, at: Phase) -> Iterable[Delivery]:
        answer = device.answer(message)
        return [Delivery(corrupted(answer, change) if at is phase else answer)]

    device.answers = spoilt
    lab.run()
    (receipt,) = lab.receipts
    assert receipt.refusals == {refusal: 1}
    assert receipt.usable == (8 if phase > Phase.UPLOAD else 7)


def test_who_gives_a_wrong_share_in_the_end_is_counted_and_changes_nothing(tmp_path: Path) -> None:
    lab = MaskedLab(tmp_path)
    device = lab.devices[1]

    def lying(message: Message, phase: Phase) -> Iterable[Delivery]:
        answer = device.answer(message)
        if phase is Phase.UNMASK:
            answer = corrupted(answer, lambda told: told[:-1] + bytes([told[-1] ^ 1]))
        return [Delivery(answer)]

    device.answers = lying
    lab.run()
    (receipt,) = lab.receipts
    assert (receipt.usable, receipt.refusals) == (8, {"wrong_share": 1})
    check_model(lab, list(lab.devices))


def test_a_group_without_enough_survivors_is_lost_alone(tmp_path: Path) -> None:
    lab = MaskedLab(tmp_path)
    mates: list[int] = []

    def follow(node: int, message: Message, phase: Phase) -> Iterable[Delivery]:
        payload = message.content.config_records["task"]["payload"]
        if phase is Phase.ADVERTISE and payload == group_number(0):
            mates.append(node)
        if phase is Phase.UPLOAD and node in mates[:3]:
            return []
        return [Delivery(lab.devices[node].answer(message))]

    for node, device in lab.devices.items():
        device.answers = partial(follow, node)
    lab.run()
    (receipt,) = lab.receipts
    assert receipt.outcome is Outcome.RELEASED
    assert receipt.refusals == {"no_answer": 3, "group_lost_too_few_survivors": 1}
    assert (receipt.usable, receipt.groups, receipt.groups_unmasked) == (4, 2, 1)
    check_model(lab, [n for n in lab.devices if n not in mates])


def test_below_the_plans_minimum_no_mask_comes_off(tmp_path: Path) -> None:
    base = masked_plan().cohort
    lab = MaskedLab(
        tmp_path,
        cohort=msgspec.structs.replace(base, minimum=7),
        stop=StopRules(lost_in_a_row=1),
    )
    for node in (1, 2):
        lab.devices[node].answers = vanishing_at(lab.devices[node], Phase.UPLOAD)
    assert lab.run() is Ending.LOST_IN_A_ROW
    (receipt,) = lab.receipts
    assert (receipt.outcome, receipt.lost_because) == (Outcome.LOST, Loss.TOO_FEW)
    assert (receipt.usable, receipt.groups_unmasked) == (0, 0)
    assert set(receipt.phases) == {"advertise", "share", "upload"}
    assert [a.state for a in lab.ledger_attempts()] == [AttemptState.LOST]


def test_a_round_that_is_stopped_meanwhile_is_not_unmasked(tmp_path: Path) -> None:
    lab = MaskedLab(tmp_path)
    device = lab.devices[1]

    def stopping(message: Message, phase: Phase) -> Iterable[Delivery]:
        if phase is Phase.CONFIRM:
            stop(lab.made.home, lab.plan)
        return [Delivery(device.answer(message))]

    device.answers = stopping
    assert lab.run() is not Ending.ROUNDS_REACHED
    (receipt,) = lab.receipts
    assert receipt.lost_because is Loss.NOT_PERMITTED
    assert receipt.groups_unmasked == 0
    assert "unmask" not in receipt.phases


def test_a_sum_that_clip_and_noise_do_not_allow_is_left_out(tmp_path: Path) -> None:
    lab = MaskedLab(tmp_path)
    # Any residues at all: the most that a device can do to a sum that nobody looks into.
    rng = np.random.default_rng(2)
    d, top = lab.plan.model.trainable_parameters, 1 << lab.plan.field_bits
    lab.devices[1].residues = lambda _round: rng.integers(0, top, size=d, dtype=np.uint32)
    lab.run()
    (receipt,) = lab.receipts
    assert receipt.refusals == {"group_norm_too_large": 4}
    assert (receipt.outcome, receipt.usable, receipt.groups_unmasked) == (Outcome.RELEASED, 4, 2)


def test_honest_sums_keep_to_the_bound(tmp_path: Path) -> None:
    lab = MaskedLab(tmp_path)
    generator = secure_generator()
    update = np.ones(lab.plan.model.trainable_parameters, dtype=np.float32)
    for device in lab.devices.values():
        # All of one mind, as long as the clip allows.
        device.residues = lambda number: encode(update, lab.plan, number, generator)
    lab.run()
    assert [r.usable for r in lab.receipts] == [8]


def test_a_receipt_states_what_each_phase_moved(tmp_path: Path) -> None:
    lab = MaskedLab(tmp_path)
    lab.run()
    (receipt,) = lab.receipts
    phases, plan = receipt.phases, lab.plan
    packed = packed_bytes(plan.model.trainable_parameters, plan.field_bits)
    assert phases["upload"].bytes_up == 8 * packed
    assert phases["upload"].bytes_down > 8 * 4 * plan.model.parameters
    assert receipt.bytes_up == sum(phase.bytes_up for phase in phases.values())
    assert receipt.bytes_down == sum(phase.bytes_down for phase in phases.values())
    assert receipt in read_receipts(lab.directory.receipts)


@pytest.mark.parametrize("phase", Phase)
def test_a_server_killed_in_any_phase_has_lost_the_attempt_and_goes_on(
    tmp_path: Path, phase: Phase
) -> None:
    lab = MaskedLab(tmp_path)
    processes = forks(__name__)
    child = processes.Process(target=run_until_killed, args=(tmp_path, lab.directory.plan, phase))
    child.start()
    child.join(timeout=60)
    assert child.exitcode == -signal.SIGKILL
    assert lab.run() is Ending.ROUNDS_REACHED
    receipts = read_receipts(lab.directory.receipts)
    assert [(r.attempt, r.outcome, r.lost_because) for r in receipts] == [
        (1, Outcome.LOST, Loss.CRASHED),
        (2, Outcome.RELEASED, None),
    ]
    assert [a.state for a in lab.ledger_attempts()] == [AttemptState.LOST, AttemptState.RELEASED]
    check_model(lab, list(lab.devices), (1, 2))
