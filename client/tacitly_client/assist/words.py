"""The closed list of public words as a tree of tokens, and the word that is being typed.

No other word is ever suggested: what a person typed that is not on the list is in no suggestion.
"""

from dataclasses import dataclass, field
from typing import Final

from tacitly_client.redaction import public_words
from tacitly_common.vocabulary import Vocabulary

_BACKSPACE: Final = "Backspace"
# A word ends, and a next one may begin.
_ENDS: Final = ("Space", "Enter", "Tab", *'.,;:!?()[]{}"')
# Nothing is typed: the word goes on.
_BESIDE: Final = ("<pause", "<move", "<scroll")
# The field or the line is another, most likely an empty one.
_ANEW: Final = ("<start>", "<app")


@dataclass(slots=True)
class Node:
    """A place in the tree: the tokens that go on, and whether a word ends here."""

    children: dict[int, "Node"] = field(default_factory=dict)
    is_word: bool = False


class WordTree:
    """The public words in a vocabulary's tokens; empty where letters are no tokens of their own."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        names = [vocabulary.name(token) for token in range(vocabulary.size)]
        self._letters: Final = {name: token for token, name in enumerate(names) if len(name) == 1}
        self.ends: Final = [token for token, name in enumerate(names) if name in _ENDS]
        self._names: Final = names
        self.root: Final = Node()
        for word in sorted(public_words()):
            if all(letter in self._letters for letter in word):
                node = self.root
                for letter in word:
                    node = node.children.setdefault(self._letters[letter], Node())
                node.is_word = True

    def find(self, beginning: str) -> Node | None:
        """Where words that begin so go on, whatever their case; None if none does."""
        node: Node | None = self.root
        for letter in beginning.lower():
            if node is None:
                return None
            node = node.children.get(self._letters.get(letter, -1))
        return node if node is not None and node.children else None

    def text(self, token: int) -> str:
        """The letter of a token of the tree."""
        return self._names[token]

    def typed(self, word: str | None, token: int) -> str | None:
        """The word being typed after one more token: "" between words, None if it is not known.

        A caret that was moved, and what a chord may have pasted, leave it unknown to the next end.
        """
        name = self._names[token]
        if name in _ENDS or name.startswith(_ANEW):
            return ""
        if name.startswith(_BESIDE):
            return word
        if word is None:
            return None
        if name == _BACKSPACE:
            return word[:-1] if word else None
        return word + name if len(name) == 1 else None
