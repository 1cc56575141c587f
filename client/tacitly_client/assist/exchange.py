"""What the control service and the process that suggests say to each other: a line of JSON each.

    control -> vault    SUGGEST, once: then the connection is a suggesting process's (worker.py)
    control -> worker   Question
    worker -> control   Answer

The process ends whenever it likes between two answers: what it had learned is then made anew.
"""

import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import msgspec

from tacitly_client.local_socket import SocketError, connect
from tacitly_common.errors import UNDECODABLE, TacitlyError
from tacitly_common.validation import in_range

SUGGEST: Final = b"S"
MOST_LINE_BYTES: Final = 64 * 1024
MOST_TYPED: Final = 2_000
MOST_SUGGESTIONS: Final = 9

_ANSWER_SECONDS: Final = 30.0
# One that was just ending is no trouble; a second one in a row is.
_TRIES: Final = 2

_Line = TypeVar("_Line")


class SuggestError(TacitlyError):
    """No suggestions can be had; says why, and holds nothing that was typed."""


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the asking program has before its caret, and how many suggestions of each kind."""

    typed: str
    most: int
    with_head: bool

    def __post_init__(self) -> None:
        in_range(1, MOST_SUGGESTIONS, most=self.most)

    def __repr__(self) -> str:
        """Without what was typed."""
        return f"Question(most={self.most}, with_head={self.with_head})"


class Offer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One suggestion (suggester.py)."""

    kind: str
    text: str
    probability: float

    def __repr__(self) -> str:
        """Without its text."""
        return f"Offer({self.kind})"


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The suggestions and whose model made them, or in `problem` why there are none."""

    plan_hash: str = ""
    round: int = 0
    offers: tuple[Offer, ...] = ()
    problem: str = ""


def write_line(stream: BinaryIO, line: Question | Answer) -> None:
    """Write and flush one line."""
    stream.write(msgspec.json.encode(line) + b"\n")
    stream.flush()


def read_line(stream: BinaryIO, kind: type[_Line]) -> _Line | None:
    """The next line, None at the end.

    Raises:
        SuggestError: it is no such line, or too long.
    """
    line = stream.readline(MOST_LINE_BYTES)
    if not line:
        return None
    try:
        return msgspec.json.decode(line, type=kind)
    except UNDECODABLE:
        raise SuggestError(f"a malformed line of {len(line)} bytes; update the agent") from None


class SuggestLink:
    """Asks one suggesting process of the vault's at a time; begins it when it is first needed."""

    def __init__(self, vault: Path) -> None:
        self._vault = vault
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None

    def ask(self, question: Question) -> Answer:
        """The answer. One that takes half a minute is given up, and its process with it.

        Raises:
            SuggestError: there is none, and why.
        """
        with self._lock:
            for _ in range(_TRIES):
                try:
                    answer = self._exchange(question)
                except SuggestError:
                    self._close()
                    raise
                except (OSError, SocketError) as error:
                    self._close()
                    told = error if isinstance(error, SocketError) else type(error).__name__
                    raise SuggestError(f"no process suggests anything: {told}") from None
                if answer is None:
                    self._close()
                elif answer.problem:
                    raise SuggestError(answer.problem)
                else:
                    return answer
            raise SuggestError("the process that suggests has ended; see trainer.log")

    def close(self) -> None:
        """Let the process end."""
        with self._lock:
            self._close()

    def _exchange(self, question: Question) -> Answer | None:
        """None if the process ended before it answered."""
        if self._connection is None:
            self._connection = connect(self._vault)
            self._connection.settimeout(_ANSWER_SECONDS)
            self._connection.sendall(SUGGEST)
        try:
            with self._connection.makefile("wb") as questions:
                write_line(questions, question)
            with self._connection.makefile("rb") as answers:
                return read_line(answers, Answer)
        except (BrokenPipeError, ConnectionResetError):
            return None

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
