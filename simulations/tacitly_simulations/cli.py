"""`tacitly-sim`: what an evaluator types.

Exit codes: 0 ok, 1 unexpected, 2 usage or bad input. Heavy imports are inside the commands:
`--help` must answer at once.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from tacitly_common.command import run_command
from tacitly_simulations.attack_cli import attack

if TYPE_CHECKING:
    from tacitly_simulations.assist_study import AssistReport
    from tacitly_simulations.study import Report

_POSITIVE: Final = click.FloatRange(min=0, min_open=True)
_OF_A_STUDY: Final = ("data_dir", "out", "processes", "ray_address", "form")


@click.group()
def cli() -> None:
    """Evaluate learning and privacy on recorded or synthetic people, on this machine."""


cli.add_command(attack)


def main() -> None:
    """Run the command."""
    run_command("tacitly-sim", cli)


@cli.command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of the CoAuthor recordings [default: synthetic typists, made on the spot].",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("out/demo"),
    show_default=True,
    help="Where the deployment lives and the report is written; emptied first.",
)
@click.option("--agents", type=click.IntRange(min=8), default=8, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=8, show_default=True)
@click.option(
    "--capture",
    is_flag=True,
    help="Two agents that capture what a program types on X displays of their own (needs xvfb).",
)
def demo(data_dir: Path | None, out: Path, agents: int, rounds: int, capture: bool) -> None:
    """Run a real deployment on this machine: server, agents, budgets, report."""
    if capture:
        from tacitly_simulations.demo.captured import run_captured_demo

        if data_dir is not None:
            raise click.UsageError("--capture makes its own events; leave out --data-dir")
        run_captured_demo(out, rounds=rounds)
        return
    from tacitly_simulations.demo.demo import run_demo

    run_demo(out, data_dir=data_dir, agents=agents, rounds=rounds)


@cli.command()
@click.argument("study", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--data", help="The data set's name: one standard run, without a study.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="The data set's folder.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of a study's results [default: out/studies/NAME].",
)
@click.option(
    "--persons", type=click.IntRange(min=2), default=40, show_default=True, help="At most so many."
)
@click.option(
    "--least-tokens",
    type=click.IntRange(min=5),
    help="Leave out persons with fewer tokens [default: by data set].",
)
@click.option(
    "--epsilon",
    "epsilons",
    type=_POSITIVE,
    multiple=True,
    default=(2.0, 4.0, 8.0),
    show_default=True,
    help="Subject-level ε of a federated row; may be given again.",
)
@click.option("--rounds", type=click.IntRange(1, 10_000), default=25, show_default=True)
@click.option(
    "--private-rounds",
    type=click.IntRange(1, 10_000),
    default=5,
    show_default=True,
    help="Rounds of an ε row: each round more is more noise in every round.",
)
@click.option("--clip-norm", type=_POSITIVE, default=1.0, show_default=True)
@click.option("--private-learning-rate", type=_POSITIVE, default=1.0, show_default=True)
@click.option("--private-momentum", type=click.FloatRange(0, 0.999), default=0.0, show_default=True)
@click.option(
    "--start",
    type=click.Choice(["random", "public"]),
    default="random",
    show_default=True,
    help="What training begins with: random weights, or a model of text that Python ships.",
)
@click.option("--train", multiple=True, help="Train this tensor and no other; may be given again.")
@click.option(
    "--adapter-rank",
    type=click.IntRange(min=1),
    help="Of the low-rank adapters that --train then may name: gru.down, output.up and so on.",
)
@click.option(
    "--simulated-cohort",
    "as_if",
    type=click.IntRange(2, 1_000_000),
    multiple=True,
    help="What if so many took part: less noise, the same updates; may be given again.",
)
@click.option("--record-level", is_flag=True, help="DP-SGD inside the devices too.")
@click.option("--masked", is_flag=True, help="Private rows: integer noise, sums modulo a field.")
@click.option("--baselines/--no-baselines", default=True, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=1, show_default=True)
@click.option("--processes", type=click.IntRange(min=1), help="[default: one for each core]")
@click.option(
    "--ray-address",
    envvar="RAY_ADDRESS",
    show_envvar=True,
    metavar="HOST:PORT",
    help="Train a study's clients on this Ray cluster, on all its CPUs.",
)
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def run(
    study: Path | None,
    data: str | None,
    data_dir: Path | None,
    out: Path | None,
    persons: int,
    least_tokens: int | None,
    processes: int | None,
    ray_address: str | None,
    form: str,
    **options: Any,
) -> None:
    """Run STUDY, a TOML file; without one, score every way to predict a data set's people.

    A study that was killed goes on where it was; the other options are for a run without one.
    The newest fifth of each person's events is predicted. Progress goes to stderr.
    """
    if study is not None:
        _refuse_others(study)
        if ray_address and processes:
            raise click.UsageError(
                "--processes is for this machine; a cluster uses as many as its nodes have CPUs"
            )
        from tacitly_simulations.lab.commands import run_file

        run_file(
            study,
            data_dir,
            out,
            processes=processes or os.cpu_count() or 1,
            ray_address=ray_address or None,
            form=form,
        )
        return
    if data is None or data_dir is None:
        raise click.UsageError("give a study, or --data and --data-dir")
    if out is not None:
        raise click.UsageError("--out is a study's; without one the result goes to stdout")
    source = click.get_current_context().get_parameter_source("ray_address")
    if source is ParameterSource.COMMANDLINE:
        raise click.UsageError("--ray-address is a study's; write one")
    from tacitly_simulations.datasets import load
    from tacitly_simulations.population import LEAST_TOKENS, clients, tokenizer

    def progress(line: str) -> None:
        click.echo(line, err=True)

    recorded = load(data, data_dir)
    least = least_tokens or LEAST_TOKENS[data]
    people = clients(recorded, tokenizer(data), at_least_tokens=least, most=persons)
    progress(f"{data}: {len(people)} persons")
    # Slow to import, and of no use to data that cannot be read.
    from tacitly_simulations.study import run_study

    report = run_study(
        data, people, options, processes=processes or os.cpu_count() or 1, progress=progress
    )
    if form == "json":
        click.echo(report.to_json())
    else:
        _print_table(report)


@cli.command()
@click.option("--data", required=True, help="The data set's name.")
@click.option(
    "--data-dir", required=True, type=click.Path(path_type=Path), help="The data set's folder."
)
@click.option("--persons", type=click.IntRange(min=2), default=40, show_default=True)
@click.option(
    "--start", type=click.Choice(["random", "public"]), default="public", show_default=True
)
@click.option(
    "--rounds",
    type=click.IntRange(0, 10_000),
    default=0,
    show_default=True,
    help="Also a model of so many private rounds.",
)
@click.option("--epsilon", type=_POSITIVE, default=4.0, show_default=True)
@click.option(
    "--simulated-cohort",
    "as_if",
    type=click.IntRange(2, 1_000_000),
    default=1_000,
    show_default=True,
    help="What if so many took part: less noise, the same updates.",
)
@click.option(
    "--tail-tokens",
    "most_tokens",
    type=click.IntRange(min=1),
    default=2_000,
    show_default=True,
    help="Of each person measure at most so many of the newest fifth.",
)
@click.option("--processes", type=click.IntRange(min=1), help="[default: one for each core]")
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def assist(
    data: str,
    data_dir: Path,
    persons: int,
    start: str,
    processes: int | None,
    form: str,
    **options: Any,
) -> None:
    """Say what suggestions would have saved people, with models of little and much privacy."""
    from tacitly_simulations.datasets import load
    from tacitly_simulations.population import LEAST_TOKENS, clients, tokenizer

    def progress(line: str) -> None:
        click.echo(line, err=True)

    people = clients(
        load(data, data_dir), tokenizer(data), at_least_tokens=LEAST_TOKENS[data], most=persons
    )
    from tacitly_simulations.assist_study import run_assist
    from tacitly_simulations.study_settings import Start

    report = run_assist(
        data,
        people,
        start=Start(start),
        processes=processes or os.cpu_count() or 1,
        progress=progress,
        **options,
    )
    if form == "json":
        click.echo(report.to_json())
    else:
        _print_savings(report)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def report(folder: Path, form: str) -> None:
    """Show a study's results, finished or not, and write its report.html anew."""
    from tacitly_simulations.lab.commands import show

    show(folder, form=form)


@cli.command()
@click.argument(
    "folders", nargs=-1, required=True, type=click.Path(path_type=Path, file_okay=False)
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("utility.json"),
    show_default=True,
    help="The table; replaced if it is there.",
)
def export(folders: tuple[Path, ...], out: Path) -> None:
    """Export finished studies as the table that `tacitly-officer plan solve --utility` reads."""
    from tacitly_simulations.lab.commands import export_studies

    export_studies(folders, out)


@cli.command(name="list")
@click.option(
    "--studies",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("out/studies"),
    show_default=True,
    help="Folder of the studies' folders.",
)
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True
)
def list_(studies: Path, form: str) -> None:
    """Name the data sets and engines there are, and the studies begun or finished here."""
    from tacitly_simulations.lab.commands import list_all

    list_all(studies, form=form)


@cli.command()
@click.argument("report", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False))
def plot(report: Path, out: Path) -> None:
    """Draw accuracy against cohort, as SVG, from what `run --format json` printed."""
    from tacitly_simulations.plot import plot_cohorts

    plot_cohorts(report, out)


@cli.command(name="plot-budget")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Directory of the pictures.",
)
def plot_budget_(out: Path) -> None:
    """Draw what ε, renewals and participations mean: the pictures of docs/officers.md, as SVG."""
    from tacitly_simulations.plot_budget import plot_budget

    for path in plot_budget(out):
        click.echo(path)


def _refuse_others(study: Path) -> None:
    """An option beside a study would be left unread; what it says belongs into the study."""
    context = click.get_current_context()
    for name in context.params:
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in ("study", *_OF_A_STUDY):
            raise click.UsageError(f"{name} is for a run without a study; write it into {study}")


def _print_savings(report: "AssistReport") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{report.data}: {report.persons} persons, {report.held_out_tokens:,} held-out tokens"
    )
    table.add_column("model")
    table.add_column("suggests")
    for name in ("keys saved", "words offered", "next key in 3", "next action in 3"):
        table.add_column(name, justify="right")
    for each in report.models:
        for row in each.rows:
            shares = (
                (row.keys_saved, row.keys),
                (row.words_offered, row.words),
                (row.key_hits, row.keys),
                (row.action_hits, row.actions),
            )
            cells = (f"{part / whole:.1%}" if whole else "-" for part, whole in shares)
            table.add_row(each.model, row.method, *cells)
    Console().print(table)


def _print_table(report: "Report") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=report.title)
    table.add_column("method")
    for name in ("ε", "bits", "top-1", "top-3", "perplexity"):
        table.add_column(name, justify="right")
    for row in report.rows:
        epsilon = "" if row.epsilon is None else f"{row.epsilon:g}"
        bits = "" if row.bits is None else str(row.bits)
        table.add_row(
            row.method, epsilon, bits, f"{row.top1:.1%}", f"{row.top3:.1%}", f"{row.perplexity:.2f}"
        )
    Console().print(table)
