"""What we plug into Flower's SuperLink: who may call the Control API, and what is logged.

Imports Flower; `superlink` imports it when the environment is set.
"""

import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tacitly_server import flower_port as flower
from tacitly_server.audit import AuditLog

OPERATOR = "operator"


class TokenAuthentication(flower.ControlAuthnPlugin):
    """The Control API is for the holder of one bearer token.

    Flower knows one account without its Enterprise plugins; the holder is that account.
    """

    def __init__(self, token: bytes) -> None:
        self._token = token

    def validate_tokens_in_metadata(
        self, metadata: Sequence[tuple[str, str | bytes]]
    ) -> tuple[bool, flower.AccountInfo | None]:
        """The operator's account if the one token given is ours (compared in constant time)."""
        given = [value for _, value in metadata]
        if len(given) != 1:
            return False, None
        token = given[0].encode() if isinstance(given[0], str) else given[0]
        if not hmac.compare_digest(token, self._token):
            return False, None
        return True, flower.AccountInfo(flower.NOOP_FLWR_AID, flower.NOOP_ACCOUNT_NAME)

    def get_login_details(self) -> flower.AccountAuthLoginDetails | None:
        """Nobody signs in over the network."""
        return None

    def get_auth_tokens(self, device_code: str) -> flower.AccountAuthCredentials | None:
        """Nobody gets a token over the network."""
        del device_code
        return None

    def refresh_tokens(
        self, metadata: Sequence[tuple[str, str | bytes]]
    ) -> tuple[Sequence[tuple[str, str | bytes]] | None, flower.AccountInfo | None]:
        """Tokens are changed on the server's disk."""
        del metadata
        return None, None


class CallLog(flower.EventLogWriterPlugin):
    """One audit line for each authenticated call, when its outcome is known."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def compose_log_before_event(
        self, request: Any, context: Any, account_info: Any, method_name: str
    ) -> flower.LogEntry:
        """An entry without an outcome, which `write_log` passes over."""
        return _entry(request, None, context, account_info, method_name, "")

    def compose_log_after_event(
        self, request: Any, context: Any, account_info: Any, method_name: str, response: Any
    ) -> flower.LogEntry:
        """The entry of an answered call."""
        outcome = type(response).__name__ if isinstance(response, BaseException) else "ok"
        if isinstance(response, flower.FlowerError):
            outcome = flower.ApiErrorCode(response.code).name.lower()
        return _entry(request, response, context, account_info, method_name, outcome)

    def write_log(self, log_entry: flower.LogEntry) -> None:
        """Append the entry."""
        if log_entry.status:
            self._audit.write(
                "call",
                action=log_entry.event.action,
                actor=log_entry.actor.actor_id,
                address=log_entry.actor.ip_address,
                run=log_entry.event.run_id,
                fab=log_entry.event.fab_hash,
                outcome=log_entry.status,
            )


def _entry(
    request: Any, response: Any, context: Any, account_info: Any, method_name: str, outcome: str
) -> flower.LogEntry:
    """Who called what; of the messages' content only ids and the bundle's hash."""
    fields = {field.name: value for field, value in request.ListFields()}
    actor: str | None = OPERATOR
    if account_info is None:
        # A device that comes online gives its key and is told its node id.
        node_id = fields["node"].node_id if "node" in fields else fields.get("node_id")
        node_id = node_id or getattr(response, "node_id", None)
        actor = str(node_id) if node_id else None
    fab = fields.get("fab")
    return flower.LogEntry(
        timestamp=datetime.now(UTC).isoformat(),
        actor=flower.Actor(actor, None, context.client.host if context.client else ""),
        event=flower.Event(method_name, fields.get("run_id"), fab.hash_str if fab else None),
        status=outcome,
    )
