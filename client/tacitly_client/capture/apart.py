"""Redaction in a process of its own, which ends with each run of text that it judged.

Python's strings cannot be wiped: what redaction makes of a run to look at it (its words, a card's
number without its spaces) would stay in this process's freed memory, and so in an image of it, also
where nothing of it was kept. The child's memory goes back to the system with the child, and the
answer has what may be stored, no more.
"""

import os
from collections import Counter
from collections.abc import Sequence
from functools import cache

import msgspec

from tacitly_client.redaction import ContentLevel, Redacted, Rule, redact

_Answer = tuple[tuple[str | None, ...], dict[Rule, int]]


def redact_apart(
    keys: Sequence[str], level: ContentLevel, *, begins: bool = True, ends: bool = True
) -> Redacted | None:
    """As `redact`; None if the system could not make a process, or it was killed."""
    _load()
    reading, writing = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        return None
    if not child:
        try:
            redacted = redact(keys, level, begins=begins, ends=ends)
            with os.fdopen(writing, "wb") as answer:
                answer.write(msgspec.json.encode((redacted.kept, redacted.rules)))
        finally:
            os._exit(0)  # none of this process's ends: they are the parent's
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        told = answer.read()
    os.waitpid(child, 0)
    try:
        kept, rules = msgspec.json.decode(told, type=_Answer)
    except msgspec.DecodeError:
        return None
    return Redacted(kept, Counter(rules))


@cache
def _load() -> None:
    """Load what redaction loads when it first needs it: once, and not once in each child."""
    redact("0000000", ContentLevel.WORDS)
