"""What one HTTP connection may cost, before there is a request for `request_guard` to judge.

uvicorn waits for ever for the first request of a connection, and answers 503 to everybody once
there are too many connections: a thousand callers that say nothing would shut out devices,
operator and ServerApp alike.

    every connection       between two requests, no more than two looks `head_seconds` apart
    from outside           no more than `limit_concurrency` of uvicorn's configuration in all, and
                           a share of that from one address
    that came to 127.0.0.1 never refused for what others do
"""

import asyncio
from typing import ClassVar, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

from tacitly_server.request_guard import OPERATOR_ADDRESS


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 connection within these bounds."""

    head_seconds: ClassVar[float] = 10.0
    # Many devices may share an address: a reverse proxy's, or that of a company's network.
    share_of_an_address: ClassVar[float] = 0.25

    _looking: asyncio.TimerHandle | None = None
    _answered: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or cut it off."""
        super().connection_made(transport)
        if self.server is not None and self.server[0] == OPERATOR_ADDRESS:
            self.limit_concurrency = None
        elif self.limit_concurrency is not None and self._too_many(self.limit_concurrency):
            transport.abort()
            return
        self._looking = self.loop.call_later(self.head_seconds, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self._looking is not None:
            self._looking.cancel()
        super().connection_lost(exc)

    def _too_many(self, limit: int) -> bool:
        others = [cast("H11Protocol", one).client for one in self.connections if one is not self]
        of_this_address = sum(
            1 for other in others if other and self.client and other[0] == self.client[0]
        )
        return len(others) >= limit or of_this_address >= self.share_of_an_address * limit

    def _look(self) -> None:
        """Cut the connection if it has brought no request since the last look without one."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            if self.scope is self._answered:
                self.transport.abort()
                return
            self._answered = self.scope
        self._looking = self.loop.call_later(self.head_seconds, self._look)
