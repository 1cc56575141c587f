"""The hand-written step against three oracles: plain autograd, torch.func and Opacus."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.grad_sample import GradSampleModule
from opacus.layers import DPGRU
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.func import grad, vmap

from tacitly_client.training.gradient import clipped_gradient_sum
from tacitly_common.model import InteractionModel, initial_vector, load_vector, named_tensors
from tacitly_common.model_config import ADAPTERS, ModelConfig

RANK = 2
NAMES = [tensor.name for tensor in ModelConfig(vocabulary_size=2).layout()]
ADAPTER_NAMES = [name for pair in ADAPTERS.values() for name in pair]
TOLERANCE = 1e-5


def functional_loss(parameters: dict[str, Tensor], window: Tensor) -> Tensor:
    """The loss of one window, written with the formulas of torch.nn.GRU's documentation."""
    hidden = torch.zeros(parameters["gru.weight_hh_l0"].shape[1])
    logits = []

    def linear(weight: str, inputs: Tensor) -> Tensor:
        outputs = parameters[weight] @ inputs
        down, up = ADAPTERS[weight]
        return (
            outputs + parameters[up] @ (parameters[down] @ inputs) if up in parameters else outputs
        )

    for embedded in nn.functional.embedding(window[:-1], parameters["embedding.weight"]):
        into = parameters["gru.weight_ih_l0"] @ embedded + parameters["gru.bias_ih_l0"]
        from_hidden = linear("gru.weight_hh_l0", hidden) + parameters["gru.bias_hh_l0"]
        (ir, iz, in_), (hr, hz, hn) = into.chunk(3), from_hidden.chunk(3)
        r, z = torch.sigmoid(ir + hr), torch.sigmoid(iz + hz)
        hidden = (1 - z) * torch.tanh(in_ + r * hn) + z * hidden
        logits.append(linear("output.weight", hidden) + parameters["output.bias"])
    entropies = -torch.log_softmax(torch.stack(logits), 1).gather(1, window[1:, None])[:, 0]
    return (entropies * (window[1:] != 0)).sum() / (len(window) - 1)


def clip_and_sum(per_record: dict[str, Tensor], names: list[str], clip: float | None):
    """The definition: clip each record's gradient over `names`, then add."""
    squared = sum(per_record[name].double().flatten(1).square().sum(1) for name in names)
    factors = torch.ones_like(squared) if clip is None else (clip / squared.sqrt()).clamp_max(1)
    return {name: torch.einsum("i,i...->...", factors, per_record[name].double()) for name in names}


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]):
    """Equal to TOLERANCE relative to the norm of the whole, and no tensor left out."""
    assert actual.keys() == expected.keys()
    scale = sum(value.square().sum() for value in expected.values()).sqrt()
    for name, value in expected.items():
        assert actual[name].shape == value.shape
        assert (actual[name].double() - value).norm() <= TOLERANCE * scale, name


def problem(vocabulary: int, embedding: int, hidden: int, batch: int, time: int, seed: int):
    config = ModelConfig(vocabulary_size=vocabulary, embedding=embedding, hidden=hidden)
    # Doubled, so that the gates leave their linear range.
    parameters = named_tensors(config, 2 * initial_vector(config, seed))
    rng = np.random.default_rng(seed)
    windows = rng.integers(0, vocabulary, size=(batch, time + 1))
    windows[:, time - int(rng.integers(0, time)) :] *= rng.integers(0, 2, size=(batch, 1))
    return config, parameters, torch.from_numpy(windows)


@given(
    vocabulary=st.integers(2, 12),
    embedding=st.integers(1, 6),
    hidden=st.integers(1, 9),
    batch=st.integers(1, 6),
    time=st.integers(1, 9),
    trained=st.sets(st.sampled_from(NAMES), min_size=1).map(sorted),
    clip=st.one_of(st.none(), st.floats(0.01, 5.0)),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_clipped_sum_of_torch_func(
    vocabulary, embedding, hidden, batch, time, trained, clip, seed
):
    _, parameters, windows = problem(vocabulary, embedding, hidden, batch, time, seed)
    per_record = vmap(grad(functional_loss), (None, 0))(parameters, windows)
    result = clipped_gradient_sum(parameters, windows, trainable=frozenset(trained), clip_norm=clip)
    assert_close(result.gradients, clip_and_sum(per_record, trained, clip))
    expected = vmap(functional_loss, (None, 0))(parameters, windows)
    torch.testing.assert_close(result.losses, expected)


@given(
    hidden=st.integers(RANK, 9),
    time=st.integers(1, 9),
    trained=st.sets(st.sampled_from(NAMES + ADAPTER_NAMES), min_size=1).map(sorted),
    clip=st.one_of(st.none(), st.floats(0.01, 5.0)),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None)
def test_with_adapters_too(hidden, time, trained, clip, seed):
    _, parameters, windows = problem(7, 3, hidden, 4, time, seed)
    generator = torch.Generator().manual_seed(seed)
    for weight, (down, up) in ADAPTERS.items():
        outputs, inputs = parameters[weight].shape
        parameters[down] = torch.randn(RANK, inputs, generator=generator)
        parameters[up] = torch.randn(outputs, RANK, generator=generator)
    per_record = vmap(grad(functional_loss), (None, 0))(parameters, windows)
    result = clipped_gradient_sum(parameters, windows, trainable=frozenset(trained), clip_norm=clip)
    assert_close(result.gradients, clip_and_sum(per_record, trained, clip))
    expected = vmap(functional_loss, (None, 0))(parameters, windows)
    torch.testing.assert_close(result.losses, expected)


@pytest.mark.parametrize("clip", [None, 0.2, 1.0])
def test_equals_autograd_through_the_model_record_by_record(clip):
    config, parameters, windows = problem(40, 16, 32, 12, 24, seed=3)
    model = InteractionModel(config)
    load_vector(model, 2 * initial_vector(config, 3))
    per_record = {name: [] for name in NAMES}
    for window in windows:
        model.zero_grad()
        loss = nn.functional.cross_entropy(
            model(window[None, :-1])[0], window[1:], ignore_index=0, reduction="sum"
        )
        (loss / 24).backward()
        for name, parameter in model.named_parameters():
            per_record[name].append(parameter.grad.clone())
    stacked = {name: torch.stack(values) for name, values in per_record.items()}
    result = clipped_gradient_sum(parameters, windows, trainable=frozenset(NAMES), clip_norm=clip)
    assert_close(result.gradients, clip_and_sum(stacked, NAMES, clip))


class _OpacusModel(nn.Module):
    """`InteractionModel` with Opacus's own recurrent layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary_size, config.embedding)
        self.gru = DPGRU(config.embedding, config.hidden, batch_first=True)
        self.output = nn.Linear(config.hidden, config.vocabulary_size)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.gru(self.embedding(tokens))[0])


# Opacus's hooks sit on a module whose input is tokens, which have no gradient.
@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_equals_what_opacus_sums_after_its_own_clip():
    config, parameters, windows = problem(20, 8, 16, 10, 12, seed=5)
    theirs = _OpacusModel(config)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(parameters[name])
    wrapped = GradSampleModule(theirs, batch_first=True, loss_reduction="sum")
    optimizer = DPOptimizer(
        torch.optim.SGD(wrapped.parameters(), lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=0.3,
        expected_batch_size=1,
    )
    logits = wrapped(windows[:, :-1])
    loss = nn.functional.cross_entropy(
        logits.flatten(0, 1), windows[:, 1:].flatten(), ignore_index=0, reduction="sum"
    )
    (loss / 12).backward()
    optimizer.clip_and_accumulate()
    expected = {n: p.summed_grad.double() for n, p in theirs.named_parameters()}
    result = clipped_gradient_sum(parameters, windows, trainable=frozenset(NAMES), clip_norm=0.3)
    assert_close(result.gradients, expected)


def test_no_record_counts_more_than_the_clip():
    _, parameters, windows = problem(30, 8, 16, 6, 10, seed=1)
    for window in windows:
        result = clipped_gradient_sum(
            parameters, window[None], trainable=frozenset(NAMES), clip_norm=0.05
        )
        norm = sum(g.double().square().sum() for g in result.gradients.values()).sqrt()
        assert norm <= 0.05 * (1 + TOLERANCE)


def test_a_token_that_a_hostile_model_makes_overflow_costs_its_record_alone():
    _, parameters, windows = problem(20, 8, 16, 10, 12, seed=2)
    windows = windows.masked_fill(windows == 7, 8)
    # The square of token 7's embedding is infinite and its saturated gates' gradient zero.
    parameters = {name: tensor.clone() for name, tensor in parameters.items()}
    parameters["embedding.weight"][7] = 3e38
    others = clipped_gradient_sum(parameters, windows, trainable=frozenset(NAMES), clip_norm=0.3)
    struck = torch.cat([windows, windows[:3]])
    struck[-3:, 4] = 7
    result = clipped_gradient_sum(parameters, struck, trainable=frozenset(NAMES), clip_norm=0.3)
    assert all(gradient.any() for gradient in result.gradients.values())
    assert_close(result.gradients, others.gradients)


@pytest.mark.parametrize("windows", [torch.zeros(0, 5), torch.zeros(3, 5)])
def test_empty_and_all_padding_batches_give_zeros(windows):
    _, parameters, _ = problem(5, 3, 4, 1, 4, seed=0)
    result = clipped_gradient_sum(
        parameters, windows.long(), trainable=frozenset(NAMES), clip_norm=1.0
    )
    assert result.gradients.keys() == set(NAMES)
    assert all((gradient == 0).all() for gradient in result.gradients.values())
    assert result.losses.shape == (len(windows),)
