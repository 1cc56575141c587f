"""What a suggestion costs: python -m tacitly_simulations.bench.suggestions [--out FILE]

One thread, and its processor time: what else the machine does plays no part. Keys of a text are
typed one by one; after each comes one whole call of `Suggester.suggest` (words by beam, keys,
actions). Beside it, in turn on the same tokens: one step of the same model in torch and in numpy,
and what processes that loaded either hold in memory.
The model is of the size of the demonstration's, with random weights: its cost knows no training.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec
import numpy as np
from numpy.typing import NDArray

from tacitly_common.campaign import Family, Level, TokenPlan
from tacitly_common.model_config import ModelConfig
from tacitly_common.vocabulary import VOCABULARY_VERSION, Vocabulary
from tacitly_simulations.bench.report import machine
from tacitly_simulations.datasets.synthetic import public_text_person

if TYPE_CHECKING:
    from tacitly_client.assist.recurrent import RecurrentModel
    from tacitly_client.assist.suggester import Suggester

_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_EMBEDDING, _HIDDEN = 32, 128
_EVENTS: Final = 120_000
_TYPED: Final = 2_000


# What the suggesting process loads and builds before it waits for the next question.
_SUGGESTING: Final = f"""
import numpy as np
from tacitly_client.assist import exchange, history, worker
from tacitly_client.assist.recurrent import RecurrentModel
from tacitly_client.assist.suggester import Suggester
from tacitly_client.models import Models
from tacitly_common.campaign import Family, Level, TokenPlan
from tacitly_common.model_config import ModelConfig
from tacitly_common.vocabulary import Vocabulary
vocabulary = Vocabulary(
    TokenPlan(
        vocabulary_version={VOCABULARY_VERSION}, level=Level.CHARACTERS, families=(Family.KEYS,)
    )
)
config = ModelConfig(vocabulary_size=vocabulary.size, embedding={_EMBEDDING}, hidden={_HIDDEN})
vector = np.zeros(config.parameters, dtype=np.float32)
Suggester(RecurrentModel(config, vector), vocabulary).suggest([])
"""


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of processor time over all calls."""

    median_ms: float
    p99_ms: float
    largest_ms: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. Resident memory is that of whole processes, in MB of 10^6 bytes."""

    suggestion: Times
    suggestion_with_head: Times
    learned_tokens: int
    learn_head_seconds: float
    numpy_step_us: float
    torch_step_us: float
    suggesting_process_mb: float
    torch_process_mb: float
    interpreter_mb: float


def measure() -> Report:
    """Measure everything in this process, memory in processes of its own."""
    from tacitly_client.assist.head import PersonalHead
    from tacitly_client.assist.recurrent import RecurrentModel
    from tacitly_client.assist.suggester import Suggester
    from tacitly_common.model import initial_vector

    vocabulary, config = _vocabulary(), _config()
    model = RecurrentModel(config, initial_vector(config, 0))
    tokens = vocabulary.encode(public_text_person(1, _EVENTS).events)
    learned, typed = tokens[:-_TYPED], tokens[-_TYPED:]
    began = time.thread_time()
    head = PersonalHead.learn(learned, model)
    learn_seconds = time.thread_time() - began
    numpy_step, torch_step = _steps(model, config, typed)
    return Report(
        learned_tokens=len(learned),
        suggestion=_times(Suggester(model, vocabulary), typed),
        suggestion_with_head=_times(Suggester(model, vocabulary, head), typed),
        learn_head_seconds=learn_seconds,
        numpy_step_us=numpy_step,
        torch_step_us=torch_step,
        suggesting_process_mb=_memory_mb(_SUGGESTING),
        torch_process_mb=_memory_mb("import tacitly_common.model"),
        interpreter_mb=_memory_mb(""),
    )


def _times(suggester: "Suggester", typed: NDArray[np.int64]) -> Times:
    """Each token more is one more call, as when a person types."""
    context: list[int] = []
    milliseconds = []
    for token in typed.tolist():
        context.append(token)
        began = time.thread_time()
        suggester.suggest(context, 3)
        milliseconds.append(1e3 * (time.thread_time() - began))
    return Times(
        median_ms=statistics.median(milliseconds),
        p99_ms=float(np.quantile(milliseconds, 0.99)),
        largest_ms=max(milliseconds),
    )


def _steps(
    model: "RecurrentModel", config: ModelConfig, typed: NDArray[np.int64]
) -> tuple[float, float]:
    """Microseconds of a step with its distribution, in numpy and in torch, in turn."""
    import torch

    from tacitly_common.model import InteractionModel, initial_vector, load_vector

    reference = InteractionModel(config)
    load_vector(reference, initial_vector(config, 0))
    states, hidden = model.begin(), None
    ours, theirs = [], []
    with torch.inference_mode():
        for token in typed.tolist():
            began = time.thread_time()
            states = model.advance(states, np.array([token]))
            model.probabilities(states)
            between = time.thread_time()
            logits, hidden = reference.advance(torch.tensor([[token]]), hidden)
            logits.softmax(dim=2)
            ours.append(between - began)
            theirs.append(time.thread_time() - between)
    return 1e6 * statistics.median(ours), 1e6 * statistics.median(theirs)


def _vocabulary() -> Vocabulary:
    return Vocabulary(
        TokenPlan(
            vocabulary_version=VOCABULARY_VERSION, level=Level.CHARACTERS, families=(Family.KEYS,)
        )
    )


def _config() -> ModelConfig:
    return ModelConfig(vocabulary_size=_vocabulary().size, embedding=_EMBEDDING, hidden=_HIDDEN)


def _memory_mb(work: str) -> float:
    """Resident memory of a process after some work."""
    code = f"{work}\nimport psutil; print(psutil.Process().memory_info().rss)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(run.stdout) / 1e6


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Also keep it there.")
def main(out: Path | None) -> None:
    """Measure what a suggestion costs, as JSON."""
    load = os.getloadavg()[0]
    # One core is what a person spares. numpy's library reads this when it is loaded.
    measured = subprocess.run(
        [sys.executable, "-c", f"import {__spec__.name} as bench; bench.print_measured()"],
        env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    report = msgspec.json.decode(measured, type=Report)
    document = {"machine": machine() | {"load_before": load}, "suggestions": report}
    shown = msgspec.json.format(msgspec.json.encode(document), indent=2)
    click.echo(shown)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(shown)


def print_measured() -> None:
    """The report on standard output, for `main`."""
    click.echo(msgspec.json.encode(measure()))


if __name__ == "__main__":
    main()
