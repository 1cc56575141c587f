"""Made-up people in the format of a recorded data set."""

from pathlib import Path

import pytest

from made_up_writers import write_coauthor


@pytest.fixture(scope="session")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four made-up writers in CoAuthor's format."""
    folder = tmp_path_factory.mktemp("coauthor")
    write_coauthor(folder, writers=4, text="the quick brown fox " * 15)
    return folder
