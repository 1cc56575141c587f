"""The closed list of the level `words`: words of the text that Python itself ships, no names.

    make words       # writes client/tacitly_client/public_words.txt

A word counts if two modules or topics write it in lower case, and more often so than with a
capital: which leaves out names, and what one text alone says. Nobody's typing is looked at.
"""

import re
from collections import Counter
from typing import Final

from tacitly_simulations.datasets.public_text import docstrings, reference_manual

_WORD: Final = re.compile(r"(?<![\w'])[A-Za-z]+(?:'[a-z]+)?(?![\w'])")
# First names that are words as well. "will" and "may" stay: hardly a sentence is without.
_NAMES: Final = (
    "alma amber angel april art august bill carol cary chance charity chase clay cliff "
    "crystal dale dawn dean don drew eve faith frank gene glen grace grant guy hazel heather "
    "hope iris ivy jack jade jean jewel john joy june lance lily mark max melody mercy miles "
    "nick norm olive page pat pearl penny piper pierce ray reed rich rob robin rose ruby "
    "rusty sandy skip sky summer sue terry tim tom tony victor violet wade ward"
)
_HEAD: Final = """\
# Words that capture may keep at the level `words`. Made by `make words` from the documentation
# strings and the language reference of CPython (PSF-2.0); single words, no sentence of theirs.
"""


def public_words() -> list[str]:
    """The list, sorted. It differs a little between versions of Python."""
    names = set(_NAMES.split())
    texts: Counter[str] = Counter()
    small: Counter[str] = Counter()
    capital: Counter[str] = Counter()
    for source in (docstrings(), reference_manual()):
        for paragraphs in source.values():
            found = [word for paragraph in paragraphs for word in _WORD.findall(paragraph)]
            lower = [word for word in found if word.islower()]
            small.update(lower)
            capital.update(word.lower() for word in found if word.istitle())
            texts.update(set(lower))
    return sorted(
        word
        for word, count in texts.items()
        if count >= 2 and small[word] > capital[word] and word not in names
    )


if __name__ == "__main__":
    print(_HEAD + "\n".join(public_words()))
