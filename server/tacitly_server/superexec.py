"""Our SuperExec: Flower's, with our secret, that ends with its parent.

    python -m tacitly_server.superexec --home DIR --port P

It takes tasks from SuperLink at 127.0.0.1 and starts a `flwr-serverapp` process for each.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tacitly_common.errors import TacitlyError
from tacitly_common.processes import end_with_parent, living_children
from tacitly_server.home import ServerHome
from tacitly_server.private_files import read_private
from tacitly_server.request_guard import OPERATOR_ADDRESS
from tacitly_server.superlink import FLOWER_ENVIRONMENT


def main(arguments: Sequence[str] | None = None) -> int:
    """The process `tacitly-server up` runs and restarts. Exit 2: it cannot start like this."""
    parser = argparse.ArgumentParser(prog="tacitly_server.superexec")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--parent-pid", type=int, help="end when this parent process ends")
    given = parser.parse_args(arguments)
    os.umask(0o077)
    os.environ.update(FLOWER_ENVIRONMENT)
    home = ServerHome(given.home)
    try:
        if given.parent_pid is not None:
            end_with_parent(given.parent_pid)
        secret = read_private(home.superexec_secret)
    except TacitlyError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code

    from tacitly_server import flower_port as flower

    try:
        flower.run_superexec(f"{OPERATOR_ADDRESS}:{given.port}", home.tls / "ca.crt", secret)
    finally:
        # A ServerApp watches for our process id, which lives on until somebody waits for us.
        for pid in living_children(os.getpid()):
            os.kill(pid, signal.SIGTERM)
    return 0


if __name__ == "__main__":
    sys.exit(main())
