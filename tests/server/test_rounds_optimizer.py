from decimal import Decimal

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.app.message.message import make_message
from flwr.app.metadata import Metadata
from flwr.serverapp.strategy import FedYogi

from tacitly_common.campaign import ServerOptimizerName, ServerOptimizerPlan
from tacitly_common.model_config import ModelConfig
from tacitly_server.rounds.optimizer import BETA2, TAU, OptimizerState, apply, step

STEPS, D = 12, 37
UPDATES = np.random.default_rng(0).normal(size=(STEPS, D))


def plan(name: ServerOptimizerName) -> ServerOptimizerPlan:
    return ServerOptimizerPlan(name=name, learning_rate=Decimal("0.3"), momentum=Decimal("0.8"))


def reference(name: ServerOptimizerName, parameter: torch.Tensor) -> torch.optim.Optimizer:
    match name:
        case ServerOptimizerName.SGD:
            return torch.optim.SGD([parameter], lr=0.3)
        case ServerOptimizerName.MOMENTUM:
            return torch.optim.SGD([parameter], lr=0.3, momentum=0.8)
        case ServerOptimizerName.ADAM:
            betas = (0.8, BETA2)
            return torch.optim.Adam([parameter], lr=0.3, betas=betas, eps=TAU)
        case ServerOptimizerName.YOGI:
            raise AssertionError("torch has none")


OF_TORCH = [name for name in ServerOptimizerName if name is not ServerOptimizerName.YOGI]


@pytest.mark.parametrize("name", OF_TORCH)
def test_the_path_is_torchs_with_the_update_as_negative_gradient(name: ServerOptimizerName) -> None:
    parameter = torch.zeros(D, dtype=torch.float64, requires_grad=True)
    torch_optimizer = reference(name, parameter)
    mine = np.zeros(D)
    state = OptimizerState()
    for update in UPDATES:
        parameter.grad = torch.from_numpy(-update)
        torch_optimizer.step()
        delta, state = step(plan(name), state, update)
        mine = mine + delta
        np.testing.assert_allclose(mine, parameter.detach().numpy(), rtol=1e-12, atol=1e-12)
    assert state.steps == STEPS


def test_yogi_takes_the_path_of_flowers_fedyogi() -> None:
    theirs = FedYogi(eta=0.3, beta_1=0.8, beta_2=BETA2, tau=TAU)
    # Flower begins with 0, the paper with at least τ² ("v_-1 >= τ²", Algorithm 2).
    theirs.v_t = {"x": np.full(D, TAU**2)}
    mine = np.zeros(D)
    state = OptimizerState()
    # The paper's case: after large updates small ones, where the sign turns.
    updates = UPDATES * np.where(np.arange(STEPS) < STEPS // 2, 1.0, 0.01)[:, None]
    for update in updates:
        theirs.current_arrays = {"x": mine}
        arrays = ArrayRecord({"x": Array(mine + update)})
        content = RecordDict({"arrays": arrays, "m": MetricRecord({"num-examples": 1})})
        reply = make_message(Metadata(1, "", 1, 2, "", "", 1.8e9, 60.0, "train"), content)
        after, _ = theirs.aggregate_train(1, [reply])
        assert after is not None
        delta, state = step(plan(ServerOptimizerName.YOGI), state, update)
        mine = mine + delta
        np.testing.assert_allclose(mine, after["x"].numpy(), rtol=1e-9, atol=1e-12)
    assert state.steps == STEPS


@pytest.mark.parametrize("name", list(ServerOptimizerName))
def test_a_step_changes_neither_the_old_state_nor_the_update(name: ServerOptimizerName) -> None:
    _, state = step(plan(name), OptimizerState(), UPDATES[0])
    before = {key: moment.copy() for key, moment in state.moments.items()}
    update = UPDATES[1].copy()
    first, _ = step(plan(name), state, update)
    second, _ = step(plan(name), state, update)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(update, UPDATES[1])
    for key, moment in before.items():
        np.testing.assert_array_equal(state.moments[key], moment)


def test_only_the_trainable_tensors_move() -> None:
    config = ModelConfig(
        vocabulary_size=5, embedding=2, hidden=3, trainable=("gru.bias_ih_l0", "output.bias")
    )
    model = np.random.default_rng(1).normal(size=config.parameters).astype(np.float32)
    delta = np.arange(1, config.trainable_parameters + 1, dtype=np.float64)
    moved = apply(config, model, delta)
    tensors = {t.name: t for t in config.layout()}
    expected = model.copy()
    bias, output = tensors["gru.bias_ih_l0"], tensors["output.bias"]
    expected[bias.start : bias.stop] += np.arange(1, 10, dtype=np.float32)
    expected[output.start : output.stop] += np.arange(10, 15, dtype=np.float32)
    np.testing.assert_array_equal(moved, expected)
