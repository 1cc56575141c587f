"""Eight plays by Shakespeare, a person being a role: text that nobody typed.

A role's lines in one play are one session, each line its characters and Enter. There is no
time in a play: characters lie a microsecond apart (see `typed`) from 1970 on. A speech of
several speakers is each one's; stage directions are nobody's.
"""

import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree as ET

from tacitly_simulations.datasets.person import Person, reading, typed


def load(directory: Path) -> Iterator[Person]:
    """298 roles, named `play/ROLE`."""
    path = directory / "shakespeare.zip"
    with reading(path), zipfile.ZipFile(path) as archive:
        plays = sorted(name for name in archive.namelist() if name.endswith(".xml"))
        texts = {PurePosixPath(name).stem: archive.read(name) for name in plays}
    for play, text in texts.items():
        with reading(path):
            roles = _roles(text)
        for role in sorted(roles):
            session = tuple(typed("".join(roles[role]), wall_ns=0, started_ns=0))
            yield Person(f"{play}/{role}", (session,))


def _roles(play: bytes) -> dict[str, list[str]]:
    """Lines, with their ends, by role."""
    roles: dict[str, list[str]] = defaultdict(list)
    for speech in ET.fromstring(play).iter("SPEECH"):  # noqa: S314
        lines = [_spoken(line) for line in speech.findall("LINE")]
        for speaker in speech.findall("SPEAKER"):
            roles[speaker.text or "(unnamed)"].extend(lines)
    return roles


def _spoken(line: ET.Element) -> str:
    directions = "".join(direction.tail or "" for direction in line)
    return f"{line.text or ''}{directions}".strip() + "\n"
