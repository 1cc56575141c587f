"""The root of every error that Tacitly raises on purpose.

    TacitlyError
      ├─ ValidationError       a value given from outside is unusable      (also: CertificateError)
      ├─ PlanError             a campaign plan is malformed or contradicts itself  (campaign.py)
      ├─ EncodingError         an update cannot be encoded or decoded      (mechanisms/)
      ├─ SignatureError        a signature is not that key's for that content    (contract/)
      ├─ ContractError         the officers' log was altered, or an act is not allowed  (contract/)
      │    ├─ NotAuthorisedError    signed by somebody who may not
      │    ├─ ApprovalNeededError   too few officers have approved
      │    ├─ OutsidePolicyError    a plan is not what the policy lets plans be
      │    └─ ConflictError         another entry came first, or it was done before
      ├─ ModelRefusedError     a released model does not verify            (contract/)
      ├─ NoModelError          no released model is here yet               (client: models.py)
      ├─ InvitationError       a file is no invitation                     (invitation.py)
      ├─ DeskError             the enrolment desk gives no answer          (wire/desk_errors.py)
      │    └─ DeskInputError, DeskBudgetError, DeskApprovalNeededError, DeskVerificationError,
      │         DeskConflictError, DeskNotAuthorisedError
      ├─ WireError             a message is not what the protocol says     (wire/)
      ├─ BudgetExceededError   a charge would overdraw a ledger            (both ledgers)
      ├─ TooSoonError          a charge would pass a participation limit   (client: ledger/)
      ├─ LedgerError           a ledger is damaged or used out of order    (both ledgers)
      ├─ StoreError            the event store cannot be read or written   (client: store/)
      ├─ TrainingError         training left the finite numbers            (client: training/)
      ├─ FleetError, EgressError, TrainerError, PipeError   the device on the wire  (client: node/)
      ├─ SocketError           nobody of this person's listens there       (client: local_socket.py)
      ├─ CheckpointError, ReceiptError   what a campaign left on disk is damaged  (server: rounds/)
      ├─ ControlError          SuperLink cannot be reached, or refused     (server: control.py)
      ├─ SupervisorError       a server runs here already, or cannot run   (server: health.py)
      ├─ DatasetError          recorded data are missing or malformed      (simulations: datasets/)
      ├─ StudyError            a study's file or folder cannot be used     (simulations: lab/)
      ├─ ClusterError          a Ray cluster is not there or does not fit  (simulations: engines/)
      ├─ CampaignEndedError, WorkerError   a simulated campaign cannot go on  (sim.: engines/)
      └─ DeploymentError, DemoError      the demo did not get through      (simulations: demo/)

`exit_code` is what a command exits with when the error ends it; docs/commands.md lists them.
Messages never hold event content.
"""

from typing import ClassVar, Final

import msgspec

# What msgspec raises for bytes that somebody else wrote: not what they should be, no UTF-8, or
# nested without end.
UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class TacitlyError(Exception):
    """Base of all deliberate errors."""

    exit_code: ClassVar[int] = 1


class ValidationError(TacitlyError, ValueError):
    """A value from outside is unusable."""

    exit_code = 2


class BudgetExceededError(TacitlyError):
    """A charge would exceed a cap; nothing was charged.

    `scope` says which, where a device's ledger refuses: "lifetime", "epoch", "campaign", "record".
    """

    exit_code = 3

    def __init__(self, message: str, *, scope: str = "") -> None:
        super().__init__(message)
        self.scope = scope


class TooSoonError(TacitlyError):
    """A person took part too often, or too recently, for a plan's limits; nothing was charged."""

    exit_code = 3


class LedgerError(TacitlyError):
    """A ledger is damaged, locked by another writer for too long, or used out of order."""

    exit_code = 5
