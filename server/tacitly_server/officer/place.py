"""Where the commands that read a server's state find it."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tacitly_server.officer.output import FILE

if TYPE_CHECKING:
    from tacitly_common.campaign import CampaignPlan
    from tacitly_common.contract.policy import Policy


def _default_home() -> Path:
    from platformdirs import user_data_path

    return user_data_path("tacitly-server")


home_option: Final = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=lambda: _default_home(),
    help="Directory of the server's state.",
)
policy_option: Final = click.option(
    "--policy", "policy_file", type=FILE, help="The organisation's policy, JSON."
)


def optional_policy(path: Path | None) -> "Policy | None":
    """`read_policy`, or None if no file is named."""
    return None if path is None else read_policy(path)


def read_policy(path: Path) -> "Policy":
    """A policy from its JSON.

    Raises:
        ValidationError: it cannot be read, or is no policy.
    """
    from tacitly_common.contract.policy import parse_policy
    from tacitly_common.errors import ValidationError

    try:
        document = path.read_bytes()
    except OSError as error:
        raise ValidationError(f"{path}: {error.strerror}; name a policy's file") from error
    return parse_policy(document, source=path)


def filed_plans(home: Path) -> "list[CampaignPlan]":
    """The plans of the campaigns filed on a server, by hash.

    Raises:
        PlanError: one is damaged; the message names it.
    """
    from tacitly_common.campaign import read_plan
    from tacitly_server.home import ServerHome

    return [read_plan(path) for path in sorted(ServerHome(home).campaigns.glob("*/plan.json"))]
