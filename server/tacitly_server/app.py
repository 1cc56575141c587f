"""The Flower ServerApp: wiring only.

Flower starts it in a process of its own, once for each run, with the campaign's plan hash in
the run's configuration and the server's directory in the environment. Whatever happened to an
earlier process, a new run of the same campaign goes on from the last released round.
"""

import logging
import logging.handlers
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from tacitly_common.campaign import CampaignPlan, read_plan
from tacitly_common.errors import ValidationError
from tacitly_common.validation import sha256_hex
from tacitly_server.campaigns.grants import Grants
from tacitly_server.campaigns.released import Publisher
from tacitly_server.enrolment.authority import authority_certificate
from tacitly_server.home import HOME_VARIABLE, CampaignDirectory, ServerHome
from tacitly_server.ledger.place import database_of, open_ledger
from tacitly_server.ledger.subjects import Subjects
from tacitly_server.rounds.campaign import Campaign, run_campaign

_LOG: Final = logging.getLogger(__name__)
_LOG_BYTES: Final = 16 * 1024 * 1024

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run, or go on with, the campaign that the run's configuration names.

    Raises:
        ValidationError, PlanError: the environment, the configuration or the plan is unusable.
        ContractError: the officers' log was altered.
    """
    home = _home()
    directory, plan = _campaign(home, context)
    with (
        _log_in(home.logs),
        open_ledger(home) as ledger,
        Subjects(database_of(home)) as subjects,
    ):
        ending = run_campaign(
            Campaign(
                grid=grid,
                plan=plan,
                directory=directory,
                ledger=ledger,
                enrolled=subjects.enrolled,
                permits=Grants.open(home, plan),
                on_release=Publisher.open(home, plan),
                authority=None if plan.masking is None else authority_certificate(home),
            )
        )
        _LOG.info("campaign %s is over: %s", plan.name, ending)


def _home() -> ServerHome:
    root = os.environ.get(HOME_VARIABLE)
    if not root:
        raise ValidationError(
            f"{HOME_VARIABLE} is not set; start the run through `tacitly-server up`"
        )
    return ServerHome(Path(root))


def _campaign(home: ServerHome, context: Context) -> tuple[CampaignDirectory, CampaignPlan]:
    """The campaign's directory and its plan, which must be the one that the run names."""
    name = context.run_config.get("campaign")
    if not isinstance(name, str):
        raise ValidationError("the run's configuration names no campaign; give its plan's hash")
    sha256_hex(campaign=name)
    directory = home.campaign(name)
    plan = read_plan(directory.plan)
    if plan.hash != name:
        raise ValidationError(f"{directory.plan} has the hash {plan.hash}; the run names {name}")
    return directory, plan


@contextmanager
def _log_in(directory: Path) -> Iterator[None]:
    """Progress and troubles to a file: Flower puts standard error where no operator looks."""
    directory.mkdir(mode=0o700, exist_ok=True)
    logger = logging.getLogger("tacitly_server")
    handler = logging.handlers.RotatingFileHandler(
        directory / "serverapp.log", maxBytes=_LOG_BYTES, backupCount=1
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
