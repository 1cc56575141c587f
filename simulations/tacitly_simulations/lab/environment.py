"""What a study ran on: written beside its results, and what may not change when it goes on."""

import hashlib
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

_PACKAGES: Final = ("tacitly", "torch", "numpy", "flwr", "opacus", "ray", "pyarrow")


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Versions by package, the SHA-256 of all data read, the commit of the code ("" unknown)."""

    python: str
    machine: str
    packages: dict[str, str]
    data_sha256: str
    commit: str


def environment_of(data: Path) -> Environment:
    """The environment of a study on the data set in the folder `data`."""
    return Environment(
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        packages={name: version(name) for name in _PACKAGES},
        data_sha256=folder_sha256(data),
        commit=_commit(),
    )


def folder_sha256(folder: Path) -> str:
    """SHA-256, hex, over the names and contents of all files below `folder`."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder)}\0{content}\n".encode())
    return digest.hexdigest()


def _commit() -> str:
    """Of the checkout this code lies in, with "+changes" where it was changed."""
    command = ("git", "-C", str(Path(__file__).parent))
    try:
        head = subprocess.run(
            [*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            [*command, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
