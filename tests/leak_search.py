"""Finds a typed secret in bytes, in any form in which it could plausibly have left.

    forms = secret_forms("what was typed", Vocabulary(plan.tokens))
    found(data, forms)        # names of the forms that are there, empty if none is

A form is a set of byte patterns, each of a part of the secret, since a part of it, or one
training window, is a leak as well: every 14 characters that follow each other hold a pattern,
and every 8 tokens.
What `data` holds compressed (zlib, gzip, bzip2, xz, at any place, also twice) is searched too.

Not found: what is encrypted, summed or noised, and a text that was changed before it left.
"""

import base64
import bz2
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import product
from typing import Any, Final
from urllib.parse import quote, quote_plus

import numpy as np
from numpy.typing import NDArray

from tacitly_common.events import Event, EventKind
from tacitly_common.vocabulary import START, Vocabulary

Forms = Mapping[str, frozenset[bytes]]

_TEXT_RUN: Final = 12
_TEXT_STRIDE: Final = 3
_TOKEN_RUN: Final = 8
_KEY_NS: Final = 10**8
# Nobody hides a secret behind more; an unbounded stream would fill the memory.
_UNPACKED_BYTES: Final = 1 << 20
_NESTED: Final = 2

# Where a compressed stream may begin, and what unpacks it.
_PACKED: Final[tuple[tuple[re.Pattern[bytes], Callable[[], Any]], ...]] = (
    (re.compile(rb"(?=[\x08\x18\x28\x38\x48\x58\x68\x78])", re.DOTALL), zlib.decompressobj),
    (re.compile(rb"(?=\x1f\x8b\x08)"), partial(zlib.decompressobj, 16 + zlib.MAX_WBITS)),
    (re.compile(rb"(?=BZh[1-9])"), bz2.BZ2Decompressor),
    (re.compile(rb"(?=\xfd7zXZ\x00)"), lzma.LZMADecompressor),
)


def typed(text: str, *, start_ns: int = 1_700_000_000 * 10**9) -> list[Event]:
    """The events of typing a text, a key each 100 ms."""
    return [
        Event(EventKind.KEY_DOWN, at, start_ns + at, "Enter" if key == "\n" else key)
        for at, key in ((n * _KEY_NS, key) for n, key in enumerate(text))
    ]


def secret_forms(secret: str, vocabulary: Vocabulary) -> Forms:
    """Every form of an ASCII secret, by name."""
    tokens = vocabulary.encode(typed(secret))
    tokens = tokens[tokens != START]
    starts = range(0, len(secret) - _TEXT_RUN + 1, _TEXT_STRIDE)
    texts = [secret[at : at + _TEXT_RUN] for at in starts]
    rows = [tokens[at : at + _TOKEN_RUN] for at in range(len(tokens) - _TOKEN_RUN + 1)]
    names = [[vocabulary.name(int(token)) for token in row] for row in rows]
    forms = {
        "plain": {text.encode() for text in texts},
        "other case": {text.swapcase().encode() for text in texts}
        | {change(text).encode() for text in texts for change in (str.lower, str.upper)},
        "reversed": {text[::-1].encode() for text in texts},
        "hex": {text.encode().hex().encode() for text in texts},
        "HEX": {text.encode().hex().upper().encode() for text in texts},
        "percent": {quote(text, safe="").encode() for text in texts}
        | {quote_plus(text, safe="").encode() for text in texts},
        "percent of every character": {_each(text, "%{:02x}") for text in texts}
        | {_each(text, "%{:02X}") for text in texts},
        "JSON escapes": {_each(text, "\\u{:04x}") for text in texts},
        "token names": {
            join.join(row).encode() for row, join in product(names, ("", " ", ",", ", ", "\n"))
        }
        | {json.dumps(row)[1:-1].encode() for row in names}
        | {json.dumps(row, separators=(",", ":"))[1:-1].encode() for row in names}
        | {repr(row)[1:-1].encode() for row in names},
        "token numbers in text": {
            join.join(map(str, row)).encode() for row, join in product(rows, (" ", ",", ", ", "\n"))
        },
    }
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        forms[encoding] = {text.encode(encoding) for text in texts}
    for alignment in range(3):
        forms[f"base64, alignment {alignment}"] = {
            form for text in texts for form in _base64(text.encode(), alignment)
        }
        forms[f"base64 of utf-16-le, alignment {alignment}"] = {
            form for text in texts for form in _base64(text.encode("utf-16-le"), alignment)
        }
    for dtype in ("u1", "<i2", ">i2", "<i4", ">i4", "<i8", ">i8", "<f4", ">f4", "<f8", ">f8"):
        forms[f"tokens as {dtype}"] = {_packed(row, dtype) for row in rows}
    return {name: frozenset(patterns) for name, patterns in forms.items()}


def found(data: bytes, forms: Forms) -> set[str]:
    """The names of the forms that `data` holds, as it is or compressed."""
    return {
        name
        for part in _unpacked(data, _NESTED)
        for name, patterns in forms.items()
        if any(pattern in part for pattern in patterns)
    }


def _unpacked(data: bytes, nested: int) -> Iterator[bytes]:
    """`data` itself, and whatever unpacks from any place in it."""
    yield data
    if not nested:
        return
    for begin, make in _PACKED:
        for match in begin.finditer(data):
            at = match.start()
            if make is zlib.decompressobj and int.from_bytes(data[at : at + 2]) % 31:
                continue  # no zlib header (RFC 1950, 2.2)
            inner = _unpack(make(), data[at : at + _UNPACKED_BYTES])
            if len(inner) >= _TOKEN_RUN:
                yield from _unpacked(inner, nested - 1)


def _unpack(stream: Any, data: bytes) -> bytes:
    """What `data` unpacks to as far as it does: a stream may be cut off or no stream at all."""
    inner = b""
    try:
        for at in range(0, len(data), 256):
            inner += stream.decompress(data[at : at + 256], _UNPACKED_BYTES - len(inner))
            if stream.eof or len(inner) >= _UNPACKED_BYTES:
                break
    except (zlib.error, OSError, EOFError, lzma.LZMAError):
        pass
    return inner


def _base64(text: bytes, alignment: int) -> Iterator[bytes]:
    """The characters that depend on `text` alone, with `alignment` unknown bytes before it."""
    encoded = base64.b64encode(bytes(alignment) + text + bytes(3))
    first = -(-alignment * 8 // 6)
    last = (alignment + len(text)) * 8 // 6
    standard = encoded[first:last]
    yield standard
    yield standard.translate(bytes.maketrans(b"+/", b"-_"))


def _each(text: str, form: str) -> bytes:
    return "".join(form.format(ord(character)) for character in text).encode()


def _packed(row: NDArray[np.int64], dtype: str) -> bytes:
    return row.astype(np.dtype(dtype)).tobytes()
