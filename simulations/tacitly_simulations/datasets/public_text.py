"""English prose that Python itself ships, for synthetic typists: two sources with nothing shared.

`reference_manual` is for the typists who stand for private persons, `docstrings` for public
typists that a start model may learn from.
"""

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType, ModuleType
from typing import Final

_MODULES: Final = (
    "argparse asyncio collections concurrent.futures configparser contextlib csv datetime decimal "
    "difflib doctest email.message enum fractions functools gettext heapq http.server imaplib "
    "inspect ipaddress itertools json logging mailbox multiprocessing.pool optparse os pathlib "
    "pickle plistlib pprint random re selectors shelve shutil smtplib socket sqlite3 statistics "
    "string subprocess tarfile tempfile textwrap threading timeit traceback unittest "
    "urllib.request uuid weakref xml.dom.minidom zipfile"
)
_LEAST_CHARACTERS: Final = 60
_LEAST_LETTERS: Final = 0.9  # of a paragraph, with its spaces: code has fewer

Texts = Mapping[str, tuple[str, ...]]


@cache
def reference_manual() -> Texts:
    """Paragraphs of the language reference, by topic."""
    from pydoc_data.topics import topics

    return _texts({name: (text,) for name, text in topics.items()})


@cache
def docstrings() -> Texts:
    """Paragraphs of the standard library's docstrings, by module."""
    return _texts(
        {name: tuple(_documents(importlib.import_module(name))) for name in _MODULES.split()}
    )


def _documents(module: ModuleType) -> Iterator[str]:
    yield _docstring(module)
    for member in vars(module).values():
        if getattr(member, "__module__", None) != module.__name__:
            continue
        yield _docstring(member)
        if inspect.isclass(member):
            yield from map(_docstring, vars(member).values())


def _docstring(thing: object) -> str:
    text = getattr(thing, "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) else ""


def _texts(documents: Mapping[str, tuple[str, ...]]) -> Texts:
    """The prose among the documents, each paragraph once and on one line; no empty entry."""
    seen: set[str] = set()
    texts: dict[str, tuple[str, ...]] = {}
    for name in sorted(documents):
        paragraphs = [
            paragraph
            for document in documents[name]
            for block in re.split(r"\n\s*\n", document)
            if _is_prose(paragraph := " ".join(block.split())) and paragraph not in seen
        ]
        seen.update(paragraphs)
        if paragraphs:
            texts[name] = tuple(dict.fromkeys(paragraphs))
    return MappingProxyType(texts)


def _is_prose(paragraph: str) -> bool:
    letters = sum(character.isalpha() or character == " " for character in paragraph)
    return len(paragraph) >= _LEAST_CHARACTERS and letters >= _LEAST_LETTERS * len(paragraph)
