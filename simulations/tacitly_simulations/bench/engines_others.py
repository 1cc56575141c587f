"""The batched engine beside other simulators at the same work, in one run.

    python -m tacitly_simulations.bench.engines_others --out out/engines_others.json

JAX and pfl-research are installed into an environment of their own below `out/`, from PyPI; one
that cannot be installed is named and left out. BlazeFL needs Python 3.12 and is tried only there.
Each runs in one process, as does the batched engine here: `bench/engines.py` has it with two.
The work is that of `bench/engines.py` without the record level.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import click

_PEERS: Final = {
    "jax_rounds.py": ["jax==0.10.2"],
    "pfl_rounds.py": ["torch==2.13.0", "pfl==0.6.0"],
}
_SCRIPTS: Final = Path(__file__).with_name("peers")


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--environment", default="out/peers", type=click.Path(path_type=Path))
@click.option("--cohort", default=200, show_default=True, type=click.IntRange(8))
@click.option("--rounds", default=10, show_default=True, type=click.IntRange(2))
def main(out: Path | None, environment: Path, cohort: int, rounds: int) -> None:
    """Measure the batched engine and every peer that can be installed, in turn."""
    ours = [sys.executable, "-m", "tacitly_simulations.bench.engines", "--one", "batched"]
    sizes = ["--cohort", str(cohort), "--clients", str(cohort), "--rounds", str(rounds)]
    rows = [_row([*ours, *sizes, "--processes", "1"])]
    for script, packages in _PEERS.items():
        python = _installed(environment / script.removesuffix("_rounds.py"), packages)
        if python is not None:
            rows.append(_row([str(python), str(_SCRIPTS / script), str(cohort), str(rounds)]))
    text = json.dumps({"load_1_5_15_minutes": os.getloadavg(), "ways": rows}, indent=2)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
    click.echo(text)


def _installed(environment: Path, packages: list[str]) -> Path | None:
    """The Python of a virtual environment that has these packages."""
    python = environment / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        click.echo(f"without {' '.join(packages)}, which cannot be installed: {error}", err=True)
        return None
    return python


def _row(command: list[str]) -> dict[str, Any]:
    # XLA's own threads too; it keeps more than one core busy all the same.
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    }
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise click.ClickException(f"{command[1]}: {ended.stderr[-2_000:]}")
    row: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    click.echo(
        f"{row['way']}: {row['client_rounds_a_second']:.1f} client-rounds/s, later "
        f"{row['later_client_rounds_a_second']:.1f}, later processor "
        f"{row['later_cpu_ms_a_client_round']:.1f} ms each, {row['peak_mb']:.0f} MB",
        err=True,
    )
    return row


if __name__ == "__main__":
    main()
