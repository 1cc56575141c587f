"""Options that several commands share."""

from pathlib import Path

import click


def _default_home() -> Path:
    from platformdirs import user_data_path

    return user_data_path("tacitly")


home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=_default_home,
    show_default="the user's data directory",
    help="The agent's directory.",
)

format_option = click.option(
    "--format",
    "as_json",
    type=click.Choice(["table", "json"]),
    default="table",
    callback=lambda _context, _option, value: value == "json",
    help="For people, or one JSON document.",
)
