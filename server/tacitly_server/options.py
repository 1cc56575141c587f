"""Options that several of the operator's commands have."""

from pathlib import Path

import click


def _default_home() -> Path:
    from platformdirs import user_data_path

    return user_data_path("tacitly-server")


home = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=_default_home,
    show_default="the user's data directory",
    help="The server's directory.",
)
