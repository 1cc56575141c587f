"""How a form is spoken to: a line of JSON in, a line out.

{"focus": "password"}   ->   {}            a script moves the focus
{"clear": true}         ->   {}
{"values": true}        ->   {"name": "ada", "password": "..."}     the truth of a trial
"""

import json
import sys
import threading
from collections.abc import Callable
from typing import Any


def serve(
    focus: Callable[[str], Any],
    values: Callable[[], dict[str, str]],
    clear: Callable[[], Any],
    in_windows: Callable[[Callable[[], Any]], Any],
) -> None:
    """Answer lines from a thread of its own; `in_windows` calls in the thread of the windows."""

    def answer(asked: dict[str, Any]) -> None:
        told: dict[str, str] = {}
        if "focus" in asked:
            focus(asked["focus"])
        elif "clear" in asked:
            clear()
        else:
            told = values()
        print(json.dumps(told), flush=True)

    def read() -> None:
        for line in sys.stdin:
            asked = json.loads(line)
            in_windows(lambda asked=asked: answer(asked))

    threading.Thread(target=read, daemon=True).start()
