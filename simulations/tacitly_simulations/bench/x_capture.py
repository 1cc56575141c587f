"""The capture process as the bench runs it: python -m tacitly_simulations.bench.x_capture HOME

As it ships, but that a program's events count: nobody else types on the bench's display.
"""

import sys
from pathlib import Path

from tacitly_client.capture.main import run_capture
from tacitly_client.home import AgentHome

if __name__ == "__main__":
    run_capture(AgentHome(Path(sys.argv[1])), keep_injected=True)
