"""Typed text -> words, for studies of the next word: a lab's tokens, which no plan can ask for.

    vocabulary = WordVocabulary()
    tokens = vocabulary.encode(person.events)        # int64[n]

The words are the closed public list that capture keeps at the level `words`; nothing in the table
is learned from anybody's data.

| typed                                | token                                                 |
|--------------------------------------|-------------------------------------------------------|
| a session begins                     | `START`                                               |
| letters, digits, apostrophes in a row | the word in lower case; `<number>` for digits alone; |
|                                      | `<unk>` for one that is not in the list               |
| Enter                                | `Enter`: the end of a message or a line               |
| ASCII punctuation                    | itself                                                |
| a space                              | none: it ends a word, as everything above does        |
| anything else                        | `<key>`                                               |
"""

import string
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tacitly_client.redaction import public_words
from tacitly_common.events import Event, EventKind
from tacitly_common.keys import UNKNOWN_KEY

_START: Final = "<start>"
_NUMBER: Final = "<number>"
_KEY: Final = "<key>"
_ENTER: Final = "Enter"
_PUNCTUATION: Final = frozenset(string.punctuation) - {"'"}


class WordVocabulary:
    """The table of words. Its first two tokens are `vocabulary.START` and `UNKNOWN`."""

    __slots__ = ("_tokens",)

    def __init__(self) -> None:
        names = (_START, UNKNOWN_KEY, _NUMBER, _KEY, _ENTER, *sorted(_PUNCTUATION))
        table = (*names, *sorted(public_words()))
        self._tokens = {name: token for token, name in enumerate(table)}

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self._tokens)

    def encode(self, events: Iterable[Event]) -> NDArray[np.int64]:
        """Tokens of a person's events, which come in the order of time: int64[n]."""
        return np.fromiter(map(self._token, _names(events)), dtype=np.int64)

    def _token(self, name: str) -> int:
        if name.isdecimal():
            name = _NUMBER
        return self._tokens.get(name, self._tokens[UNKNOWN_KEY])


def _names(events: Iterable[Event]) -> Iterator[str]:
    word: list[str] = []
    previous: Event | None = None
    for event in events:
        if event.kind is not EventKind.KEY_DOWN:
            continue
        if previous is None or event.monotonic_ns < previous.monotonic_ns:
            if word:
                yield "".join(word)
            yield _START
            word = []
        previous = event
        key = event.key
        if len(key) == 1 and (key.isalnum() or key == "'") and not event.modifiers:
            word.append(key.lower())
            continue
        if word:
            yield "".join(word)
            word = []
        if key != " ":
            yield key if key == _ENTER or key in _PUNCTUATION else _KEY
    if word:
        yield "".join(word)
