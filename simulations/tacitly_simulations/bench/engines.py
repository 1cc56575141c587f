"""What a simulated client costs: the batched engine, Flower's simulation, a plain loop, in one run.

    python -m tacitly_simulations.bench.engines --out out/engines.json

Every client has 32 windows of 32 tokens and takes two steps of 16, in a model of
Embedding(96, 32) + GRU(32, 128) + Linear(128, 96), all trained; its update is clipped to C and
noised for the person. With the record level the two steps are Poisson-sampled DP-SGD (16 expected
of 32, C = 1, z = 1).

| way            | what trains a client                                  | where              |
|----------------|-------------------------------------------------------|--------------------|
| batched        | `engines/batched.py`                                  | two processes      |
| flower         | torch's autograd; record level: Opacus's hooks        | Flower with Ray    |
| flower, device | the device's own `training/local.py`                  | Flower with Ray    |
| loop           | torch's autograd; record level: Opacus's hooks        | two processes      |
| loop, device   | the device's own `training/local.py`                  | two processes      |

Each way is a process of its own, measured from its start: imports, pool and first round count.
The batched engine runs as many rounds as a short study has; for the others, which take minutes, the
rounds after the first are what to compare.
Other work on the machine stretches the seconds, hardly the processor seconds: both are given.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import click
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tacitly_common.campaign import CampaignPlan

_VOCABULARY: Final = 96
_WINDOW: Final = 32
_WINDOWS: Final = 32
_BATCH: Final = 16
_STEPS: Final = 2
_PROCESSES: Final = 2
WAYS: Final = ("batched", "flower", "flower, device", "loop", "loop, device")


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--cohort", default=200, show_default=True, type=click.IntRange(2))
@click.option("--rounds", default=40, show_default=True, type=click.IntRange(2))
@click.option(
    "--peer-rounds",
    default=3,
    show_default=True,
    type=click.IntRange(2),
    help="Of every way but `batched`.",
)
@click.option("--ways", multiple=True, type=click.Choice(WAYS), help="[default: all]")
@click.option("--memory-clients", multiple=True, default=(1_000, 100_000), type=int)
@click.option("--one", hidden=True, help="Measure this way, here.")
@click.option("--clients", hidden=True, type=int, help="Registered clients of --one.")
@click.option("--record-level", is_flag=True, hidden=True)
@click.option("--processes", hidden=True, default=_PROCESSES, type=int)
def main(
    out: Path | None,
    cohort: int,
    rounds: int,
    peer_rounds: int,
    ways: tuple[str, ...],
    memory_clients: tuple[int, ...],
    one: str | None,
    clients: int | None,
    record_level: bool,
    processes: int,
) -> None:
    """Measure every way in turn, at both levels of privacy, then memory against the population."""
    if one is not None:
        click.echo(
            json.dumps(_measure(one, clients or cohort, cohort, rounds, record_level, processes))
        )
        return
    rows = [
        _in_own_process(way, cohort, cohort, rounds if way == "batched" else peer_rounds, record)
        for record in (False, True)
        for way in ways or WAYS
    ]
    memory = [
        _in_own_process("batched", count, cohort, peer_rounds, False) for count in memory_clients
    ]
    document = {
        "recorded": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        "load_1_5_15_minutes": os.getloadavg(),
        "matrix_products": _limit(),
        "ways": rows,
        "memory": memory,
    }
    text = json.dumps(document, indent=2)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
    click.echo(text)


def _in_own_process(
    way: str, clients: int, cohort: int, rounds: int, record_level: bool
) -> dict[str, Any]:
    """Started from nothing, as a person would start it."""
    command = [sys.executable, "-m", __spec__.name if __spec__ else __name__]
    options = ["--one", way, "--clients", clients, "--cohort", cohort, "--rounds", rounds]
    flags = ["--record-level"] if record_level else []
    ended = subprocess.run(
        [*command, *map(str, options), *flags], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise click.ClickException(f"{way}: {ended.stderr[-2_000:]}")
    measured: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    click.echo(
        f"{way}{', record level' if record_level else ''}, {clients} clients: "
        f"{measured['client_rounds_a_second']:.1f} client-rounds/s, "
        f"{measured['later_client_rounds_a_second']:.1f} after the first round, "
        f"start {measured['start_seconds']:.1f} s, "
        f"{measured['later_cpu_ms_a_client_round']:.1f} ms of processor each, "
        f"{measured['peak_mb']:.0f} MB, load {measured['load']:.1f}",
        err=True,
    )
    return measured


def _measure(
    way: str, clients: int, cohort: int, rounds: int, record_level: bool, processes: int
) -> dict[str, Any]:
    if way == "batched" and processes > 1:
        from tacitly_simulations.engines.pool import load_ahead

        load_ahead()
    import psutil

    from tacitly_simulations.bench.meter import tree_cpu_seconds
    from tacitly_simulations.bench.shared_memory import PeakShare

    me = os.getpid()
    began = psutil.Process().create_time()
    ends: list[tuple[float, float]] = []

    def on_round() -> None:
        # While the workers live: what a process used that nobody has waited for is lost.
        ends.append((time.time() - began, tree_cpu_seconds(me)))

    with TemporaryDirectory(prefix="tacitly-engines-") as folder, PeakShare(me) as peak:
        _run(way, Path(folder), clients, cohort, rounds, record_level, processes, on_round)
    seconds, cpu = ends[-1]
    later = rounds - 1
    later_seconds = seconds - ends[0][0]
    return {
        "way": way,
        "record_level": record_level,
        "clients": clients,
        "cohort": cohort,
        "rounds": rounds,
        "client_rounds_a_second": cohort * rounds / seconds,
        "cpu_ms_a_client_round": 1e3 * cpu / (cohort * rounds),
        "first_round_seconds": ends[0][0],
        "start_seconds": ends[0][0] - later_seconds / later,
        "later_client_rounds_a_second": cohort * later / later_seconds,
        "later_cpu_ms_a_client_round": 1e3 * (cpu - ends[0][1]) / (cohort * later),
        "peak_mb": peak.bytes / 1e6,
        "largest_process_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "load": os.getloadavg()[0],
    }


def _run(
    way: str,
    folder: Path,
    clients: int,
    cohort: int,
    rounds: int,
    record_level: bool,
    processes: int,
    on_round: Callable[[], None],
) -> None:
    from tacitly_client.training.baseline import PlainSettings
    from tacitly_simulations.engines.client_file import SimulatedClients, write_clients
    from tacitly_simulations.engines.privacy import Privacy
    from tacitly_simulations.engines.trainers import Work

    plan, start = _plan(clients, cohort, rounds)
    # As many persons as take part; with more clients than these the rest is resampled.
    rng = np.random.default_rng(0)
    windows = rng.integers(1, _VOCABULARY, (cohort, _WINDOWS, _WINDOW + 1))
    windows[:, :, 0] = 0
    write_clients(folder / "clients.npy", windows)
    simulated = SimulatedClients(folder / "clients.npy", clients, seed=1)
    local = PlainSettings(epochs=1, batch_windows=_BATCH, learning_rate=0.5)
    privacy = Privacy.SUBJECT_AND_RECORD if record_level else Privacy.SUBJECT
    work = Work(plan, privacy, local, seed=1)
    if way == "batched":
        from tacitly_simulations.engines.batched import simulate

        simulate(
            folder / "run",
            work,
            start,
            simulated,
            processes=processes,
            on_round=lambda _receipt: on_round(),
        )
        return
    from tacitly_simulations.bench.engines_peers import flower_rounds, loop_rounds

    run = flower_rounds if way.startswith("flower") else loop_rounds
    run(work, start, simulated, rounds, way.endswith("device"), processes, on_round)


def _plan(clients: int, cohort: int, rounds: int) -> "tuple[CampaignPlan, NDArray[np.float32]]":
    import msgspec

    from tacitly_common.campaign import revise
    from tacitly_common.model_config import ModelConfig, initial_vector
    from tacitly_server.rounds.receipts import model_sha256
    from tacitly_simulations.bench.plan import rounds_plan

    model = ModelConfig(vocabulary_size=_VOCABULARY, embedding=32, hidden=128)
    start = initial_vector(model, 0)
    plan = rounds_plan(
        "engines",
        rounds,
        app_hash="0" * 64,
        initial_model_hash="0" * 64,
        data_epochs=("2026-01",),
    )
    return revise(
        plan,
        model=model,
        initial_model_hash=model_sha256(start),
        delta=Decimal("1e-8"),
        cohort=msgspec.structs.replace(
            plan.cohort, population=clients, target=cohort, minimum=cohort
        ),
        record=msgspec.structs.replace(
            plan.record,
            window_tokens=_WINDOW,
            max_windows=_WINDOWS,
            sample_rate=Decimal("0.5"),
            steps=_STEPS,
        ),
    ), start


def _limit() -> dict[str, float]:
    """What the matrix products alone would take: the limit for any way, on all cores.

    A token costs 2 x (3H·H + V·H + 3H·E) multiplications and additions forward; backward twice
    that. The input's forward share comes from a table, and is left out.
    """
    import torch

    hidden, embedding = 128, 32
    recurrent, output = 2 * 3 * hidden * hidden, 2 * _VOCABULARY * hidden
    token = 3 * (recurrent + output) + 2 * 2 * 3 * hidden * embedding
    client_round = token * _STEPS * _BATCH * _WINDOW
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    c = torch.empty(1024, 1024)
    best = float("inf")
    for _ in range(20):
        began = time.process_time()
        torch.mm(a, b, out=c)
        best = min(best, time.process_time() - began)
    rate = 2 * 1024**3 / best
    return {
        "flop_a_client_round": float(client_round),
        "gflops_a_core": rate / 1e9,
        "limit_ms_a_client_round": 1e3 * client_round / rate,
        "limit_client_rounds_a_second_on_two_cores": _PROCESSES * rate / client_round,
    }


if __name__ == "__main__":
    main()
