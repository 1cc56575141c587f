"""The table of docs/endpoint-trials.md: python -m trials.table [EARLIER.jsonl ...] ROWS.jsonl

A row of a later file takes the place of an earlier one's; what is left of those is marked.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from trials.__main__ import PLACES

HEAD = (
    "| place | trials | arrived | letters leaked | files with it | memory images with it "
    "| plain words stored |\n|---|---|---|---|---|---|---|"
)


def main(paths: Sequence[str]) -> None:
    """Print it, in the order of the places."""
    rows = {}
    for path in paths:
        mark = "" if path == paths[-1] else " ¹"
        for line in Path(path).read_text().splitlines():
            row = json.loads(line)
            rows[row["place"]] = row | {"mark": mark}
    print(HEAD)
    for row in (rows[place] for place in PLACES if place in rows):
        cells = (
            f"{row['place']}{row['mark']}",
            *(row[name] for name in ("trials", "arrived", "leaked")),
            f"{row['files_with']} of {row['files']}",
            f"{row['images_with']} of {row['images']}",
            row["plain_words_stored"],
        )
        print(f"| {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main(sys.argv[1:])
