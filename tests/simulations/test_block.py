"""The stacked gradients against the device's own, and a block of clients against its training."""

from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType
from torch import Tensor

from plans import small_plan
from tacitly_client.training.baseline import PlainSettings, TrainingError
from tacitly_client.training.gradient import clipped_gradient_sum
from tacitly_client.training.local import train, train_without_privacy
from tacitly_common.campaign import CampaignPlan, revise
from tacitly_common.model import initial_vector, named_tensors
from tacitly_common.model_config import ModelConfig, adapts
from tacitly_common.vocabulary import START
from tacitly_simulations.engines.block import train_block, train_block_without_privacy
from tacitly_simulations.engines.stacked import Buffers, clipped_gradient_sums

CONFIG = ModelConfig(vocabulary_size=7, embedding=3, hidden=4)
NAMES = tuple(tensor.name for tensor in CONFIG.layout())
ADAPTED = msgspec.structs.replace(CONFIG, trainable=("output.up",), adapter_rank=2)
ADAPTED_NAMES = tuple(tensor.name for tensor in ADAPTED.layout())


def stacked(clients: int, seed: int = 0, config: ModelConfig = CONFIG) -> dict[str, Tensor]:
    vectors = [initial_vector(config, seed + i) for i in range(clients)]
    for i, vector in enumerate(vectors):
        # Adapters that adapt: as they begin they change nothing.
        adapters = vector[CONFIG.parameters :]
        adapters[:] = np.random.default_rng(seed + i).uniform(-1, 1, len(adapters))
    models = [named_tensors(config, vector) for vector in vectors]
    return {name: torch.stack([model[name] for model in models]) for name in models[0]}


@settings(max_examples=80, deadline=None)
@given(
    clients=st.integers(1, 4),
    batch=st.integers(1, 5),
    time=st.integers(1, 6),
    clip_norm=st.sampled_from([None, 0.01, 0.3, 100.0]),
    model=st.one_of(
        st.tuples(st.just(CONFIG), st.sets(st.sampled_from(NAMES), min_size=1)),
        st.tuples(st.just(ADAPTED), st.sets(st.sampled_from(ADAPTED_NAMES), min_size=1)),
    ),
    shared=st.sets(st.sampled_from(ADAPTED_NAMES)),
    seed=st.integers(0, 2**16),
)
def test_each_client_has_the_sums_that_its_device_would_have(
    clients: int,
    batch: int,
    time: int,
    clip_norm: float | None,
    model: tuple[ModelConfig, set[str]],
    shared: set[str],
    seed: int,
) -> None:
    config, trainable = model
    parameters = {
        name: tensor[:1].expand_as(tensor) if name in shared else tensor
        for name, tensor in stacked(clients, seed, config).items()
    }
    windows = torch.from_numpy(
        np.random.default_rng(seed).integers(0, 7, (clients, batch, time + 1))
    )
    windows[0, 0] = START
    sums = clipped_gradient_sums(
        parameters,
        windows,
        trainable=frozenset(trainable),
        clip_norm=clip_norm,
        buffers=Buffers(),
    )
    for client in range(clients):
        alone = clipped_gradient_sum(
            {name: tensor[client] for name, tensor in parameters.items()},
            windows[client],
            trainable=frozenset(trainable),
            clip_norm=clip_norm,
        )
        for name in trainable:
            torch.testing.assert_close(
                sums[name][client], alone.gradients[name], rtol=1e-4, atol=1e-5
            )


def test_a_record_that_overflows_counts_as_zero_for_its_client_alone() -> None:
    parameters = stacked(2)
    parameters["output.weight"][0] = torch.inf
    windows = torch.ones(2, 3, 5, dtype=torch.int64)
    sums = clipped_gradient_sums(
        parameters, windows, trainable=frozenset(NAMES), clip_norm=1.0, buffers=Buffers()
    )
    for name in NAMES:
        assert not sums[name][0].any()
        assert sums[name][1].any()


def people(*counts: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    windows = [rng.integers(0, 11, (count, 9)) for count in counts]
    for rows in windows:
        rows[:, 0] = START
    return windows


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng((5, client)) for client in range(count)]


@pytest.mark.parametrize(
    "trainable",
    [
        (),
        ("output.weight", "output.bias"),
        ("embedding.weight", "gru.bias_hh_l0"),
        ADAPTED_NAMES[-5:],
        ("gru.up", "output.down"),
    ],
)
@pytest.mark.parametrize(("momentum", "proximal"), [(0.0, 0.0), (0.9, 0.0), (0.5, 0.2)])
def test_a_block_without_privacy_is_each_client_alone(
    trainable: tuple[str, ...], momentum: float, proximal: float
) -> None:
    rank = 2 if adapts(trainable) else UNSET
    config = msgspec.structs.replace(small_plan().model, trainable=trainable, adapter_rank=rank)
    start, windows = initial_vector(config, 0), people(3, 0, 17, 8, 9)
    local = PlainSettings(
        epochs=2, batch_windows=4, learning_rate=0.5, momentum=momentum, proximal=proximal
    )
    together = train_block_without_privacy(config, start, windows, local, generators(5), Buffers())
    for update, rows, rng in zip(together, windows, generators(5), strict=True):
        alone = train_without_privacy(config, start, rows, local, rng)
        np.testing.assert_allclose(update, alone, atol=2e-6)
    assert not together[1].any()


def private_plan(sample_rate: str = "0.5", **changes: Any) -> CampaignPlan:
    plan = small_plan(**changes)
    return revise(
        plan, record=msgspec.structs.replace(plan.record, sample_rate=Decimal(sample_rate))
    )


@pytest.mark.parametrize("adapter_rank", [UNSET, 2])
@pytest.mark.parametrize("sample_rate", ["0.02", "0.5", "1"])
def test_a_private_block_is_each_client_alone_noise_included(
    sample_rate: str, adapter_rank: int | UnsetType
) -> None:
    trainable = () if adapter_rank is UNSET else ADAPTED_NAMES[-5:]
    model = small_plan().model
    model = msgspec.structs.replace(model, trainable=trainable, adapter_rank=adapter_rank)
    plan = private_plan(sample_rate, model=model)
    start, windows = initial_vector(plan.model, 0), people(30, 0, 7, 100)
    together = train_block(plan, start, windows, generators(4), Buffers())
    for update, rows, rng in zip(together, windows, generators(4), strict=True):
        np.testing.assert_allclose(update, train(plan, start, rows, rng=rng), atol=2e-6)
    assert together[1].any()  # noise alone


def test_a_block_of_one_leaves_the_start_model_as_it_is() -> None:
    plan = private_plan()
    start, windows = initial_vector(plan.model, 0), people(17)
    before = start.copy()
    local = PlainSettings(epochs=1, batch_windows=4, learning_rate=0.5)
    plain = train_block_without_privacy(plan.model, start, windows, local, generators(1), Buffers())
    alone = train_without_privacy(plan.model, start, windows[0], local, generators(1)[0])
    np.testing.assert_allclose(plain[0], alone, atol=2e-6)
    private = train_block(plan, start, windows, generators(1), Buffers())
    alone = train(plan, start, windows[0], rng=generators(1)[0])
    np.testing.assert_allclose(private[0], alone, atol=2e-6)
    np.testing.assert_array_equal(start, before)


def test_buffers_carry_nothing_from_one_block_to_the_next() -> None:
    plan, buffers = private_plan(), Buffers()
    start = initial_vector(plan.model, 0)
    first = train_block(plan, start, people(30, 40), generators(2), buffers)
    train_block(plan, start, people(5, 60, 3), generators(3), buffers)
    again = train_block(plan, start, people(30, 40), generators(2), buffers)
    np.testing.assert_array_equal(first, again)


def test_large_batches_are_summed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = private_plan("1")
    start, windows = initial_vector(plan.model, 0), people(30, 7)
    whole = train_block(plan, start, windows, generators(2), Buffers())
    monkeypatch.setattr("tacitly_simulations.engines.block._TOKENS_AT_ONCE", 64)
    parts = train_block(plan, start, windows, generators(2), Buffers())
    np.testing.assert_allclose(parts, whole, atol=2e-6)


def test_training_that_leaves_the_finite_numbers() -> None:
    plan, windows = private_plan(), people(20, 20)
    local = PlainSettings(epochs=1, batch_windows=4, learning_rate=1e38)
    start = initial_vector(plan.model, 0)
    with pytest.raises(TrainingError):
        train_block_without_privacy(plan.model, start, windows, local, generators(2), Buffers())
    rate = msgspec.structs.replace(
        plan.record, learning_rate=Decimal("1e38"), clip_norm=Decimal("1e6")
    )
    diverged = train_block(revise(plan, record=rate), start, windows, generators(2), Buffers())
    assert not diverged.any()
