"""What suggestions would have saved this person: measured on the newest fifth of their events.

The older part is what the head learns from (`training/windows.py` splits for training alike).
Three ways to suggest are held against each other on the same keys:

| method        | suggests                                                                         |
|---------------|----------------------------------------------------------------------------------|
| most frequent | words by how often this person typed them; keys and actions by what followed the |
|               | last one most often                                                              |
| model         | the shared model alone                                                           |
| model and you | the model and this person's head                                                 |

Keys saved: three words are shown before each key of a word that was typed without a correction;
as soon as it is among them it is taken with one key, which also types the space after it. That
is a bound from above: nobody looks at every offer. The share is of all keys of the tail, those of
words that are no public words included.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from tacitly_client.assist.head import PersonalHead
from tacitly_client.assist.recurrent import RecurrentModel
from tacitly_client.assist.suggester import Context, Kind, Suggester
from tacitly_client.assist.words import Node, WordTree
from tacitly_client.training.windows import split_by_time
from tacitly_common.vocabulary import START, Vocabulary

OFFERED: Final = 3
_MOST_TOKENS: Final = 20_000

Tokens = NDArray[np.int64]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One method over the tail. Hits: the next key or action was among `OFFERED`."""

    method: str
    keys: int = 0
    keys_saved: int = 0
    words: int = 0
    words_offered: int = 0
    key_hits: int = 0
    actions: int = 0
    action_hits: int = 0

    def __add__(self, other: "Row") -> "Row":
        counts = {
            name: getattr(self, name) + getattr(other, name)
            for name in self.__struct_fields__
            if name != "method"
        }
        return Row(method=self.method, **counts)


class Savings(msgspec.Struct, frozen=True, kw_only=True):
    """The report: on how much it rests, how far the head trusts the model, and a row a method."""

    learned_tokens: int
    held_out_tokens: int
    model_weight: float
    rows: tuple[Row, ...]


class _Method(Protocol):
    """A way to suggest in a context."""

    def words(self, context: Context) -> list[str]:
        """`OFFERED` words in lower case."""

    def tokens(self, context: Context, kind: Kind) -> list[int]:
        """`OFFERED` tokens of a kind."""


def measure(
    tokens: Tokens,
    model: RecurrentModel,
    vocabulary: Vocabulary,
    *,
    most_tokens: int = _MOST_TOKENS,
) -> Savings:
    """The savings on the newest fifth of a person's tokens, int64[n] in the order of time.

    Of a longer fifth the newest `most_tokens`: 20,000 take half a minute.
    """
    older, newer = split_by_time(tokens)
    newer = newer[-most_tokens:]
    head = PersonalHead.learn(older, model)
    shared, own = Suggester(model, vocabulary), Suggester(model, vocabulary, head)
    rows = (
        _score("most frequent", _Frequent(older, vocabulary, shared), shared, older, newer),
        _score("model", _Engine(shared), shared, older, newer),
        _score("model and you", _Engine(own), own, older, newer),
    )
    return Savings(
        learned_tokens=int((older != START).sum()),
        held_out_tokens=int((newer != START).sum()),
        model_weight=head.weight,
        rows=rows,
    )


def measure_model(
    tokens: Tokens, model: RecurrentModel, vocabulary: Vocabulary, *, most_tokens: int
) -> Row:
    """The row "model" of `measure` alone: without a head it is cheap enough for a sweep."""
    older, newer = split_by_time(tokens)
    shared = Suggester(model, vocabulary)
    return _score("model", _Engine(shared), shared, older, newer[-most_tokens:])


def _score(method: str, how: _Method, walker: Suggester, older: Tokens, newer: Tokens) -> Row:
    """Walk along the tail as it was typed, and look at each offer before the key that came."""
    row = Row(method=method)
    context = walker.advance(walker.begin(), older[-256:].tolist())
    word = _WordTyped()
    for token in newer.tolist():
        after = walker.advance(context, [token])
        kind = walker.kind(token)
        if kind is not None:
            hit = token in how.tokens(context, kind)
            key = kind is Kind.KEY
            row += Row(
                method=method,
                keys=key,
                key_hits=key and hit,
                actions=not key,
                action_hits=not key and hit,
            )
        typed = word.after(context, after)
        if typed is not None:
            saved = _saved(typed, walker.name(token) == "Space", how)
            row += Row(method=method, words=1, words_offered=saved > 0, keys_saved=saved)
        context = after
    return row


class _WordTyped:
    """Follows a word from its first letter; forgets it when it was corrected."""

    def __init__(self) -> None:
        self._before: list[Context] = []

    def after(self, context: Context, after: Context) -> list[Context] | None:
        """The contexts before each letter of a word that has just ended, and the one after it."""
        if context.word == "":
            self._before = [context]
        if after.word == "":
            # Between words, or the word's end: only a word has more than its beginning.
            whole, self._before = self._before, []
            return whole if len(whole) > 1 else None
        if after.word is not None and len(after.word) == len(self._before):
            self._before.append(after)
        elif after.word is None or context.word != after.word:
            self._before = []
        return None


def _saved(before: list[Context], space: bool, how: _Method) -> int:
    """Keys that the first right offer spares; one that spares none is not looked at."""
    word = before[-1].word or ""
    for typed, context in enumerate(before[:-1]):
        left = len(word) - typed + space
        if left > 1 and word.lower() in how.words(context):
            return left - 1
    return 0


@dataclass(frozen=True, slots=True)
class _Engine:
    """What is under test."""

    suggester: Suggester

    def words(self, context: Context) -> list[str]:
        return [each.text.lower() for each in self.suggester.words(context, OFFERED)]

    def tokens(self, context: Context, kind: Kind) -> list[int]:
        return self.suggester.likeliest(context, kind, OFFERED)


class _Frequent:
    """The trivial baseline: counts of this person's older part."""

    def __init__(self, older: Tokens, vocabulary: Vocabulary, walker: Suggester) -> None:
        tree = WordTree(vocabulary)
        typed = Counter(_words_of(older, tree))
        self._tree, self._walker = tree, walker
        known = sorted(_all_words(tree), key=lambda word: (-typed[word], word))
        self._ranked: dict[str, list[str]] = {}
        for word in known:
            for length in range(len(word)):
                offered = self._ranked.setdefault(word[:length], [])
                if len(offered) < OFFERED:
                    offered.append(word)
        self._most: dict[Kind, Counter[int]] = {kind: Counter() for kind in Kind}
        self._followers: dict[tuple[int, Kind], Counter[int]] = {}
        last = START
        for token in older.tolist():
            kind = walker.kind(token)
            if kind is not None:
                self._most[kind][token] += 1
                self._followers.setdefault((last, kind), Counter())[token] += 1
            last = token

    def words(self, context: Context) -> list[str]:
        return [] if context.word is None else self._ranked.get(context.word.lower(), [])

    def tokens(self, context: Context, kind: Kind) -> list[int]:
        last = context.history[-1] if context.history else START
        followers = self._followers.get((last, kind), Counter()).most_common(OFFERED)
        offered = [token for token, _ in followers]
        others = [token for token, _ in self._most[kind].most_common(2 * OFFERED)]
        return [*offered, *(token for token in others if token not in offered)][:OFFERED]


def _words_of(tokens: Tokens, tree: WordTree) -> Iterator[str]:
    """The words that were typed, in lower case."""
    word: str | None = ""
    for token in tokens.tolist():
        after = tree.typed(word, token)
        if word and after == "":
            yield word.lower()
        word = after


def _all_words(tree: WordTree) -> Iterator[str]:
    """Every word of the tree."""

    def below(node: Node, letters: str) -> Iterator[str]:
        if node.is_word:
            yield letters
        for token, child in node.children.items():
            yield from below(child, letters + tree.text(token))

    yield from below(tree.root, "")
