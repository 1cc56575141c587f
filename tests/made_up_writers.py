"""Made-up people in CoAuthor's format."""

import json
import lzma
from pathlib import Path


def write_coauthor(folder: Path, *, writers: int, text: str) -> None:
    """Write a data set of so many writers, `w0`, `w1` and on, each of whom types `text` once."""
    (folder / "sessions").mkdir()
    index = ["session_id,writer,start_ms"]
    for writer in range(writers):
        rows = [
            {
                "eventName": "text-insert",
                "eventSource": "user",
                "eventTimestamp": 1_000 * number,
                "textDelta": {"ops": [{"insert": character}]},
            }
            for number, character in enumerate(text)
        ]
        lines = "\n".join(map(json.dumps, rows)).encode()
        (folder / "sessions" / f"s{writer}.jsonl.xz").write_bytes(lzma.compress(lines))
        index.append(f"s{writer},w{writer},0")
    (folder / "sessions.csv").write_text("\n".join(index) + "\n")
