"""Types and points at DISPLAY: python -m tacitly_simulations.bench.x_typist MOTIONS SECONDS

As many motions a second, eight keys, and a click each two seconds, evenly in time.
"""

import os
import sys
import time
from typing import Any, Final

import xcffib
import xcffib.xproto
import xcffib.xtest

_STEP_SECONDS: Final = 0.004
_KEYS_A_SECOND: Final = 8
_CLICKS_A_SECOND: Final = 0.5
_KEY_DOWN, _KEY_UP, _BUTTON_DOWN, _BUTTON_UP, _MOTION = range(2, 7)
_LETTERS: Final = (*range(24, 34), *range(38, 47), *range(52, 59))


def main(motions_a_second: float, seconds: float) -> None:
    """Until the time is over."""
    connection: Any = xcffib.Connection(os.environ["DISPLAY"])
    test = connection(xcffib.xtest.key)
    root = connection.setup.roots[0].root

    def fake(kind: int, detail: int = 0, x: int = 0, y: int = 0) -> None:
        test.FakeInput(kind, detail, 0, root, x, y, 0)

    began = time.monotonic()
    moves = keys = clicks = 0
    while (now := time.monotonic() - began) < seconds:
        while moves < now * motions_a_second:
            way = moves % 2_000
            fake(_MOTION, 0, min(way, 1_999 - way), 100 + way % 700)
            moves += 1
        while keys < now * _KEYS_A_SECOND:
            code = _LETTERS[keys % len(_LETTERS)]
            fake(_KEY_DOWN, code)
            fake(_KEY_UP, code)
            keys += 1
        while clicks < now * _CLICKS_A_SECOND:
            fake(_BUTTON_DOWN, 1)
            fake(_BUTTON_UP, 1)
            clicks += 1
        connection.flush()
        time.sleep(_STEP_SECONDS)


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]))
