"""Released models on this device: `models/HASH.model` below the agent's home, one file a campaign.

    a line       the server's signed receipt, canonical JSON
    the rest     the model, little-endian float32

A file is believed as little as the server: signature, hash, shape and plan are checked against the
officers' log whenever a model is read. No model holds anything of this person that noise has not
covered; what a person's own events add to it is never written (assist/head.py).
"""

from dataclasses import dataclass
from pathlib import Path

from tacitly_client.campaigns import joined_plan
from tacitly_client.contract_store import ContractStore
from tacitly_client.files import only_writer, write_whole
from tacitly_client.home import AgentHome
from tacitly_common.campaign import CampaignPlan
from tacitly_common.contract.judge import plan_of
from tacitly_common.contract.log import Contract
from tacitly_common.contract.model_receipt import (
    MOST_RECEIPT_BYTES,
    ModelReceipt,
    ModelRefusedError,
    VerifiedModel,
    check_model,
    check_newer,
    check_receipt,
)
from tacitly_common.errors import TacitlyError

_SUFFIX = ".model"


class NoModelError(TacitlyError):
    """There is no released model to use yet."""


@dataclass(frozen=True, slots=True)
class Models:
    """The models of one agent's home, judged by the officers' log as this device holds it."""

    home: AgentHome
    contract: Contract

    @classmethod
    def open(cls, home: AgentHome) -> "Models":
        """Those of `home`.

        Raises:
            ContractError: the log is missing or was altered.
            ValidationError: no agent is enrolled here.
        """
        return cls(home, ContractStore(home).load())

    def known_plan(self, plan_hash: str) -> CampaignPlan:
        """The plan of a campaign that officers have approved and started; it may be over.

        Raises:
            ModelRefusedError: there is none in the log, or it cannot be read.
        """
        plan = plan_of(self.contract, plan_hash)
        if not isinstance(plan, CampaignPlan):
            raise ModelRefusedError(
                f"{plan.name}: this machine knows no usable campaign {plan_hash[:16]}; "
                "`tacitly-agent campaigns` asks for the newest"
            )
        campaign = self.contract.campaigns[plan_hash]
        if not campaign.started or not self.contract.approved(plan_hash):
            raise ModelRefusedError(
                f"campaign {plan_hash[:16]} was not approved by two officers and started; "
                "no model of it is taken"
            )
        return plan

    def keep(self, plan: CampaignPlan, document: bytes, content: bytes) -> VerifiedModel:
        """Take over a model with its receipt, all checked; durable on return.

        Raises:
            ModelRefusedError: forged, of another plan, damaged, or older than what is here.
            OSError: it could not be written; the model before is still here.
        """
        receipt = check_receipt(document, plan, grant_key=self.contract.grant_key)
        model = check_model(receipt, content, plan)
        self.home.models.mkdir(mode=0o700, exist_ok=True)
        path = self._path(plan)
        # The agent and a command may fetch at once: the older of two must not come last.
        with only_writer(path):
            check_newer(receipt, self.held(plan))
            write_whole(path, document + b"\n" + content)
        return model

    def held(self, plan: CampaignPlan) -> ModelReceipt | None:
        """The receipt of the model that is here; None without a usable one."""
        try:
            return self.load(plan).receipt
        except (NoModelError, ModelRefusedError):
            return None

    def load(self, plan: CampaignPlan) -> VerifiedModel:
        """The model of a campaign, every check made anew.

        Raises:
            NoModelError: none was fetched yet.
            ModelRefusedError: the file was altered, or its receipt is not good any more.
        """
        try:
            stored = self._path(plan).read_bytes()
        except FileNotFoundError:
            raise NoModelError(
                f"no model of campaign {plan.name} ({plan.hash[:16]}) is on this machine yet; "
                "`tacitly-agent model fetch` asks for it"
            ) from None
        document, _, content = stored.partition(b"\n")
        receipt = check_receipt(
            document[: MOST_RECEIPT_BYTES + 1], plan, grant_key=self.contract.grant_key
        )
        return check_model(receipt, content, plan)

    def newest(self) -> VerifiedModel:
        """The model to suggest with: the joined campaign's, else the one released last.

        Raises:
            NoModelError: none was fetched yet.
            ModelRefusedError: what is here cannot be used; why the first cannot.
        """
        joined = joined_plan(self.home)
        if joined is not None and self.held(joined) is not None:
            return self.load(joined)
        refused: list[ModelRefusedError] = []
        usable: list[VerifiedModel] = []
        for path in sorted(self.home.models.glob(f"*{_SUFFIX}")):
            try:
                usable.append(self.load(self.known_plan(path.stem)))
            except ModelRefusedError as error:
                refused.append(error)
        if usable:
            return max(usable, key=lambda model: model.receipt.released_at)
        if refused:
            raise refused[0]
        raise NoModelError(
            "no campaign's model is on this machine yet; `tacitly-agent model fetch` asks for it"
        )

    def _path(self, plan: CampaignPlan) -> Path:
        return self.home.models / f"{plan.hash}{_SUFFIX}"
