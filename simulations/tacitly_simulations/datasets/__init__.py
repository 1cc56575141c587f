"""Recorded, real interaction data as common events, by person.

    for person in load("coauthor", Path("data/coauthor")):
        tokens = vocabulary.encode(person.events)

A loader reads one data set's own files, unchanged, from that data set's folder. It streams:
one `Person` at a time, in a fixed order.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tacitly_simulations.datasets import (
    adserp,
    coauthor,
    keyboard_study,
    mousetrap,
    shakespeare,
    ubuntu_irc,
)
from tacitly_simulations.datasets.person import DatasetError, Person

__all__ = ["DATASETS", "DatasetError", "Person", "load"]

DATASETS: Final = MappingProxyType[str, Callable[[Path], Iterator[Person]]](
    {
        "adserp_sample": adserp.load,
        "coauthor": coauthor.load,
        "keyboard_field_study": keyboard_study.load,
        "mousetrap_kh2017": mousetrap.load,
        "shakespeare_roles": shakespeare.load,
        "ubuntu_irc": ubuntu_irc.load,
    }
)


def load(name: str, directory: Path) -> Iterator[Person]:
    """The persons of the data set `name`, read from its folder.

    Raises:
        DatasetError: no such data set, or (at once or when the file's turn comes) a file is
            missing or malformed. Messages name the file and quote none of its content.
    """
    if name not in DATASETS:
        raise DatasetError(f"no data set {name!r:.80}; there are {', '.join(DATASETS)}")
    if not directory.is_dir():
        raise DatasetError(f"{directory} is no folder; name the folder that holds {name}")
    return DATASETS[name](directory)
