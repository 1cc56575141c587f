"""Campaigns on the server's disk: filed once when proposed, never changed, then run to their end.

campaigns/HASH/plan.json initial.npy      written here, all or nothing
campaigns/HASH/grant.json                 renewed while the campaign may run (grants.py)
campaigns/HASH/checkpoint.npz receipts.jsonl   written by the ServerApp (rounds/)
"""

import io
import re
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacitly_common.campaign import CampaignPlan, read_plan
from tacitly_common.contract.log import Contract
from tacitly_common.errors import ValidationError
from tacitly_common.vocabulary import Vocabulary
from tacitly_server.bundle import app_hash
from tacitly_server.campaigns.standing import Progress, Standing, standing
from tacitly_server.home import CampaignDirectory, ServerHome
from tacitly_server.private_files import sync_directory, write_private
from tacitly_server.rounds.receipts import Outcome, model_sha256, read_receipts

_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class CampaignState:
    """A campaign that was filed, and how it stands."""

    plan: CampaignPlan
    progress: Progress
    standing: Standing


def create_campaign(
    home: ServerHome, plan: CampaignPlan, initial_vector: NDArray[np.float32]
) -> CampaignDirectory:
    """File a campaign; the same one again changes nothing.

    Raises:
        ValidationError: the vector, the application or the vocabulary's version is not what the
            plan names.
    """
    Vocabulary(plan.tokens)
    if plan.app_hash != app_hash():
        raise ValidationError(
            f"the plan is for the application {plan.app_hash[:12]}..., this server's is "
            f"{app_hash()}; make a plan with that app_hash, or install the plan's Tacitly"
        )
    check_model(plan, initial_vector)
    directory = home.campaign(plan.hash)
    if directory.root.exists():
        return directory
    partial = Path(tempfile.mkdtemp(prefix=".new-", dir=home.campaigns))
    try:
        unfinished = CampaignDirectory(partial)
        write_private(unfinished.plan, plan.to_json())
        content = io.BytesIO()
        np.save(content, initial_vector)
        write_private(unfinished.initial_model, content.getvalue())
        partial.rename(directory.root)
        sync_directory(home.campaigns)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise ValidationError(
            f"{directory.root}: {error.strerror}; free disk space and try again"
        ) from error
    return directory


def check_model(plan: CampaignPlan, initial_vector: NDArray[np.float32]) -> None:
    """Return if this is the model that the plan's first round starts from.

    Raises:
        ValidationError: it is another.
    """
    if initial_vector.dtype != np.float32 or initial_vector.shape != (plan.model.parameters,):
        raise ValidationError(
            f"the initial model must be float32[{plan.model.parameters}], got "
            f"{initial_vector.dtype}{list(initial_vector.shape)}"
        )
    if model_sha256(initial_vector) != plan.initial_model_hash:
        raise ValidationError(
            f"the initial model has the SHA-256 {model_sha256(initial_vector)}, the plan names "
            f"{plan.initial_model_hash}; give the model the plan was made with"
        )


def read_vector(path: Path) -> NDArray[np.float32]:
    """A model from a file in numpy's .npy format, whatever its type and shape.

    Raises:
        ValidationError: it is none.
    """
    try:
        vector: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValidationError(f"{path} is not an .npy file; give the model of the plan") from error
    return vector


def progress_of(directory: CampaignDirectory) -> Progress:
    """How far a campaign is.

    Raises:
        ReceiptError: its receipts are damaged.
    """
    released, lost = 0, 0
    for receipt in read_receipts(directory.receipts):
        if receipt.outcome is Outcome.RELEASED:
            released, lost = receipt.round, 0
        else:
            lost += 1
    return Progress(released, lost)


def campaign_state(
    directory: CampaignDirectory, contract: Contract, *, now: datetime
) -> CampaignState:
    """A campaign's plan, how far it is and how it stands.

    Raises:
        PlanError, ReceiptError: its files are damaged.
    """
    plan, progress = read_plan(directory.plan), progress_of(directory)
    return CampaignState(plan, progress, standing(contract, plan.hash, progress, now=now))


def list_campaigns(
    home: ServerHome, contract: Contract, *, now: datetime
) -> dict[str, CampaignState]:
    """Every campaign by its plan's hash.

    Raises:
        PlanError, ReceiptError: the files of one are damaged; the message names them.
    """
    if not home.campaigns.is_dir():
        return {}
    names = sorted(path.name for path in home.campaigns.iterdir() if _HASH.fullmatch(path.name))
    return {name: campaign_state(home.campaign(name), contract, now=now) for name in names}


def check_filed(home: ServerHome, wanted: str) -> None:
    """Return if there is such a campaign.

    Raises:
        ValidationError: there is none.
    """
    if not (_HASH.fullmatch(wanted) and home.campaign(wanted).root.is_dir()):
        raise ValidationError(
            f"no campaign {wanted:.80} in {home.campaigns}; "
            "have it proposed with `tacitly-officer campaign propose`"
        )


def active_campaign(
    home: ServerHome,
    contract: Contract,
    wanted: str | None,
    *,
    now: datetime,
    passed_over: Collection[str] = (),
) -> str | None:
    """The campaign to run: `wanted` if given, else the only running one, else None.

    Raises:
        ValidationError: `wanted` is not filed here, or several are running.
    """
    if wanted is not None:
        check_filed(home, wanted)
        return wanted
    running = [
        name
        for name, state in list_campaigns(home, contract, now=now).items()
        if state.standing is Standing.RUNNING and name not in passed_over
    ]
    if len(running) > 1:
        raise ValidationError(
            "several campaigns are started and unfinished; choose one with "
            "`tacitly-server up --campaign`: " + ", ".join(running)
        )
    return running[0] if running else None
