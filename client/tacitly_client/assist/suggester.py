"""Next key, next word, next action: a pure engine over a released model's tokens.

    suggester = Suggester(model, vocabulary, head)      # head=None: the shared model alone
    suggester.suggest(tokens, 3)                        # up to three of each kind

A word is completed by a beam over characters, along the tree of public words: its probability is
that of its remaining letters and of an end after them.
"""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tacitly_client.assist.head import History, PersonalHead, extended
from tacitly_client.assist.recurrent import RecurrentModel, States
from tacitly_client.assist.words import Node, WordTree
from tacitly_common.errors import ValidationError
from tacitly_common.keys import CHARACTER_CLASSES
from tacitly_common.vocabulary import START, Vocabulary

# Older tokens tell the model nothing that it has not forgotten.
_CONTEXT_TOKENS: Final = 256
_BEAM: Final = 16
_TYPING: Final = ("Space", "Enter", "Backspace", *CHARACTER_CLASSES)
_NEITHER: Final = ("<start>", "<unk>", "<pause", "<move")


class Kind(StrEnum):
    """What is suggested."""

    WORD = "word"
    KEY = "key"
    ACTION = "action"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One suggestion. `text` is a whole word with the beginning as it was typed, or the name of a
    token; `probability` that it comes next. Its `repr` shows no text.
    """

    kind: Kind
    text: str = field(repr=False)
    probability: float


@dataclass(frozen=True, slots=True)
class Context:
    """Where a person is after some tokens. `word` is what of a word was typed, None if unknown."""

    states: States = field(repr=False)
    history: History = field(repr=False)
    word: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Beginning:
    """A word that the beam has got so far."""

    log_probability: float
    node: Node
    letters: str
    row: int
    history: History


class Suggester:
    """Suggests from one model. Remembers the last context, so that a token more is one step."""

    def __init__(
        self, model: RecurrentModel, vocabulary: Vocabulary, head: PersonalHead | None = None
    ) -> None:
        """Raises ValidationError if model and vocabulary are not over the same tokens."""
        if model.vocabulary_size != vocabulary.size:
            raise ValidationError(
                f"the model is over {model.vocabulary_size} tokens, the vocabulary has "
                f"{vocabulary.size}; use the vocabulary of the model's plan"
            )
        self._model = model
        self._head = head
        self._names = [vocabulary.name(token) for token in range(vocabulary.size)]
        self._tree = WordTree(vocabulary)
        self._ends = np.array(self._tree.ends)
        kinds = [_kind_of(name) for name in self._names]
        self._of_kind = {
            kind: np.array([token for token, one in enumerate(kinds) if one is kind])
            for kind in (Kind.KEY, Kind.ACTION)
        }
        self._last: tuple[list[int], Context] = ([], self.begin())

    def suggest(self, tokens: Sequence[int], k: int = 3) -> list[Suggestion]:
        """Up to `k` suggestions of each kind after `tokens`, the most likely first in each."""
        held, context = self._last
        wanted = list(tokens)
        if wanted[: len(held)] == held:
            context = self.advance(context, wanted[len(held) :])
        else:
            context = self.advance(self.begin(), wanted[-_CONTEXT_TOKENS:])
        self._last = (wanted, context)
        return self.at(context, k)

    def begin(self) -> Context:
        """The context before any token."""
        states = self._model.advance(self._model.begin(), np.array([START]))
        return Context(states, (), "")

    def advance(self, context: Context, tokens: Iterable[int]) -> Context:
        """The context after more tokens."""
        states, history, word = context.states, context.history, context.word
        for token in tokens:
            states = self._model.advance(states, np.array([token]))
            history = extended(history, token)
            word = self._tree.typed(word, token)
        return Context(states, history, word)

    def at(self, context: Context, k: int) -> list[Suggestion]:
        """Up to `k` suggestions of each kind in a context."""
        chances = self.probabilities(context)
        return [
            *self.words(context, k),
            *(
                Suggestion(kind, self._names[token], float(chances[token]))
                for kind, tokens in self._of_kind.items()
                for token in _largest(chances, tokens, k)
            ),
        ]

    def likeliest(self, context: Context, kind: Kind, k: int) -> list[int]:
        """The `k` most likely tokens of a kind, keys or actions."""
        return _largest(self.probabilities(context), self._of_kind[kind], k)

    def kind(self, token: int) -> Kind | None:
        """Whether a token is a key or an action; None for neither."""
        return _kind_of(self._names[token])

    def name(self, token: int) -> str:
        """The readable name of a token."""
        return self._names[token]

    def probabilities(self, context: Context) -> NDArray[np.float64]:
        """The distribution of the next token: float64[vocabulary]."""
        chances: NDArray[np.float64] = self._mixed(context.states, [context.history])[0]
        return chances

    def words(self, context: Context, k: int) -> list[Suggestion]:
        """Up to `k` ways to complete the word being typed, or to begin the next.

        1. Begin with what was typed, which costs nothing any more.
        2. A beginning that is a word is done; it costs an end after it.
        3. Every letter that goes on makes a new beginning. Keep the likeliest `_BEAM` of those that
           could still be among the best k: a word never gets likelier by growing.
        4. Until there are none.
        """
        node = None if context.word is None else self._tree.find(context.word)
        if node is None or context.word is None:
            return []
        done: list[tuple[float, str]] = []
        live = [_Beginning(0.0, node, "", 0, context.history)]
        states = context.states
        while live:
            with np.errstate(divide="ignore"):
                logs = np.log(self._mixed(states, [each.history for each in live]))
            for each in live:
                if each.node.is_word and each.letters:
                    end = float(np.logaddexp.reduce(logs[each.row, self._ends]))
                    heapq.heappush(done, (each.log_probability + end, each.letters))
            done = heapq.nlargest(k, done)
            least = done[-1][0] if len(done) == k else -math.inf
            longer = [
                (each.log_probability + float(logs[each.row, token]), each, token, child)
                for each in live
                for token, child in each.node.children.items()
            ]
            best = heapq.nlargest(_BEAM, longer, key=lambda candidate: candidate[0])
            kept = [candidate for candidate in best if candidate[0] > least]
            if not kept:
                break
            tokens = np.array([token for _, _, token, _ in kept])
            states = self._model.advance(states[[each.row for _, each, _, _ in kept]], tokens)
            live = [
                _Beginning(
                    log_probability,
                    child,
                    each.letters + self._tree.text(token),
                    row,
                    extended(each.history, token),
                )
                for row, (log_probability, each, token, child) in enumerate(kept)
            ]
        return [
            Suggestion(Kind.WORD, context.word + letters, math.exp(log_probability))
            for log_probability, letters in done
        ]

    def _mixed(self, states: States, histories: Sequence[History]) -> NDArray[np.float64]:
        chances = self._model.probabilities(states)
        return chances if self._head is None else self._head.mix(chances, histories)


def _largest(chances: NDArray[np.float64], tokens: NDArray[np.int64], k: int) -> list[int]:
    """The `k` of `tokens` with the largest chances, ties by token."""
    best: list[int] = tokens[np.argsort(-chances[tokens], kind="stable")[:k]].tolist()
    return best


def _kind_of(name: str) -> Kind | None:
    if name.startswith(_NEITHER):
        return None
    return Kind.KEY if len(name) == 1 or name in _TYPING else Kind.ACTION
