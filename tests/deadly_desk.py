"""A desk that dies of SIGKILL at one step of the first enrolment.

python deadly_desk.py {claimed | registered | admitted} ARGUMENTS OF THE DESK
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from tacitly_server.control import Control
from tacitly_server.enrolment.registry import Registry
from tacitly_server.enrolment.service import main

STEPS: dict[str, tuple[type, str]] = {
    "claimed": (Registry, "claim"),
    "registered": (Control, "register"),
    "admitted": (Registry, "admit"),
}


def then_die(step: Callable[..., Any]) -> Callable[..., Any]:
    def deadly(*arguments: Any, **named: Any) -> None:
        step(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    return deadly


if __name__ == "__main__":
    owner, name = STEPS[sys.argv[1]]
    setattr(owner, name, then_die(getattr(owner, name)))
    sys.exit(main(sys.argv[2:]))
