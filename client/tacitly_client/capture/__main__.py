"""The capture process: python -m tacitly_client.capture --home DIR"""

from pathlib import Path

import click

from tacitly_common.command import run_command


@click.command()
@click.option("--home", required=True, type=click.Path(path_type=Path, exists=True))
def main(home: Path) -> None:
    """Capture for the agent whose directory is --home, while that is permitted."""
    from tacitly_client.capture.main import run_capture
    from tacitly_client.home import AgentHome

    run_capture(AgentHome(home))


if __name__ == "__main__":
    run_command("tacitly capture", main)
