"""Fixtures that every part's tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from forks import end_forkserver

# With --dist loadfile a file is one worker's. Half a minute to some minutes each, longest first.
LONGEST_FILES = (
    "test_kill_everything",
    "test_bad_input",
    "test_nothing_raw_leaves",
    "test_agent_kills",
    "test_officers_decide",
    "test_study",
    "test_lab",
    "test_assist_study",
    "test_node_agent",
    "test_worker",
    "test_masked",
    "test_flower_engine",
    "test_ray_cluster",
    "test_taking_no_part",
    "test_store_kills",
    "test_rounds_kill",
    "test_device_ledger",
    "test_ledger_machine",
)

# Before any test loads torch or numpy, which read it, and for every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _no_keyring_of_the_person_at_work() -> Iterator[None]:
    """Stores that tests make keep their keys in files: a session's keyring is the person's own."""
    with pytest.MonkeyPatch.context() as changed:
        changed.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
        yield


@pytest.fixture(scope="module", autouse=True)
def _no_forks_of_another_file() -> Iterator[None]:
    """What they have loaded is what that file's tests need: torch, or nothing, which takes long."""
    yield
    end_forkserver()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the recorded data sets, which lie beside the repository."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the recorded data sets (../shared/data) are not on this machine")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest files begin first, so that no worker is left alone with one at the end."""
    place = {name: number for number, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
