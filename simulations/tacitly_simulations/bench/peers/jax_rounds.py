"""JAX: clients under vmap, compiled, in one process. `jax_rounds.py COHORT ROUNDS`.

Blocks of clients are scanned, so that activations of a block are in memory together; the compiler
has the whole round in one program.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from work import (
    BATCH,
    CLIP_NORM,
    EMBEDDING,
    HIDDEN,
    LEARNING_RATE,
    NOISE_MULTIPLIER,
    VOCABULARY,
    WINDOWS,
    Clock,
    all_windows,
)

Parameters = dict[str, jax.Array]
_CLIENTS_OF_A_BLOCK = 8


def _start() -> Parameters:
    rng = np.random.default_rng(1)
    shapes = {
        "embedding": (VOCABULARY, EMBEDDING),
        "input": (EMBEDDING, 3 * HIDDEN),
        "recurrent": (HIDDEN, 3 * HIDDEN),
        "input_bias": (3 * HIDDEN,),
        "recurrent_bias": (3 * HIDDEN,),
        "output": (HIDDEN, VOCABULARY),
        "output_bias": (VOCABULARY,),
    }
    return {
        name: jnp.asarray(rng.normal(0, 0.09, shape), jnp.float32) for name, shape in shapes.items()
    }


def _loss(parameters: Parameters, batch: jax.Array) -> jax.Array:
    """Mean over windows and tokens; batch is int[windows, tokens + 1]."""
    inputs = parameters["embedding"][batch[:, :-1]] @ parameters["input"]
    inputs = (inputs + parameters["input_bias"]).transpose(1, 0, 2)

    def step(hidden: jax.Array, of_input: jax.Array) -> tuple[jax.Array, jax.Array]:
        of_hidden = hidden @ parameters["recurrent"] + parameters["recurrent_bias"]
        gates = jax.nn.sigmoid(of_input[:, : 2 * HIDDEN] + of_hidden[:, : 2 * HIDDEN])
        reset, update = gates[:, :HIDDEN], gates[:, HIDDEN:]
        new = jnp.tanh(of_input[:, 2 * HIDDEN :] + reset * of_hidden[:, 2 * HIDDEN :])
        hidden = (1 - update) * new + update * hidden
        return hidden, hidden

    _, states = jax.lax.scan(step, jnp.zeros((batch.shape[0], HIDDEN)), inputs)
    logits = states @ parameters["output"] + parameters["output_bias"]
    targets = batch[:, 1:].T[..., None]
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), targets, axis=2)
    return -chosen.mean()


def _clipped_update(start: Parameters, windows: jax.Array) -> Parameters:
    parameters = start
    for first in range(0, WINDOWS, BATCH):
        gradient = jax.grad(_loss)(parameters, windows[first : first + BATCH])
        parameters = jax.tree.map(lambda p, g: p - LEARNING_RATE * g, parameters, gradient)
    update = jax.tree.map(jnp.subtract, parameters, start)
    norm = jnp.sqrt(sum(jnp.sum(part**2) for part in update.values()))
    factor = jnp.minimum(1.0, CLIP_NORM / norm)
    return jax.tree.map(lambda part: factor * part, update)


@jax.jit
def _round(start: Parameters, blocks: jax.Array, key: jax.Array) -> Parameters:
    def add_block(total: Parameters, windows: jax.Array) -> tuple[Parameters, None]:
        updates = jax.vmap(_clipped_update, (None, 0))(start, windows)
        return jax.tree.map(lambda t, u: t + u.sum(0), total, updates), None

    total, _ = jax.lax.scan(add_block, jax.tree.map(jnp.zeros_like, start), blocks)
    keys = jax.random.split(key, len(total))
    clients = blocks.shape[0] * blocks.shape[1]
    return {
        name: start[name]
        + (total[name] + NOISE_MULTIPLIER * CLIP_NORM * jax.random.normal(own, total[name].shape))
        / clients
        for name, own in zip(total, keys, strict=True)
    }


def main() -> None:
    """Measure."""
    cohort, rounds = int(sys.argv[1]), int(sys.argv[2])
    if cohort % _CLIENTS_OF_A_BLOCK:
        sys.exit(f"the cohort must be a multiple of {_CLIENTS_OF_A_BLOCK}")
    windows = all_windows(cohort).astype(np.int32)
    blocks = jnp.asarray(windows.reshape(-1, _CLIENTS_OF_A_BLOCK, *windows.shape[1:]))
    model, key = _start(), jax.random.key(0)
    clock = Clock("JAX, vmap, one process", cohort)
    for _ in range(rounds):
        key, own = jax.random.split(key)
        model = jax.block_until_ready(_round(model, blocks, own))
        clock.end_round()
    clock.report()


if __name__ == "__main__":
    main()
