import hashlib

import msgspec
import numpy as np
import pytest
import torch

from tacitly_common.errors import ValidationError
from tacitly_common.model import (
    InteractionModel,
    initial_vector,
    load_vector,
    named_tensors,
    to_vector,
)
from tacitly_common.model_config import ModelConfig, folded, with_adapters

CONFIG = ModelConfig(vocabulary_size=11, embedding=3, hidden=5)
ADAPTED = msgspec.structs.replace(CONFIG, trainable=("gru.up", "output.up"), adapter_rank=2)


def test_the_layout_is_the_modules_own_names_shapes_and_order():
    model = InteractionModel(CONFIG)
    theirs = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
    assert theirs == [(tensor.name, tensor.shape) for tensor in CONFIG.layout()]
    assert theirs == [(name, tuple(value.shape)) for name, value in model.named_parameters()]
    assert CONFIG.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_the_hash_names_the_architecture_and_never_moves():
    assert CONFIG.hash() == "7333282504c0d2a9e17aacaa1da1b16df270bd343b8abb76eba7c41638b78f59"
    assert ModelConfig(vocabulary_size=11, embedding=3, hidden=6).hash() != CONFIG.hash()


def test_a_vector_survives_the_way_through_the_module():
    vector = np.arange(CONFIG.parameters, dtype=np.float32)
    model = InteractionModel(CONFIG)
    load_vector(model, vector)
    assert (to_vector(model) == vector).all()
    for tensor in CONFIG.layout():
        part = vector[tensor.start : tensor.stop].reshape(tensor.shape)
        assert (model.state_dict()[tensor.name].numpy() == part).all()


def test_the_loaded_model_does_not_share_memory_with_the_vector():
    vector = np.zeros(CONFIG.parameters, dtype=np.float32)
    model = InteractionModel(CONFIG)
    load_vector(model, vector)
    vector[:] = 1
    assert not to_vector(model).any()


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(CONFIG.parameters + 1, dtype=np.float32),
        np.zeros(CONFIG.parameters, dtype=np.float64),
        np.zeros((1, CONFIG.parameters), dtype=np.float32),
    ],
)
def test_a_vector_of_another_shape_or_type_is_refused_and_changes_nothing(vector):
    model = InteractionModel(CONFIG)
    load_vector(model, initial_vector(CONFIG, 1))
    before = to_vector(model).copy()
    with pytest.raises(ValidationError, match=rf"float32\[{CONFIG.parameters}\]"):
        load_vector(model, vector)
    assert (to_vector(model) == before).all()


def test_the_initial_vector_depends_on_the_seed_alone():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global generator is what must not matter
    state = torch.get_rng_state()
    first = initial_vector(CONFIG, 7)
    InteractionModel(CONFIG)
    assert torch.equal(torch.get_rng_state(), state)
    np.random.seed(2)  # noqa: NPY002
    assert (initial_vector(CONFIG, 7) == first).all()
    assert (initial_vector(CONFIG, 8) != first).any()
    assert first.dtype == np.float32
    assert first.shape == (CONFIG.parameters,)


def test_advancing_in_pieces_equals_one_pass():
    model = InteractionModel(CONFIG)
    load_vector(model, initial_vector(CONFIG, 2))
    tokens = torch.randint(0, 11, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = model(tokens)
        first, state = model.advance(tokens[:, :5], None)
        second, _ = model.advance(tokens[:, 5:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)


def test_adapters_come_after_a_vector_that_is_what_it_was():
    assert ADAPTED.base == CONFIG
    assert ADAPTED.layout()[: len(CONFIG.layout())] == CONFIG.layout()
    assert [(tensor.name, tensor.shape) for tensor in ADAPTED.layout()[len(CONFIG.layout()) :]] == [
        ("gru.down", (2, 5)),
        ("gru.up", (15, 2)),
        ("output.down", (2, 5)),
        ("output.up", (11, 2)),
    ]
    start, adapted = initial_vector(CONFIG, 7), initial_vector(ADAPTED, 7)
    assert (
        hashlib.sha256(start.tobytes()).hexdigest()
        == "6f044dee6ee3c66429b1c035c18d83d40848c808c13995b1e6e716b136eeff61"
    )
    assert (adapted[: len(start)] == start).all()
    assert (with_adapters(ADAPTED, start, 7) == adapted).all()
    released = initial_vector(CONFIG, 8)
    other = with_adapters(ADAPTED, released, 7)
    assert (other[: len(start)] == released).all()
    assert (other[len(start) :] == adapted[len(start) :]).all()
    assert with_adapters(CONFIG, released, 7).tobytes() == released.tobytes()
    with pytest.raises(ValidationError, match=rf"float32\[{CONFIG.parameters}\]"):
        with_adapters(ADAPTED, adapted, 7)


def test_a_model_begins_as_it_would_without_adapters():
    start = initial_vector(ADAPTED, 3)
    tensors = named_tensors(ADAPTED, start)
    assert tensors["gru.down"].all()
    assert tensors["output.down"].all()
    assert (folded(ADAPTED, start) == initial_vector(CONFIG, 3)).all()


def test_what_is_folded_computes_what_map_and_adapter_compute():
    rng = np.random.default_rng(0)
    vector = rng.uniform(-1, 1, ADAPTED.parameters).astype(np.float32)
    before, tensors = vector.copy(), named_tensors(ADAPTED, vector)
    model = InteractionModel(ADAPTED)
    load_vector(model, vector)
    assert (vector == before).all()
    assert (to_vector(model) == folded(ADAPTED, vector)).all()
    hidden = torch.rand(4, 5)
    with torch.no_grad():
        logits = hidden @ tensors["output.weight"].t() + tensors["output.bias"]
        logits += (hidden @ tensors["output.down"].t()) @ tensors["output.up"].t()
        torch.testing.assert_close(model.output(hidden), logits)
        recurrent = hidden @ tensors["gru.weight_hh_l0"].t()
        recurrent += (hidden @ tensors["gru.down"].t()) @ tensors["gru.up"].t()
        torch.testing.assert_close(hidden @ model.gru.weight_hh_l0.t(), recurrent)
    assert torch.equal(model.embedding.weight, tensors["embedding.weight"])
