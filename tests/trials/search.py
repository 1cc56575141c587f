"""Looks for a canary's text in files and in a process's memory."""

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from x_display import CODES

Content = NDArray[np.uint8]
_CODES = ("ascii", "utf-16le", "utf-32le")
# Of an X server's key event 32 bytes and more; a key is pressed and released.
_MOST_BYTES_APART: Final = 512


def image_of(process: int, path: Path) -> Path:
    """Write all of a process's memory, as a core dump has it, to a file that begins with `path`."""
    command = ["gcore", "-a", "-o", str(path), str(process)]
    subprocess.run(command, capture_output=True, check=True)
    return path.with_name(f"{path.name}.{process}")


def files_with(text: str, paths: Iterable[Path]) -> list[Path]:
    """The files that hold a text, or its reverse, in a usual encoding."""
    forms = [each.encode(code) for each in (text, text[::-1]) for code in _CODES]
    return [path for path in paths if any(form in path.read_bytes() for form in forms)]


def is_spelled_in(path: Path, text: str) -> bool:
    """Whether a file has a text's characters, or the codes of their keys, one by one: each as far
    from the last, in either direction, as in a table of characters or a queue of events."""
    content = np.fromfile(path, dtype=np.uint8)
    spellings = [text.encode("ascii")]
    if all(character in CODES for character in text):
        spellings.append(bytes(CODES[character] for character in text))
    return any(_is_spread(content, spelling) for spelling in spellings)


def _is_spread(content: Content, values: bytes) -> bool:
    first = np.flatnonzero(content == values[0])
    for apart in (*range(-_MOST_BYTES_APART, 0), *range(1, _MOST_BYTES_APART + 1)):
        reach = apart * (len(values) - 1)
        begins = first[(first + reach >= 0) & (first + reach < len(content))]
        for place, value in enumerate(values[1:], start=1):
            begins = begins[content[begins + place * apart] == value]
        if len(begins):
            return True
    return False
