"""Made-up people in the format of a recorded data set."""

import json
import lzma
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four made-up writers in CoAuthor's format."""
    folder = tmp_path_factory.mktemp("coauthor")
    (folder / "sessions").mkdir()
    index = ["session_id,writer,start_ms"]
    for writer in range(4):
        rows = [
            {
                "eventName": "text-insert",
                "eventSource": "user",
                "eventTimestamp": 1_000 * number,
                "textDelta": {"ops": [{"insert": character}]},
            }
            for number, character in enumerate("the quick brown fox " * 15)
        ]
        text = "\n".join(map(json.dumps, rows)).encode()
        (folder / "sessions" / f"s{writer}.jsonl.xz").write_bytes(lzma.compress(text))
        index.append(f"s{writer},w{writer},0")
    (folder / "sessions.csv").write_text("\n".join(index) + "\n")
    return folder
