"""Rounds of the batched engine against a plain loop and against itself."""

import multiprocessing
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from plans import small_plan
from tacitly_client.training.baseline import PlainSettings
from tacitly_client.training.local import train, train_without_privacy
from tacitly_client.training.windows import training_windows
from tacitly_common.campaign import CampaignPlan, revise
from tacitly_common.errors import ValidationError
from tacitly_common.mechanisms.gaussian import release, release_without_noise
from tacitly_common.model import initial_vector
from tacitly_server.rounds import optimizer
from tacitly_server.rounds.receipts import Outcome, Receipt, model_sha256
from tacitly_simulations.engines.availability import Availability
from tacitly_simulations.engines.batched import CampaignEndedError, noise_on_sum, simulate
from tacitly_simulations.engines.client_file import SimulatedClients, write_clients
from tacitly_simulations.engines.privacy import Privacy
from tacitly_simulations.engines.trainers import Trainers, Work, blocks_of

RECORD = small_plan().record
LOCAL = PlainSettings(epochs=1, batch_windows=4, learning_rate=0.5)
STREAMS = [np.random.default_rng(seed).integers(2, 11, 60 + 31 * seed) for seed in range(9)]


def start_of(plan: CampaignPlan) -> NDArray[np.float32]:
    return initial_vector(plan.model, 0)


def plan_of(clients: int, *, target: int | None = None, **changes: object) -> CampaignPlan:
    plan = small_plan(rounds=2, participations=2)
    target = target or clients
    return revise(
        plan,
        initial_model_hash=model_sha256(start_of(plan)),
        cohort=msgspec.structs.replace(
            plan.cohort, population=max(clients, 2), target=target, minimum=target
        ),
        subject=msgspec.structs.replace(plan.subject, clip_norm=Decimal("0.2"), grid_bits=24),
        delta=Decimal("1e-6"),
        **changes,
    )


@pytest.fixture
def clients(tmp_path: Path) -> SimulatedClients:
    write_clients(tmp_path / "clients.npy", [training_windows(s, RECORD) for s in STREAMS])
    return SimulatedClients(tmp_path / "clients.npy", len(STREAMS), seed=5)


def work_of(plan: CampaignPlan, privacy: Privacy = Privacy.NONE) -> Work:
    return Work(plan, privacy, LOCAL, seed=5)


def test_rounds_without_subject_noise_are_the_plain_loop(
    tmp_path: Path, clients: SimulatedClients
) -> None:
    for privacy in (Privacy.NONE, Privacy.RECORD):
        plan = plan_of(len(STREAMS))
        seen = list[Receipt]()
        result = simulate(
            tmp_path / privacy.name,
            work_of(plan, privacy),
            start_of(plan),
            clients,
            processes=1,
            on_round=seen.append,
        )
        assert [(r.round, r.usable, r.outcome) for r in seen] == [
            (1, 9, Outcome.RELEASED),
            (2, 9, Outcome.RELEASED),
        ]
        assert seen == result.receipts
        assert seen[-1].model_sha256 == model_sha256(result.model)
        model = start_of(plan)
        for number in (1, 2):
            means = []
            for client, stream in enumerate(STREAMS):
                windows = training_windows(stream, plan.record)
                rng = np.random.default_rng((5, number, 1, client))
                update = (
                    train(plan, model, windows, rng=rng)
                    if privacy is Privacy.RECORD
                    else train_without_privacy(plan.model, model, windows, LOCAL, rng)
                )
                means.append(release_without_noise(update, plan) * plan.grid_step)
            model = optimizer.apply(plan.model, model, np.mean(means, axis=0, dtype=np.float64))
        np.testing.assert_allclose(result.model, model, atol=1e-5)


def test_the_sum_is_the_same_bits_for_any_processes_and_tasks(clients: SimulatedClients) -> None:
    for privacy in (Privacy.NONE, Privacy.SUBJECT_AND_RECORD):
        plan = plan_of(len(STREAMS))
        sums = []
        for processes, blocks in ((1, 1), (1, 5), (2, 1), (2, 2)):
            work = work_of(plan, privacy)
            with Trainers(work, clients, processes, blocks_of_a_task=blocks) as trainers:
                sums.append(trainers.clipped_sum(start_of(plan), 1, range(len(STREAMS))))
        assert sums[0].any()
        for other in sums[1:]:
            np.testing.assert_array_equal(sums[0], other)


def test_a_process_that_dies_costs_nothing_but_time(clients: SimulatedClients) -> None:
    plan = plan_of(len(STREAMS))
    with Trainers(work_of(plan), clients, 1) as trainers:
        expected = trainers.clipped_sum(start_of(plan), 1, range(len(STREAMS)))
    with Trainers(work_of(plan), clients, 2, blocks_of_a_task=1) as trainers:
        for process in multiprocessing.active_children():
            process.kill()
        total = trainers.clipped_sum(start_of(plan), 1, range(len(STREAMS)))
    np.testing.assert_array_equal(total, expected)


def test_updates_are_those_that_were_summed(clients: SimulatedClients) -> None:
    plan = plan_of(len(STREAMS))
    with Trainers(work_of(plan), clients, 1) as trainers:
        total = trainers.clipped_sum(start_of(plan), 1, [3, 1, 8])
        each = [
            (client, update)
            for members, updates in trainers.updates(start_of(plan), 1, [3, 1, 8])
            for client, update in zip(members, updates, strict=True)
        ]
    assert sorted(client for client, _ in each) == [1, 3, 8]
    by_hand = sum(release_without_noise(update, plan).astype(np.int64) for _, update in each)
    np.testing.assert_array_equal(total, by_hand)


def test_blocks_hold_every_member_once_and_the_largest_together() -> None:
    counts = np.array([3, 9, 1, 9, 5])
    assert blocks_of([4, 2, 1, 0, 3], counts, 2) == [(1, 3), (4, 0), (2,)]


def test_the_noise_on_the_sum_has_the_distribution_of_the_devices_shares() -> None:
    plan, devices = plan_of(9), 5
    rng = np.random.default_rng(0)
    zero = np.zeros(plan.model.trainable_parameters, dtype=np.float32)
    shares = [
        np.sum([release(zero, plan, rng).astype(np.int64) for _ in range(devices)], axis=0)
        for _ in range(40)
    ]
    once = [noise_on_sum(plan, devices, (1, draw)) for draw in range(40)]
    assert np.std(once) == pytest.approx(np.std(shares), rel=0.03)
    assert np.std(once) * plan.grid_step == pytest.approx(
        float(plan.subject.noise_multiplier * plan.subject.clip_norm) * (devices / 9) ** 0.5,
        rel=0.03,
    )


def test_participation_limits_hold_and_selection_is_uniform(
    tmp_path: Path, clients: SimulatedClients
) -> None:
    plan = plan_of(len(STREAMS), target=4)
    plan = revise(
        plan,
        rounds=5,
        participation=msgspec.structs.replace(
            plan.participation, per_campaign=2, per_epoch=2, minimum_gap_rounds=2
        ),
    )
    with pytest.raises(CampaignEndedError, match="2 clients of 4 were there"):
        # 9 clients with 2 participations each are 18 = 4·4 + 2.
        simulate(
            tmp_path / "run",
            work_of(revise(plan, stop=msgspec.structs.replace(plan.stop, lost_in_a_row=1))),
            start_of(plan),
            clients,
            processes=1,
        )


def test_lost_attempts_are_charged_and_tried_again(
    tmp_path: Path, clients: SimulatedClients
) -> None:
    plan = plan_of(len(STREAMS), target=5)
    plan = revise(
        plan,
        cohort=msgspec.structs.replace(plan.cohort, minimum=4),
        participation=msgspec.structs.replace(plan.participation, per_campaign=50, per_epoch=50),
    )
    availability = Availability(online=0.8, diurnal=True, dropout=0.3)

    def run(name: str) -> list[tuple[int, int, int, str | None]]:
        result = simulate(
            tmp_path / name,
            work_of(plan, Privacy.SUBJECT),
            start_of(plan),
            clients,
            processes=1,
            availability=availability,
        )
        return [(r.round, r.attempt, r.usable, r.model_sha256) for r in result.receipts]

    receipts = run("once")
    assert receipts == run("again")
    assert any(sha is None for *_, sha in receipts)
    assert all((usable >= 4) == (sha is not None) for *_, usable, sha in receipts)


def test_a_run_goes_on_to_the_same_model(tmp_path: Path, clients: SimulatedClients) -> None:
    plan = plan_of(len(STREAMS), target=5)
    plan = revise(plan, rounds=3)
    work, start = work_of(plan, Privacy.SUBJECT), start_of(plan)
    whole = simulate(tmp_path / "whole", work, start, clients, processes=1)

    def stop_after_first(receipt: Receipt) -> None:
        if receipt.round == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "parts", work, start, clients, processes=1, on_round=stop_after_first)
    rest = simulate(tmp_path / "parts", work, start, clients, processes=1)
    np.testing.assert_array_equal(rest.model, whole.model)
    assert [r.model_sha256 for r in rest.receipts] == [r.model_sha256 for r in whole.receipts]


def test_resampled_clients_have_windows_of_one_recorded_person(clients: SimulatedClients) -> None:
    many = SimulatedClients(clients.path, 1_000, seed=5)
    opened = many.open()
    np.testing.assert_array_equal(opened.windows(3), training_windows(STREAMS[3], RECORD))
    for client in (9, 10, 999):
        rows = opened.windows(client)
        own = opened.windows(int(many.sources[client]))
        assert len(rows) == len(own) == many.counts[client]
        assert {row.tobytes() for row in rows} <= {row.tobytes() for row in own}
        np.testing.assert_array_equal(rows, many.open().windows(client))
    assert len(set(many.sources[9:].tolist())) == 9
    with pytest.raises(ValidationError, match="smaller than the 9 persons"):
        SimulatedClients(clients.path, 3, seed=5)
