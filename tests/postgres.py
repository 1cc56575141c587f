"""A private PostgreSQL: a cluster in a temporary directory, reached by a Unix socket.

Debian's package is enough (`apt-get install postgresql`); its service need not run. Where it is
missing, tests are skipped, but fail with TACITLY_REQUIRE_POSTGRESQL=1: CI must not pass for want
of a package.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

REQUIRED_VARIABLE = "TACITLY_REQUIRE_POSTGRESQL"
_NUMBERS = count(1)


@dataclass(frozen=True)
class Cluster:
    """A running one."""

    sockets: Path
    user: str

    def url(self, database: str) -> str:
        return f"postgresql://{self.user}@/{database}?host={self.sockets}"

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"ledger_{os.getpid()}_{next(_NUMBERS)}"
        engine = create_engine(
            self.url("postgres").replace("postgresql:", "postgresql+psycopg:"),
            isolation_level="AUTOCOMMIT",
        )
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url(name)


def binaries() -> Path | None:
    """Where the newest installed version has its programs."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    return found[-1].parent if found else None


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Start one, stop it at the end. Skips, or fails, where PostgreSQL is not installed."""
    programs = binaries()
    if programs is None:
        reason = "PostgreSQL is not installed (apt-get install postgresql)"
        if os.environ.get(REQUIRED_VARIABLE) == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    # It refuses to run as root; the package brings a user.
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    directory = Path(tempfile.mkdtemp(prefix="tacitly-pg-"))
    if os.getuid() == 0:
        shutil.chown(directory, user)
    as_user = {"user": user} if os.getuid() == 0 else {}
    data = directory / "data"
    initialise = [programs / "initdb", "-D", data, "-U", user, "-A", "trust", "--no-sync"]
    subprocess.run(initialise, check=True, capture_output=True, cwd=directory, **as_user)  # type: ignore[call-overload]
    # Only sockets; killed clients are tested here, power cuts are not: no fsync.
    settings = ["-k", directory, "-c", "listen_addresses=", "-c", "fsync=off"]
    server = subprocess.Popen(  # type: ignore[call-overload]
        [programs / "postgres", "-D", data, *settings],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=directory,
        **as_user,
    )
    try:
        _wait(programs, directory, user)
        yield Cluster(directory, user)
    finally:
        server.terminate()
        server.wait(timeout=60)
        shutil.rmtree(directory)


def _wait(programs: Path, sockets: Path, user: str) -> None:
    ready = [programs / "pg_isready", "-q", "-h", sockets, "-U", user]
    until = time.monotonic() + 60
    while subprocess.run(ready, check=False).returncode != 0:
        assert time.monotonic() < until, "PostgreSQL does not start"
        time.sleep(0.05)
