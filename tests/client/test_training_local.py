"""DP-SGD on a device: the algorithm against its definition, the accounting against Opacus."""

from decimal import Decimal

import msgspec
import numpy as np
import pytest
import torch
from msgspec import UNSET
from opacus.accountants import RDPAccountant

from plans import small_plan
from tacitly_client.training import local
from tacitly_client.training.baseline import PlainSettings, TrainingError
from tacitly_client.training.gradient import clipped_gradient_sum
from tacitly_client.training.local import (
    train,
    train_without_privacy,
)
from tacitly_common.accounting.record import compose, epsilon_of_rdp, rdp_of_steps
from tacitly_common.campaign import revise
from tacitly_common.evaluation import evaluate
from tacitly_common.mechanisms.gaussian import secure_generator
from tacitly_common.model import initial_vector, named_tensors
from tacitly_common.model_config import ModelConfig


def plan(model=None, **record):
    base = small_plan()
    return revise(
        base,
        model=model or base.model,
        record=msgspec.structs.replace(base.record, **record),
    )


def some_windows(n, *, length=8, vocabulary=11, seed=0):
    return np.random.default_rng(seed).integers(0, vocabulary, size=(n, length + 1))


def test_equals_the_algorithm_written_out():
    p = plan(steps=4, sample_rate=Decimal("0.3"))
    start, windows = initial_vector(p.model, 0), some_windows(40)
    update = train(p, start, windows, rng=np.random.default_rng(9))

    rng = np.random.default_rng(9)
    vector = start.astype(np.float64)
    for _ in range(4):
        taken = windows[rng.random(40) < 0.3]
        sums = clipped_gradient_sum(
            named_tensors(p.model, vector.astype(np.float32)),
            torch.from_numpy(taken),
            trainable=frozenset(tensor.name for tensor in p.model.layout()),
            clip_norm=1.0,
        ).gradients
        for tensor in p.model.layout():
            noisy = sums[tensor.name].numpy() + rng.normal(0, 0.8, tensor.shape)
            vector[tensor.start : tensor.stop] -= 0.5 * noisy.ravel() / (0.3 * 100)
    np.testing.assert_allclose(update, vector - start, atol=1e-5)
    assert update.dtype == np.float32


def test_the_denominator_is_the_plans_and_not_the_data():
    """Twice the windows of one kind give about twice the gradient, not the same mean."""
    p = plan(
        steps=1,
        sample_rate=Decimal(1),
        noise_multiplier=Decimal("1e-9"),
        learning_rate=Decimal(1),
    )
    start, windows = initial_vector(p.model, 0), some_windows(10)
    rng = np.random.default_rng(0)
    once = train(p, start, windows, rng=rng)
    twice = train(p, start, np.concatenate([windows, windows]), rng=rng)
    np.testing.assert_allclose(twice, 2 * once, atol=1e-6)


def test_without_windows_the_update_is_noise_of_the_promised_size():
    p = plan(
        model=ModelConfig(vocabulary_size=60, embedding=16, hidden=32),
        steps=3,
        noise_multiplier=Decimal(2),
        clip_norm=Decimal("0.25"),
        learning_rate=Decimal(4),
    )
    empty = np.empty((0, 9), dtype=np.int64)
    update = train(p, initial_vector(p.model, 0), empty, rng=secure_generator())
    expected = np.sqrt(3) * 4 * 2 * 0.25 / (0.1 * 100)
    assert update.std() == pytest.approx(expected, rel=0.05)  # 7,000 coordinates: 1 s.d. 0.8%
    assert abs(update.mean()) < 5 * expected / np.sqrt(len(update))


def test_it_takes_the_steps_that_are_charged_and_no_more(monkeypatch):
    """Opacus's accountant on the optimiser that ran, against what the ledger charges."""
    accountant = RDPAccountant()

    class Counted(local._Optimizer):
        def __init__(self, *args, **keywords):
            super().__init__(*args, **keywords)
            self.attach_step_hook(accountant.get_optimizer_hook_fn(0.1))

    monkeypatch.setattr(local, "_Optimizer", Counted)
    p = plan(steps=5)
    for _ in range(2):
        train(p, initial_vector(p.model, 0), some_windows(20), rng=secure_generator())
    assert accountant.history == [(0.8, 0.1, 10)]
    charged = rdp_of_steps(p.record.noise_multiplier, p.record.sample_rate, p.record.steps)
    epsilon = epsilon_of_rdp(compose(charged, charged), p.delta)
    assert epsilon == pytest.approx(accountant.get_epsilon(float(p.delta)), rel=0.01)


def test_only_the_trainable_tensors_are_in_the_update():
    model = ModelConfig(
        vocabulary_size=11, embedding=3, hidden=4, trainable=("gru.bias_hh_l0", "output.bias")
    )
    p = plan(model=model)
    update = train(p, initial_vector(model, 0), some_windows(30), rng=secure_generator())
    assert update.shape == (model.trainable_parameters,)
    assert update.shape == (12 + 11,)


@pytest.mark.parametrize("batch_windows", [7, 300])
def test_more_records_than_fit_at_once_give_the_same_sum(batch_windows):
    model = small_plan().model
    start, windows = initial_vector(model, 0), some_windows(300)
    settings = PlainSettings(epochs=1, batch_windows=batch_windows, learning_rate=0.1, momentum=0.5)
    update = train_without_privacy(model, start, windows, settings, np.random.default_rng(4))

    vector = start.astype(np.float64)
    velocity = np.zeros_like(vector)
    shuffled = windows[np.random.default_rng(4).permutation(300)]
    for first in range(0, 300, batch_windows):
        batch = shuffled[first : first + batch_windows]
        sums = clipped_gradient_sum(
            named_tensors(model, vector.astype(np.float32)),
            torch.from_numpy(batch),
            trainable=frozenset(tensor.name for tensor in model.layout()),
            clip_norm=None,
        ).gradients
        for tensor in model.layout():
            part = slice(tensor.start, tensor.stop)
            gradient = sums[tensor.name].numpy().ravel() / len(batch)
            velocity[part] = 0.5 * velocity[part] + gradient
        vector -= 0.1 * velocity
    np.testing.assert_allclose(update, vector - start, atol=1e-5)


@pytest.mark.parametrize(
    ("trainable", "adapter_rank"),
    [((), UNSET), (("output.bias", "gru.down", "gru.up", "output.down", "output.up"), 2)],
    ids=["all", "adapters alone"],
)
def test_training_learns_a_pattern_with_and_without_privacy(trainable, adapter_rank):
    model = ModelConfig(
        vocabulary_size=8,
        embedding=8,
        hidden=16,
        trainable=trainable,
        adapter_rank=adapter_rank,
    )
    stream = np.tile([2, 3, 4, 5, 6, 7], 200)
    windows = np.concatenate([np.zeros((150, 1), dtype=np.int64), stream.reshape(150, 8)], axis=1)
    start = initial_vector(model, 1)
    assert evaluate(model, start, [stream]).top1 < 0.5

    settings = PlainSettings(epochs=40, batch_windows=16, learning_rate=1.0)
    update = train_without_privacy(model, start, windows, settings, np.random.default_rng(0))
    p = plan(
        model=model,
        steps=150,
        sample_rate=Decimal("0.5"),
        max_windows=150,
        noise_multiplier=Decimal("0.5"),
        learning_rate=Decimal(1),
    )
    private = train(p, start, windows, rng=secure_generator())
    moves = [slice(tensor.start, tensor.stop) for tensor in model.trainable_layout()]
    for moved, least in ((update, 0.95), (private, 0.9)):
        learned = start.copy()
        learned[np.r_[tuple(moves)]] += moved
        assert evaluate(model, learned, [stream]).top1 > least


def test_private_training_that_leaves_the_finite_numbers_says_so_to_nobody():
    p = plan(learning_rate=Decimal("1e38"), noise_multiplier=Decimal(1000))
    windows = some_windows(50)
    start = initial_vector(p.model, 0)
    update = train(p, start, windows, rng=secure_generator())
    assert not update.any()


def test_a_baseline_that_leaves_the_finite_numbers_gives_an_error_and_no_update():
    p, windows = plan(), some_windows(50)
    start = np.full(p.model.parameters, 1e38, dtype=np.float32)
    start[:5] = np.nan
    settings = PlainSettings(epochs=1, batch_windows=10, learning_rate=1.0)
    with pytest.raises(TrainingError):
        train_without_privacy(p.model, start, windows, settings, np.random.default_rng(0))


def test_torchs_own_generator_keeps_32_bits_of_its_seed_so_it_is_not_used():
    low = torch.rand(4, generator=torch.Generator().manual_seed(5))
    high = torch.rand(4, generator=torch.Generator().manual_seed(5 + 2**40))
    assert torch.equal(low, high)
