"""The forward step in numpy against torch's own, which is the oracle."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tacitly_client.assist.recurrent import RecurrentModel
from tacitly_common.errors import ValidationError
from tacitly_common.model import InteractionModel, initial_vector, load_vector
from tacitly_common.model_config import ModelConfig

shapes = st.builds(
    ModelConfig,
    vocabulary_size=st.integers(2, 40),
    embedding=st.integers(1, 12),
    hidden=st.integers(1, 24),
)
adapted = st.builds(
    ModelConfig,
    vocabulary_size=st.integers(3, 40),
    hidden=st.integers(3, 24),
    trainable=st.just(("output.up",)),
    adapter_rank=st.integers(1, 3),
)


@settings(deadline=None, max_examples=60)
@given(config=shapes | adapted, seed=st.integers(0, 2**16), data=st.data())
def test_it_computes_what_torch_computes(
    config: ModelConfig, seed: int, data: st.DataObject
) -> None:
    token = st.integers(0, config.vocabulary_size - 1)
    stream = np.array(data.draw(st.lists(token, min_size=1, max_size=30)))
    vector = 3 * initial_vector(config, seed)  # gates that saturate too
    adapters = vector[config.base.parameters :]
    adapters[:] = np.random.default_rng(seed).uniform(-1, 1, len(adapters))
    reference = InteractionModel(config)
    load_vector(reference, vector)
    with torch.inference_mode():
        expected = reference(torch.from_numpy(stream)[None])[0].double().softmax(dim=1).numpy()
    model = RecurrentModel(config, vector)
    states = model.begin()
    for step, one in enumerate(stream):
        states = model.advance(states, np.array([one]))
        np.testing.assert_allclose(
            model.probabilities(states)[0], expected[step], rtol=2e-3, atol=2e-6
        )


@given(config=shapes, seed=st.integers(0, 2**16), rows=st.integers(1, 9))
def test_rows_are_computed_side_by_side(config: ModelConfig, seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    model = RecurrentModel(config, initial_vector(config, seed))
    states = rng.standard_normal((rows, config.hidden)).astype(np.float32)
    tokens = rng.integers(0, config.vocabulary_size, rows)
    together = model.advance(states, tokens)
    for row in range(rows):
        alone = model.advance(states[row : row + 1], tokens[row : row + 1])
        np.testing.assert_allclose(together[row], alone[0], rtol=1e-4, atol=1e-6)


def test_an_advance_changes_neither_model_nor_state() -> None:
    config = ModelConfig(vocabulary_size=5, embedding=2, hidden=3)
    vector = initial_vector(config, 0)
    model, before = RecurrentModel(config, vector), vector.copy()
    states = model.begin()
    first = model.probabilities(model.advance(states, np.array([2])))
    again = model.probabilities(model.advance(states, np.array([2])))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(vector, before)
    assert not states.any()


def test_a_read_only_vector_as_it_was_verified_is_enough() -> None:
    config = ModelConfig(vocabulary_size=5, embedding=2, hidden=3)
    content = initial_vector(config, 0).tobytes()
    model = RecurrentModel(config, np.frombuffer(content, dtype="<f4"))
    assert model.probabilities(model.begin()).sum() == pytest.approx(1)


@pytest.mark.parametrize("bad", [np.zeros(3, np.float32), np.zeros(149, np.float64)])
def test_a_vector_of_another_shape_is_refused(bad: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValidationError, match="a model of this configuration is float32"):
        RecurrentModel(ModelConfig(vocabulary_size=5, embedding=2, hidden=3), bad)


def test_suggesting_loads_no_torch_and_no_network() -> None:
    code = (
        "import sys, tacitly_client.assist.terminal, tacitly_client.assist.savings, "
        "tacitly_client.assist.history, tacitly_client.models; print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "tacitly_client.assist.suggester" in loaded
    assert not loaded & {"torch", "grpc", "flwr", "httpx", "opacus", "scipy"}
