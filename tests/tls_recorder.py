"""A proxy on loopback that ends TLS on both sides and keeps every byte that passes.

It has an authority of its own, so only a client that was given that authority's certificate
talks to it: it shows what a device and a server say to each other beneath their TLS.
"""

import asyncio
import ssl
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tacitly_server.certificates import create

_BLOCK_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Conversation:
    """One connection: the bytes in each direction."""

    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)


class TlsRecorder:
    """Listens at `port` and passes everything on to 127.0.0.1:`server_port`."""

    def __init__(self, directory: Path, server_port: int, server_ca: Path) -> None:
        self.conversations: list[Conversation] = []
        self.ca_certificate = directory / "ca.crt"
        create(directory, ["127.0.0.1"], now=datetime.now(UTC))
        self._inbound = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._inbound.load_cert_chain(directory / "server.crt", directory / "server.key")
        self._outbound = ssl.create_default_context(cafile=server_ca)
        self._server_port = server_port
        self._writers: list[asyncio.StreamWriter] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls-recorder")

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._do(
            asyncio.start_server(self._pass_on, "127.0.0.1", 0, ssl=self._inbound)
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # Left to the garbage collector, each would warn in the middle of some other test.
        for writer in self._writers:
            writer.transport.abort()
        closed = (writer.wait_closed() for writer in self._writers)
        await asyncio.wait_for(asyncio.gather(*closed, return_exceptions=True), timeout=10)

    async def _pass_on(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        kept = Conversation()
        self.conversations.append(kept)
        self._writers.append(to_client)
        # A party that goes away in the middle is nothing to a proxy.
        with suppress(OSError):
            from_server, to_server = await asyncio.open_connection(
                "127.0.0.1", self._server_port, ssl=self._outbound
            )
            self._writers.append(to_server)
            await asyncio.gather(
                _copy(from_client, to_server, kept.sent),
                _copy(from_server, to_client, kept.received),
            )
        to_client.close()


async def _copy(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, kept: bytearray
) -> None:
    """Until the source ends; then the target is closed, which ends the other direction."""
    with suppress(OSError):
        while block := await source.read(_BLOCK_BYTES):
            kept += block
            target.write(block)
            await target.drain()
    target.close()
