"""What `tacitly-sim run STUDY.toml`, `report` and `list` do and print."""

import contextlib
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from tacitly_simulations.datasets import DATASETS
from tacitly_simulations.lab.description import Engine, StudyError, read_study
from tacitly_simulations.lab.results import front, further_shares, means
from tacitly_simulations.lab.run import Results, read_results, run_study
from tacitly_simulations.population import FAMILIES


def run_file(
    path: Path,
    data_dir: Path | None,
    out: Path | None,
    *,
    processes: int,
    ray_address: str | None,
    form: str,
) -> None:
    """Run the study in `path`, or what is left of it, and print its results."""
    study = read_study(path)
    if data_dir is not None:
        data = msgspec.structs.replace(study.data, directory=str(data_dir))
        study = msgspec.structs.replace(study, data=data)
    out = out or Path("out/studies") / study.name

    def progress(line: str) -> None:
        click.echo(line, err=True)

    # Ray tells on standard output that a node was lost.
    with contextlib.redirect_stdout(sys.stderr):
        results = run_study(
            study, out, processes=processes, ray_address=ray_address, progress=progress
        )
    _print(results, form)
    progress(f"{out / 'report.html'}, {out / 'results.parquet'}")


def show(folder: Path, *, form: str) -> None:
    """Print the finished points of a study, and write its report anew.

    Raises:
        StudyError: no study, or no point of it is finished.
    """
    results = read_results(folder)
    if not results.rows:
        raise StudyError(f"{folder}: no point is finished yet; run the study on")
    from tacitly_simulations.lab.report import write_report

    path = write_report(folder, results)
    _print(results, form)
    click.echo(path, err=True)


def export_studies(folders: Sequence[Path], out: Path) -> None:
    """Write the officers' table of these studies to `out`."""
    from tacitly_simulations.lab.export import export

    table = export(folders, made=datetime.now(UTC))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(table.to_json())
    settings = sum(len(series.points) for series in table.series)
    click.echo(
        f"{out}: {settings} settings of {len(table.studies)} studies; predict from it with "
        f"tacitly-officer plan solve --utility {out}"
    )


def list_all(studies: Path, *, form: str) -> None:
    """Data sets, engines, and the studies below `studies`."""
    begun = []
    for file in sorted(studies.glob("*/study.json")):
        results = read_results(file.parent)
        begun.append(
            {
                "study": results.study,
                "folder": str(file.parent),
                "finished": len(results.rows),
                "points": results.points,
            }
        )
    document = {
        "schema_version": 1,
        "data": [
            {"name": name, "families": [str(family) for family in FAMILIES[name]]}
            for name in DATASETS
        ],
        "engines": [str(engine) for engine in Engine],
        "studies": begun,
    }
    if form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(document)).decode())
        return
    for name in DATASETS:
        click.echo(f"data    {name} ({', '.join(FAMILIES[name])})")
    for engine in Engine:
        click.echo(f"engine  {engine}")
    for study in begun:
        click.echo(
            f"study   {study['study']}: {study['finished']} of {study['points']} points, "
            f"{study['folder']}"
        )


def _print(results: Results, form: str) -> None:
    if form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(results)).decode())
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    averaged = means(results.rows)
    table = Table(
        title=f"{results.study}: {len(results.rows)} of {results.points} points",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    axes = list(averaged[0].axes)
    for axis in axes:
        table.add_column(axis.partition(".")[2], no_wrap=True)
    more, best = further_shares(averaged), front(averaged)
    table.add_column("")
    for name in ("top-1", "top-3", "perplexity", *(title for title, _ in more)):
        table.add_column(name, justify="right", no_wrap=name in ("top-1", "top-3", "perplexity"))
    for mean in averaged:
        table.add_row(
            *mean.axes.values(),
            "●" if mean in best else "",
            mean.percent("top1"),
            mean.percent("top3"),
            f"{mean.of('perplexity')[0]:.2f}",
            *(
                f"{100 * mean.of(figure)[0]:.1f} %" if mean.has(figure) else "–"
                for _, figure in more
            ),
        )
    for predictor in results.people.predictors if results.people else ():
        label = [f"counts: {predictor.method}", *[""] * (len(axes) - 1)] if axes else []
        table.add_row(
            *label,
            "",
            f"{100 * predictor.top1:.1f} %",
            f"{100 * predictor.top3:.1f} %",
            f"{predictor.perplexity:.2f}",
        )
    first = results.rows[0]
    table.caption = f"{first.data}: {first.persons} recorded persons"
    if any(row.resampled for row in results.rows):
        table.caption += "; clients beyond them are resampled from them"
    table.caption += "\n● none better in top-1 at this ε or a lower one"
    Console().print(table)
