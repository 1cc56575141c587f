"""What a study's training begins with: random weights, or a model of text that Python ships."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacitly_client.training.windows import training_windows
from tacitly_common.model_config import ModelConfig, initial_vector, with_adapters
from tacitly_simulations.population import Tokenizer, public_stream
from tacitly_simulations.study_settings import ALL_RECORDS, PRETRAINING, Start


def start_model(
    config: ModelConfig,
    vocabulary: Tokenizer,
    start: Start,
    seed: int,
    *,
    cache: Path | None = None,
) -> NDArray[np.float32]:
    """float32[parameters], a function of the arguments alone. `cache` is a folder to keep it in.

    Before the rounds all tensors train, whichever `config` trains in them; adapters begin there.
    """
    base = config.base
    if start is Start.RANDOM:
        vector = initial_vector(base, seed)
    else:
        path = None if cache is None else cache / f"start-{base.hash()[:16]}-{seed}.npy"
        vector = _public(base, vocabulary, seed, path)
    return with_adapters(config, vector, seed)


def _public(
    base: ModelConfig, vocabulary: Tokenizer, seed: int, path: Path | None
) -> NDArray[np.float32]:
    if path is not None and path.exists():
        kept: NDArray[np.float32] = np.load(path)
        return kept
    from tacitly_client.training.local import train_without_privacy

    windows = training_windows(public_stream(vocabulary), ALL_RECORDS)
    rng = np.random.default_rng((seed, 0))
    vector = initial_vector(base, seed)
    vector = vector + train_without_privacy(base, vector, windows, PRETRAINING, rng)
    if path is not None:
        unfinished = path.with_name(f"new-{path.name}")
        np.save(unfinished, vector)
        unfinished.replace(path)
    return vector
