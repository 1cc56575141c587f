"""What devices' and officers' requests have in common: a signature, a time, a place in the log."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from tacitly_common.contract.desk import MOST_SKEW_SECONDS
from tacitly_common.contract.signatures import SignatureError
from tacitly_common.wire.desk_errors import DeskNotAuthorisedError
from tacitly_common.wire.desk_requests import SignedRequest, check_request

_PAGE_BYTES: Final = 1024 * 1024


def check_signed(request: SignedRequest, public_key: str) -> None:
    """Return if the request is signed with this key.

    Raises:
        DeskNotAuthorisedError: it is not.
    """
    try:
        check_request(request, public_key)
    except SignatureError as error:
        raise DeskNotAuthorisedError(str(error)) from None


def check_fresh(sent_at_unix_seconds: int, *, now: datetime) -> None:
    """Return if a request was made within `MOST_SKEW_SECONDS` of now, before or after.

    Raises:
        DeskNotAuthorisedError: it was not: overheard and sent again, or a clock is wrong.
    """
    skew = sent_at_unix_seconds - int(now.timestamp())
    if abs(skew) > MOST_SKEW_SECONDS:
        raise DeskNotAuthorisedError(
            f"the request is {abs(skew)} s {'ahead of' if skew > 0 else 'behind'} this server's "
            f"clock ({now.astimezone(UTC):%Y-%m-%d %H:%M} UTC), more than {MOST_SKEW_SECONDS}; "
            "set the clock"
        )


def page(entries: Iterable[bytes]) -> list[bytes]:
    """The first entries that fit into an answer, at least one if there is one."""
    fitting: list[bytes] = []
    held_bytes = 0
    for entry in entries:
        held_bytes += len(entry)
        if fitting and held_bytes > _PAGE_BYTES:
            break
        fitting.append(entry)
    return fitting
