"""Counts the bytes between devices and a server, beneath TLS.

A plain TCP relay on loopback: it sees ciphertext and counts everything that a device's network
would carry above TCP: handshakes, polls, heartbeats, headers, models and updates.
"""

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

_CHUNK_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes so far. `up` is from the devices to the server."""

    up: int
    down: int

    def __sub__(self, earlier: "Traffic") -> "Traffic":
        return Traffic(self.up - earlier.up, self.down - earlier.down)


class CountingProxy:
    """Relays `port` to `server_port`, both at 127.0.0.1, and counts. A context manager."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._up = self._down = 0
        self._open: set[socket.socket] = set()
        self._closing = False

    @property
    def traffic(self) -> Traffic:
        """What has passed so far."""
        with self._lock:
            return Traffic(self._up, self._down)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="counting-proxy", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._closing = True
            open_sockets = list(self._open)
        _shut(self._listener)
        for each in open_sockets:
            _shut(each)

    def _accept(self) -> None:
        while True:
            try:
                device, _ = self._listener.accept()
            except OSError:
                self._listener.close()
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                # No server: the device sees its connection end and tries again.
                device.close()
                continue
            with self._lock:
                self._open |= {device, server}
                closing = self._closing
            if closing:
                _shut(device)
            for source, target, is_up in ((device, server, True), (server, device, False)):
                threading.Thread(
                    target=self._relay, args=(source, target, is_up), daemon=True
                ).start()

    def _relay(self, source: socket.socket, target: socket.socket, is_up: bool) -> None:
        """One direction, until the source ends or the target is gone."""
        with suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                with self._lock:
                    if is_up:
                        self._up += len(data)
                    else:
                        self._down += len(data)
                target.sendall(data)
        # The other direction's thread sees the end too.
        _shut(source)
        _shut(target)
        with self._lock:
            self._open.discard(source)
        source.close()


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
