"""What every loader yields: one person's events, session by session."""

import csv
import json
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import ParseError

import msgspec

from tacitly_common.errors import TacitlyError
from tacitly_common.events import Event, EventKind

MS: Final = 1_000_000  # nanoseconds
SECOND: Final = 1_000_000_000


class DatasetError(TacitlyError):
    """A recorded data set is missing, incomplete or not in its format."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Person:
    """One person of a data set, under the pseudonym that the data set gives.

    Sessions are in the order of wall time, each with its events in that order. A session's
    monotonic clock starts anew, so the flat stream `events` still shows where sessions begin
    (`Vocabulary.encode` marks them).
    """

    id: str
    sessions: tuple[tuple[Event, ...], ...] = field(repr=False)

    @property
    def events(self) -> Iterator[Event]:
        """All events in time order."""
        return chain.from_iterable(self.sessions)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong while `path` is read and parsed into a `DatasetError` that names it.

    The cause is left out of the error: it may quote what a person typed.
    """
    try:
        yield
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing; name the folder that holds the data set") from None
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; make it a readable file") from None
    except (
        csv.Error,
        json.JSONDecodeError,
        msgspec.MsgspecError,
        lzma.LZMAError,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        ParseError,
        UnicodeDecodeError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:
        raise DatasetError(
            f"{path} is not in the data set's format ({type(error).__name__}); fetch it again"
        ) from None


def typed(text: Iterable[str], *, wall_ns: int, started_ns: int) -> Iterator[Event]:
    """Key presses that write `text`, for recordings of text without key timing.

    Characters lie a microsecond apart from `wall_ns` on: they keep their order and claim no
    rhythm. No key_up is made up. A line's end is Enter.
    """
    for index, character in enumerate(text):
        now = wall_ns + index * 1_000
        key = "Enter" if character == "\n" else character
        yield Event(EventKind.KEY_DOWN, now - started_ns, now, key)
