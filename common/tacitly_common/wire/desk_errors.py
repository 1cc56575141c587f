"""Why the desk refuses: the same error on both sides of the call.

The desk raises one, `status_of` names the gRPC status that carries it, and `error_of` makes it
again on the caller's side, where it ends a command with its exit code.

| error                   | status              | exit code |
|-------------------------|---------------------|-----------|
| DeskInputError          | INVALID_ARGUMENT    | 2         |
| DeskBudgetError         | OUT_OF_RANGE        | 3         |
| DeskApprovalNeededError | NOT_FOUND           | 4         |
| DeskVerificationError   | FAILED_PRECONDITION | 5         |
| DeskConflictError       | ABORTED             | 6         |
| DeskError (no answer)   | any other           | 7         |
| DeskNotAuthorisedError  | PERMISSION_DENIED   | 8         |
"""

from typing import Final

import grpc

from tacitly_common.errors import TacitlyError

_MOST_DETAILS: Final = 1_000


class DeskError(TacitlyError):
    """The desk cannot be reached, or cannot answer now: the same call may succeed later."""

    exit_code = 7


class DeskInputError(DeskError):
    """The call is malformed."""

    exit_code = 2


class DeskBudgetError(DeskError):
    """It would cost a person more than the policy allows."""

    exit_code = 3


class DeskApprovalNeededError(DeskError):
    """Too few officers have approved."""

    exit_code = 4


class DeskVerificationError(DeskError):
    """What was sent contradicts itself, the officers' log, or what the desk holds."""

    exit_code = 5


class DeskConflictError(DeskError):
    """Somebody else was faster, or it was done before."""

    exit_code = 6


class DeskNotAuthorisedError(DeskError):
    """The caller may not: a token, certificate or signature is not good, or not any more."""

    exit_code = 8


_KINDS: Final = (
    DeskInputError,
    DeskBudgetError,
    DeskApprovalNeededError,
    DeskVerificationError,
    DeskConflictError,
    DeskNotAuthorisedError,
)
_STATUS: Final = {
    DeskInputError.exit_code: grpc.StatusCode.INVALID_ARGUMENT,
    DeskBudgetError.exit_code: grpc.StatusCode.OUT_OF_RANGE,
    DeskApprovalNeededError.exit_code: grpc.StatusCode.NOT_FOUND,
    DeskVerificationError.exit_code: grpc.StatusCode.FAILED_PRECONDITION,
    DeskConflictError.exit_code: grpc.StatusCode.ABORTED,
    DeskNotAuthorisedError.exit_code: grpc.StatusCode.PERMISSION_DENIED,
}


def status_of(error: TacitlyError) -> grpc.StatusCode:
    """The status that says what the error's exit code says."""
    return _STATUS.get(error.exit_code, grpc.StatusCode.UNAVAILABLE)


def error_of(error: grpc.RpcError) -> DeskError:
    """The desk's error from the status of a failed call."""
    status, details = error.code(), str(error.details() or "")[:_MOST_DETAILS]
    for kind in _KINDS:
        if _STATUS[kind.exit_code] is status:
            return kind(details)
    if status is grpc.StatusCode.UNAUTHENTICATED:
        return DeskNotAuthorisedError(details)
    return DeskError(f"{status.name.lower().replace('_', ' ')}: {details}")
