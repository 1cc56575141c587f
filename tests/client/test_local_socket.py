"""Sockets between one person's processes."""

import socket
import stat
import threading
from pathlib import Path

import pytest

from tacitly_client.local_socket import SocketError, connect, is_own, listen, private_directory


def test_who_listens_is_reached_and_both_are_the_same_persons(tmp_path: Path) -> None:
    with listen(tmp_path / "socket") as listener, connect(tmp_path / "socket") as connection:
        accepted, _ = listener.accept()
        with accepted:
            assert is_own(accepted)
            assert is_own(connection)
            accepted.sendall(b"hello")
            assert connection.recv(5) == b"hello"


def test_a_directory_and_a_socket_are_their_owners_alone(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir(mode=0o755)
    private_directory(directory)
    with listen(directory / "socket"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((directory / "socket").stat().st_mode) == 0o600


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listen(path).close()
    assert path.exists()
    with pytest.raises(SocketError, match="is the agent running"):
        connect(path)
    with listen(path), connect(path):
        pass


def test_where_nobody_listens_the_error_says_so(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "no" / "directory"):
        with pytest.raises(SocketError, match="is the agent running"):
            connect(path)


def test_a_path_beyond_an_addresss_length_works_in_every_thread(tmp_path: Path) -> None:
    directory = tmp_path / ("a" * 100) / ("b" * 100)
    directory.mkdir(parents=True)
    path = directory / "socket"
    with pytest.raises(OSError, match="too long"), socket.socket(socket.AF_UNIX) as plain:
        plain.bind(str(path))
    reached = []
    with listen(path):
        threads = [threading.Thread(target=lambda: reached.append(connect(path))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(reached) == 8
    for connection in reached:
        connection.close()
