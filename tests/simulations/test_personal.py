"""Layers that each person trains on alone: as the device would, and to the person's good."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from plans import small_plan
from tacitly_client.training.baseline import PlainSettings
from tacitly_client.training.local import train_without_privacy
from tacitly_client.training.windows import training_windows
from tacitly_common.evaluation import NOTHING, evaluate_each
from tacitly_common.model import initial_vector
from tacitly_server.rounds.optimizer import apply
from tacitly_simulations.engines.client_file import SimulatedClients, write_clients
from tacitly_simulations.engines.privacy import Privacy
from tacitly_simulations.engines.trainers import Work
from tacitly_simulations.lab.personal import personal_scores

HEAD = ("output.weight", "output.bias")
SETTINGS = PlainSettings(epochs=3, batch_windows=4, learning_rate=0.5, momentum=0.5)
SEED = 5


def test_each_persons_score_is_that_of_its_device_training_on_alone(tmp_path: Path) -> None:
    plan = small_plan()
    streams = [np.random.default_rng(seed).integers(2, 11, 90 + 40 * seed) for seed in range(4)]
    older, newer = [s[:-20] for s in streams], [s[-20:] for s in streams]
    windows = [training_windows(stream, plan.record) for stream in older]
    write_clients(tmp_path / "clients.npy", windows)
    # Resampled clients beyond the persons have no newer part, and no part in this.
    clients = SimulatedClients(tmp_path / "clients.npy", 9, SEED)
    released = initial_vector(plan.model, 0)
    # How the rounds trained plays no part.
    work = Work(plan, Privacy.SUBJECT_AND_RECORD, SETTINGS, SEED, clip_by_tensor=True)
    scores = personal_scores(
        work, released, clients, newer, train=HEAD, settings=SETTINGS, processes=1
    )
    config = msgspec.structs.replace(plan.model, trainable=HEAD)
    for person, score in enumerate(scores):
        rng = np.random.default_rng((SEED, plan.rounds + 1, 1, person))
        update = train_without_privacy(config, released, windows[person], SETTINGS, rng)
        own = apply(config, released, update.astype(np.float64))
        (alone,) = evaluate_each(config, own, [newer[person]])
        assert (
            (score.predictions, score.top1) == (alone.predictions, alone.top1) == (20, alone.top1)
        )
        assert score.perplexity == pytest.approx(alone.perplexity, rel=1e-4)


def test_a_head_of_ones_own_tells_habits_apart_that_a_common_one_cannot(tmp_path: Path) -> None:
    """After 2, 3, 6 one person types 4, the other 5: a common model is wrong for one of them."""
    plan = small_plan()
    habits = [np.tile([2, 3, 6, last], 60) for last in (4, 5)]
    newer = [habit[:4] for habit in habits]  # too short to tell the persons apart by
    write_clients(
        tmp_path / "clients.npy", [training_windows(habit, plan.record) for habit in habits]
    )
    clients = SimulatedClients(tmp_path / "clients.npy", 2, SEED)
    both = training_windows(np.concatenate(habits), plan.record)
    settings = PlainSettings(epochs=20, batch_windows=4, learning_rate=0.5, momentum=0.5)
    start = initial_vector(plan.model, 0)
    common = start + train_without_privacy(
        plan.model, start, both, settings, np.random.default_rng(0)
    )
    shared = sum(evaluate_each(plan.model, common, newer), NOTHING)
    own = personal_scores(
        Work(plan, Privacy.NONE, settings, SEED),
        common,
        clients,
        newer,
        train=HEAD,
        settings=settings,
        processes=1,
    )
    assert shared.top1 == 7 / 8
    assert sum(own, NOTHING).top1 == 1
