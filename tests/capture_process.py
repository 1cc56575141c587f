"""The capture process of tests: python tests/capture_process.py HOME

As shipped, but that it takes a program's events for a person's: on a test's display nobody else
types. The product has no setting for that.
"""

import sys
from pathlib import Path

from tacitly_client.capture.main import run_capture
from tacitly_client.home import AgentHome

if __name__ == "__main__":
    run_capture(AgentHome(Path(sys.argv[1])), keep_injected=True)
