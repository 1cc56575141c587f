"""What people would get back: the keys that suggestions would have saved on their own newest fifth.

Each person's device does what `tacitly-agent suggest --report` does, with the same code, on these
models:

| model                  | what it learned from                                                    |
|------------------------|-------------------------------------------------------------------------|
| start (public)         | text that Python ships: no person's data is in it; start (random): none |
| in one place           | everybody's older parts, not private: what is in reach                  |
| federated, ε, as if N  | the same in private rounds, if there are any: the noise on the mean is  |
|                        | what N persons would add                                                |
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from tacitly_client.assist.recurrent import RecurrentModel
from tacitly_client.assist.savings import Row, Savings, measure
from tacitly_common.campaign import TokenPlan
from tacitly_common.model_config import ModelConfig
from tacitly_common.vocabulary import Vocabulary
from tacitly_simulations.engines.privacy import Privacy
from tacitly_simulations.population import Client, token_plan
from tacitly_simulations.study import Study
from tacitly_simulations.study_settings import Start, StudySettings

SCHEMA_VERSION: Final = 1


class ModelSavings(msgspec.Struct, frozen=True, kw_only=True):
    """One model's rows, pooled over persons, and the mean of the weights of their heads."""

    model: str
    model_weight: float
    rows: tuple[Row, ...]


class AssistReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `tacitly-sim assist --format json` prints."""

    schema_version: int = SCHEMA_VERSION
    data: str
    persons: int
    held_out_tokens: int
    models: tuple[ModelSavings, ...]

    def to_json(self) -> str:
        """One document."""
        return msgspec.json.format(msgspec.json.encode(self)).decode()


def run_assist(
    data: str,
    people: list[Client],
    *,
    start: Start,
    rounds: int,
    epsilon: float,
    as_if: int,
    most_tokens: int,
    processes: int,
    progress: Callable[[str], None],
) -> AssistReport:
    """Train the models and measure them; of each person at most `most_tokens` of the tail.

    Without `rounds` nothing is federated.
    """
    settings = StudySettings(
        private_rounds=max(rounds, 1),
        private_learning_rate=1.5,
        private_momentum=0.5,
        start=start,
    )
    tokens = token_plan(data)
    with (
        TemporaryDirectory(prefix="tacitly-assist-") as work,
        ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool,
    ):
        study = Study(settings, data, tokens, people, Path(work), processes, progress)
        models = []
        held_out = 0
        for name, vector in _models(study, rounds, epsilon, as_if):
            progress(f"{name}: what it would have saved {len(people)} persons")
            each = _measured(pool, study.model, vector, tokens, people, most_tokens)
            held_out = sum(savings.held_out_tokens for savings in each)
            models.append(_pooled(name, each))
    return AssistReport(
        data=data, persons=len(people), held_out_tokens=held_out, models=tuple(models)
    )


def _models(
    study: Study, rounds: int, epsilon: float, as_if: int
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    yield f"start ({study.settings.start})", study.start_model
    yield "in one place", study.central_model()
    if rounds:
        name = f"federated, ε = {epsilon:g}, as if {as_if} persons"
        calibration = study.calibration(epsilon, as_if)
        yield name, study.federated_model(name, Privacy.SUBJECT, calibration)


def _measured(
    pool: Executor,
    config: ModelConfig,
    vector: NDArray[np.float32],
    tokens: TokenPlan,
    people: list[Client],
    most_tokens: int,
) -> list[Savings]:
    """One person each at a time in each process."""
    work = [(config, vector, tokens, client.tokens, most_tokens) for client in people]
    return list(pool.map(_one, *zip(*work, strict=True)))


def _one(
    config: ModelConfig,
    vector: NDArray[np.float32],
    tokens: TokenPlan,
    stream: NDArray[np.int64],
    most_tokens: int,
) -> Savings:
    model, vocabulary = RecurrentModel(config, vector), Vocabulary(tokens)
    return measure(stream, model, vocabulary, most_tokens=most_tokens)


def _pooled(name: str, each: list[Savings]) -> ModelSavings:
    rows = tuple(
        sum(parts[1:], parts[0]) for parts in zip(*(one.rows for one in each), strict=True)
    )
    weight = float(np.mean([one.model_weight for one in each]))
    return ModelSavings(model=name, model_weight=weight, rows=rows)
