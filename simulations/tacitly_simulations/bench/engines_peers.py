"""The ways that the batched engine is measured against: one client after the other."""

import logging
import os
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from numpy.typing import NDArray
from torch import Tensor, nn

from tacitly_client.training.local import train, train_without_privacy
from tacitly_common.mechanisms.gaussian import clip_l2, decode_mean, release
from tacitly_common.model import InteractionModel, load_vector, to_vector
from tacitly_common.vocabulary import START
from tacitly_server.rounds import optimizer
from tacitly_server.rounds.optimizer import OptimizerState
from tacitly_simulations.engines.client_file import OpenClients, SimulatedClients
from tacitly_simulations.engines.trainers import Work

Vector = NDArray[np.float32]


def loop_rounds(
    work: Work,
    start: Vector,
    clients: SimulatedClients,
    rounds: int,
    device: bool,
    processes: int,
    on_round: Callable[[], None],
) -> None:
    """A pool of processes, each with one client at a time."""
    model, state = start, OptimizerState()
    members = range(clients.count)
    with ProcessPoolExecutor(processes, get_context("fork")) as pool:
        for number in range(1, rounds + 1):
            jobs = ((work, clients, device, model, number, client) for client in members)
            model, state = _step(work, model, state, pool.map(_answer, jobs, chunksize=8))
            on_round()


def flower_rounds(
    work: Work,
    start: Vector,
    clients: SimulatedClients,
    rounds: int,
    device: bool,
    processes: int,
    on_round: Callable[[], None],
) -> None:
    """Flower's simulation with Ray, its messages and nothing of our server's rounds."""
    server, client = ServerApp(), ClientApp()

    @client.train()
    def on_train(message: Message, context: Context) -> Message:
        content = message.content.array_records["model"].to_numpy_ndarrays()
        number, member = int(content[1][0]), int(context.node_config["partition-id"])
        answer = _answer((work, clients, device, content[0], number, member))
        return Message(RecordDict({"update": ArrayRecord([answer])}), reply_to=message)

    @server.main()
    def main(grid: Grid, _context: Context) -> None:
        model, state = start, OptimizerState()
        while len(list(grid.get_node_ids())) < clients.count:
            pass
        nodes = list(grid.get_node_ids())
        for number in range(1, rounds + 1):
            content = RecordDict({"model": ArrayRecord([model, np.array([number])])})
            messages = [
                Message(content, dst_node_id=node, message_type="train", group_id=str(number))
                for node in nodes
            ]
            replies = grid.send_and_receive(messages)
            answers = (
                reply.content.array_records["update"].to_numpy_ndarrays()[0] for reply in replies
            )
            model, state = _step(work, model, state, answers)
            on_round()

    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    from flwr.simulation import run_simulation

    logging.getLogger("flwr").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        run_simulation(
            server_app=server,
            client_app=client,
            num_supernodes=clients.count,
            backend_config={
                "client_resources": {"num_cpus": 1},
                "init_args": {
                    "num_cpus": processes,
                    "include_dashboard": False,
                    "log_to_driver": False,
                    "logging_level": logging.ERROR,
                },
            },
        )


def _step(
    work: Work, model: Vector, state: OptimizerState, answers: Iterable[NDArray[np.int32]]
) -> tuple[Vector, OptimizerState]:
    total = np.zeros(work.plan.model.trainable_parameters, dtype=np.int64)
    for answer in answers:
        total += answer
    delta, state = optimizer.step(work.plan.optimizer, state, decode_mean(total, work.plan))
    return optimizer.apply(work.plan.model, model, delta), state


_Job = tuple[Work, SimulatedClients, bool, Vector, int, int]


def _answer(job: _Job) -> NDArray[np.int32]:
    """One client's clipped, noised update on the grid: int32[trainable_parameters]."""
    work, clients, device, model, number, client = job
    windows = _opened(clients).windows(client)
    rng = np.random.default_rng((work.seed, number, 1, client))
    private = work.privacy.protects_records
    if device:
        update = (
            train(work.plan, model, windows, rng=rng)
            if private
            else train_without_privacy(work.plan.model, model, windows, work.local, rng)
        )
    else:
        update = (
            _by_opacus(work, windows, rng) if private else _by_autograd(work, model, windows, rng)
        )
    return release(clip_l2(update, 1e9).astype(np.float32), work.plan, rng)


@cache
def _opened(clients: SimulatedClients) -> OpenClients:
    return clients.open()


def _by_autograd(
    work: Work, start: Vector, windows: NDArray[np.int64], rng: np.random.Generator
) -> Vector:
    """Minibatch SGD with torch's own GRU, as anybody would write it."""
    model = _interaction_model(work)
    load_vector(model, start)
    sgd = torch.optim.SGD(model.parameters(), lr=work.local.learning_rate)
    shuffled = torch.from_numpy(windows[rng.permutation(len(windows))])
    for batch in torch.split(shuffled, work.local.batch_windows):
        sgd.zero_grad()
        loss = _summed_loss(model(batch[:, :-1]), batch) / (batch.shape[1] - 1) / len(batch)
        torch.autograd.backward(loss)
        sgd.step()
    return to_vector(model) - start


@cache
def _interaction_model(work: Work) -> InteractionModel:
    return InteractionModel(work.plan.model)


def _summed_loss(logits: Tensor, batch: Tensor) -> Tensor:
    return nn.functional.cross_entropy(
        logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum", ignore_index=START
    )


def _by_opacus(work: Work, windows: NDArray[np.int64], rng: np.random.Generator) -> Vector:
    """Poisson-sampled DP-SGD with Opacus's hooks and its optimiser.

    Opacus's DPGRU has other names and orders for the same number of weights; it starts at its own.
    """
    from opacus.optimizers import DPOptimizer

    record = work.plan.record
    model = _opacus_model(work)
    before = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    sgd = DPOptimizer(
        torch.optim.SGD(model.parameters(), lr=float(record.learning_rate)),
        noise_multiplier=float(record.noise_multiplier),
        max_grad_norm=float(record.clip_norm),
        expected_batch_size=int(record.expected_batch_windows),
    )
    rows = torch.from_numpy(windows)
    for _ in range(record.steps):
        batch = rows[torch.from_numpy(rng.random(len(rows)) < float(record.sample_rate))]
        if not len(batch):
            continue
        sgd.zero_grad()
        torch.autograd.backward(_summed_loss(model(batch[:, :-1]), batch) / (batch.shape[1] - 1))
        sgd.step()
    after = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    update = np.zeros(work.plan.model.trainable_parameters, dtype=np.float32)
    moved = (after - before).numpy()[: len(update)]
    update[: len(moved)] = moved
    torch.nn.utils.vector_to_parameters(before, model.parameters())
    return update


@cache
def _opacus_model(work: Work) -> nn.Module:
    from opacus.grad_sample import GradSampleModule
    from opacus.layers import DPGRU

    config = work.plan.model
    warnings.filterwarnings("ignore", message="Full backward hook is firing")

    class OpacusModel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(config.vocabulary_size, config.embedding)
            self.gru = DPGRU(config.embedding, config.hidden, batch_first=True)
            self.output = nn.Linear(config.hidden, config.vocabulary_size)

        def forward(self, tokens: Tensor) -> Tensor:
            logits: Tensor = self.output(self.gru(self.embedding(tokens))[0])
            return logits

    torch.manual_seed(work.seed)
    wrapped: nn.Module = GradSampleModule(OpacusModel(), batch_first=True, loss_reduction="sum")
    return wrapped
