"""The tray process: python -m tacitly_client.tray --home DIR"""

from pathlib import Path

import click

from tacitly_client.options import home_option
from tacitly_common.command import run_command


@click.command()
@home_option
def tray(home: Path) -> None:
    """Show what the agent does, and permit capture while it is seen."""
    from tacitly_client.home import AgentHome
    from tacitly_client.tray.main import run_tray

    run_tray(AgentHome(home))


if __name__ == "__main__":
    run_command("tacitly-tray", tray)
