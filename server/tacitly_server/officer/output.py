"""What every officer's command shares: its options' types, and how it prints.

With `--format json` exactly one document goes to stdout, with `schema_version`; otherwise tables
that fit 80 columns. The two never mix, and errors go to stderr in both.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import ROUND_UP, Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType
    from rich.padding import Padding

DOCUMENT_SCHEMA_VERSION: Final = 1
Side = Literal["left", "right"]
POSITIVE: Final = click.FloatRange(min=0, min_open=True)
COUNT: Final = click.IntRange(min=1)
FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Tables to read, or one JSON document.",
)


class DecimalType(click.ParamType["Decimal"]):
    """An exact decimal: no binary fraction comes between the officer and the plan."""

    name = "decimal"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """The decimal that was typed."""
        try:
            number = Decimal(value)
        except InvalidOperation:
            self.fail(f"{value!r} is not a decimal number", param, ctx)
        if not number.is_finite():
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


def emit(document: Mapping[str, Any], form: str, show: Callable[["Console"], None]) -> None:
    """Print `document` as JSON, with its schema version first, or let `show` draw it."""
    if form == "json":
        import msgspec

        whole = {"schema_version": DOCUMENT_SCHEMA_VERSION, **document}
        # A decimal here is a setting of few digits: as a number its text is the same.
        encoded = msgspec.json.Encoder(decimal_format="number").encode(whole)
        click.echo(msgspec.json.format(encoded, indent=2).decode())
        return
    from rich.console import Console

    show(Console(highlight=False))


def table(title: str, columns: Mapping[str, Side], rows: Iterable[Iterable[str]]) -> "Group":
    """A titled table; `columns` maps each heading to the side its cells stand at."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading, side in columns.items():
        drawn.add_column(heading, justify=side, overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    return Group(Text(f"\n{title}\n", style="bold"), indented(drawn))


def facts(title: str, rows: Mapping[str, str]) -> "Group":
    """Names and what they are, without headings."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    drawn = Table.grid(padding=(0, 2))
    drawn.add_column(style="dim", no_wrap=True)
    drawn.add_column()
    for name, value in rows.items():
        drawn.add_row(name, value)
    return Group(Text(f"\n{title}\n", style="bold"), indented(drawn))


def indented(part: "RenderableType") -> "Padding":
    """`part` two columns in: what belongs to the bold line above it."""
    from rich.padding import Padding

    return Padding(part, (0, 0, 0, 2))


def epsilon_text(epsilon: float) -> str:
    """ε with two decimals, rounded up: never lower than what is enforced."""
    return f"{Decimal(repr(epsilon)).quantize(Decimal('0.01'), ROUND_UP):,}"


def delta_text(delta: float) -> str:
    """δ without an exponent."""
    return f"{Decimal(repr(delta)):f}"


def plain(value: Any) -> str:
    """A plan's value as it is read: lists with commas, times without fractions."""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else str(value)
