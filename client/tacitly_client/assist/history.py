"""This person's tokens: the one place where suggestions read the event store."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacitly_client.store import Damage, EventStore
from tacitly_common.events import Event, EventKind
from tacitly_common.vocabulary import Vocabulary

_KEYS = {"\n": "Enter", "\t": "Tab", "\b": "Backspace", "\x7f": "Backspace"}


def person_tokens(
    store: Path, vocabulary: Vocabulary, on_damage: Callable[[Damage], None]
) -> NDArray[np.int64]:
    """Everything that is stored, int64[n] in the order of time.

    Raises:
        StoreError: there is no store, or its key is another.
    """
    with EventStore.open(store) as events:
        return vocabulary.encode(events.events(on_damage=on_damage))


def typed_tokens(text: str, vocabulary: Vocabulary) -> list[int]:
    """The tokens of text as if it were typed without a pause, without the session's start."""
    events = (
        Event(EventKind.KEY_DOWN, 0, 0, key=_KEYS.get(character, character)) for character in text
    )
    tokens: list[int] = vocabulary.encode(events).tolist()
    return tokens[1:]
