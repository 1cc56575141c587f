"""`tacitly-sim attack NAME`: each attack's options, and one way to print what it found."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from tacitly_simulations.attacks.report import Report

_LEVELS: Final = ("person", "masked", "fl", "record")
_POSITIVE: Final = click.FloatRange(min=0, min_open=True)
_FAULTS: Final = {
    "none": "correct code",
    "half-noise": "noise halved",
    "unclipped-layer": "clip skipped for one layer",
    "reused-noise": "noise reused across rounds",
}


@click.group()
def attack() -> None:
    """Attack what is deployed, and say what it cost: ε as claimed beside ε as measured.

    Every attack runs the code of devices and server on made-up or recorded persons on this machine.
    """


def _common(command: Callable[..., None]) -> Callable[..., None]:
    """The options that every attack has."""
    options = (
        click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=1, show_default=True),
        click.option(
            "--format",
            "form",
            type=click.Choice(["table", "json"]),
            default="table",
            show_default=True,
        ),
        click.option(
            "--out", type=click.Path(path_type=Path, dir_okay=False), help="Also write JSON here."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _on_data(command: Callable[..., None]) -> Callable[..., None]:
    """The options of attacks on what people typed."""
    command = click.option(
        "--data-dir", type=click.Path(path_type=Path), help="The data set's folder."
    )(command)
    return click.option("--data", help="A data set [default: synthetic persons].")(command)


@attack.command()
@click.option(
    "--level",
    "levels",
    type=click.Choice(_LEVELS),
    multiple=True,
    default=("person", "record"),
    show_default=True,
    help="Persons' updates (plain or in masked sums), canaries among people who train (fl), or "
    "windows inside a device (record); may be given again.",
)
@click.option(
    "--fault",
    "faults",
    type=click.Choice(list(_FAULTS)),
    multiple=True,
    default=("none",),
    show_default=True,
    help="Plant this fault round the code, which the audit should find; may be given again.",
)
@click.option(
    "--epsilon", type=click.FloatRange(min=0, min_open=True), default=4.0, show_default=True
)
@click.option("--participations", type=click.IntRange(1, 1_000), default=2, show_default=True)
@click.option("--canaries", type=click.IntRange(min=400), default=4_000, show_default=True)
@click.option("--confidence", type=click.FloatRange(0.5, 0.9999), default=0.95, show_default=True)
@click.option("--repetitions", type=click.IntRange(min=1), default=1, show_default=True)
@_common
def audit(
    levels: tuple[str, ...],
    faults: tuple[str, ...],
    repetitions: int,
    seed: int,
    form: str,
    out: Path | None,
    **options: Any,
) -> None:
    """Bound ε from below by canaries, in or out by a coin."""
    from tacitly_simulations.attacks.audit import AuditSettings, Level, run_audit
    from tacitly_simulations.attacks.faults import Fault

    report = run_audit(
        AuditSettings(**options),
        [Level(level) for level in levels],
        [Fault(_FAULTS[fault]) for fault in faults],
        repetitions=repetitions,
        seed=seed,
        progress=_progress,
    )
    _show(report, form, out)


@attack.command()
@_on_data
@click.option("--epsilon", type=_POSITIVE, default=4.0, show_default=True)
@click.option(
    "--frequency",
    "frequencies",
    type=click.IntRange(1, 1_000),
    multiple=True,
    default=(1, 2, 4, 8, 16, 32, 64),
    show_default=True,
    help="How often a person types their secret; may be given again.",
)
@click.option(
    "--persons",
    type=click.IntRange(1, 1_000),
    default=8,
    show_default=True,
    help="Of each frequency; half of them, by a coin, take part.",
)
@click.option("--events", type=click.IntRange(min=100), default=2_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 1_000), default=100, show_default=True)
@click.option("--private-rounds", type=click.IntRange(1, 1_000), default=10, show_default=True)
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Also draw SVG here.")
@_common
def exposure(
    data: str | None,
    data_dir: Path | None,
    plot: Path | None,
    seed: int,
    form: str,
    out: Path | None,
    **options: Any,
) -> None:
    """Ask the model for secrets that persons typed."""
    source = _source(data, data_dir)
    from tacitly_simulations.attacks.exposure import ExposureSettings, run_exposure

    settings = ExposureSettings(**options)
    _show(
        run_exposure(settings, source=source, seed=seed, progress=_progress, plot=plot), form, out
    )


@attack.command()
@_on_data
@click.option(
    "--share",
    "shares",
    type=click.FloatRange(0, 0.9),
    multiple=True,
    default=(0.05, 0.2),
    show_default=True,
    help="Of the cohort, hostile; may be given again.",
)
@click.option("--persons", type=click.IntRange(4, 10_000), default=20, show_default=True)
@click.option("--events", type=click.IntRange(min=100), default=1_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 1_000), default=8, show_default=True)
@_common
def poisoning(
    data: str | None, data_dir: Path | None, seed: int, form: str, out: Path | None, **options: Any
) -> None:
    """Let hostile devices push the model back."""
    source = _source(data, data_dir)
    from tacitly_simulations.attacks.poisoning import PoisoningSettings, run_poisoning

    settings = PoisoningSettings(**options)
    _show(run_poisoning(settings, source=source, seed=seed, progress=_progress), form, out)


@attack.command()
@_on_data
@click.option("--epsilon", type=_POSITIVE, default=4.0, show_default=True)
@click.option("--persons", type=click.IntRange(2, 10_000), default=40, show_default=True)
@click.option(
    "--windows",
    type=click.IntRange(1, 1_000),
    default=1,
    show_default=True,
    help="How much a person's update is of, in windows of 32 tokens.",
)
@_common
def inversion(
    data: str | None, data_dir: Path | None, seed: int, form: str, out: Path | None, **options: Any
) -> None:
    """Read typed keys from one device's update."""
    source = _source(data, data_dir)
    from tacitly_simulations.attacks.inversion import InversionSettings, run_inversion

    settings = InversionSettings(**options)
    _show(run_inversion(settings, source=source, seed=seed, progress=_progress), form, out)


@attack.command()
@_on_data
@click.option("--epsilon", type=_POSITIVE, default=4.0, show_default=True)
@click.option("--persons", type=click.IntRange(4, 1_000), default=12, show_default=True)
@click.option("--events", type=click.IntRange(min=100), default=1_000, show_default=True)
@click.option("--models", type=click.IntRange(8, 10_000), default=24, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 1_000), default=8, show_default=True)
@_common
def membership(
    data: str | None, data_dir: Path | None, seed: int, form: str, out: Path | None, **options: Any
) -> None:
    """Tell by shadow models who took part (LiRA)."""
    source = _source(data, data_dir)
    from tacitly_simulations.attacks.membership import MembershipSettings, run_membership

    settings = MembershipSettings(**options)
    _show(run_membership(settings, source=source, seed=seed, progress=_progress), form, out)


def _source(data: str | None, data_dir: Path | None) -> tuple[str, Path] | None:
    """The data set that was named, None for synthetic persons."""
    if data is None and data_dir is None:
        return None
    if data is None or data_dir is None:
        raise click.UsageError("--data and --data-dir go together; give both or neither")
    return data, data_dir


def _progress(line: str) -> None:
    click.echo(line, err=True)


def _show(report: "Report", form: str, out: Path | None) -> None:
    if out is not None:
        out.write_text(report.to_json() + "\n", encoding="utf-8")
    if form == "json":
        click.echo(report.to_json())
        return
    from rich.console import Console
    from rich.table import Table

    claims = report.delta is not None
    caption = f"seed {report.seed}, {report.seconds:g} s"
    if claims:
        caption += f"; δ = {report.delta:g}, measured at {report.confidence:.0%} confidence"
    table = Table(title=report.title, caption=caption)
    table.add_column("case", no_wrap=True)
    names = list(dict.fromkeys(name for row in report.rows for name in row.figures))
    for name in (["claimed ε", "measured ε >"] if claims else []) + names:
        table.add_column(name, justify="right")
    for row in report.rows:
        cells = [_number(row.claimed_epsilon), _number(row.measured_epsilon)] if claims else []
        table.add_row(row.case, *cells, *(_number(row.figures.get(name)) for name in names))
    Console().print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}" if value < 1_000 else f"{value:,.0f}"
