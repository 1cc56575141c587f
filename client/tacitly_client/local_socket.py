"""Unix sockets between processes of one person: 0600 in a directory of 0700, and each side asks
the kernel whose process the other one is.

A socket's address may have 107 bytes, a home's path more. So a socket is named by its directory's
descriptor, which is as long for every home.
"""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tacitly_common.errors import TacitlyError

_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: process, user, group


class SocketError(TacitlyError):
    """Nobody listens there, or it is not this person's process."""


def private_directory(path: Path) -> None:
    """Make the directory of sockets, for its owner alone."""
    path.mkdir(mode=0o700, exist_ok=True)
    path.chmod(0o700)


def listen(path: Path) -> socket.socket:
    """A listening socket of mode 0600; what an earlier process left there is replaced.

    Raises:
        OSError: the directory cannot be used.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path.unlink(missing_ok=True)
    try:
        with short_path(path) as address:
            listener.bind(address)
        path.chmod(0o600)
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def connect(path: Path) -> socket.socket:
    """A connection to who listens there.

    Raises:
        SocketError: nobody does, or somebody else's process.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(path) as address:
            connection.connect(address)
        if not is_own(connection):
            raise SocketError(f"{path} is another person's; remove it and start the agent again")
    except OSError as error:
        connection.close()
        raise SocketError(f"{path}: {error.strerror}; is the agent running?") from error
    except BaseException:
        connection.close()
        raise
    return connection


def is_own(connection: socket.socket) -> bool:
    """Whether the process at the other end is this person's, as the kernel says."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(told)
    return bool(user == os.getuid())


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Another name of `path`, of few bytes, for this process and only inside."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
