"""The capture process of tests: python tests/capture_process.py HOME

As shipped, but that it takes a program's events for a person's, since on a test's display nobody
else types, and stores classes at once: without gate and hold-back, which `trials/capture.py` has.
The product has no setting for either.
"""

import sys
from pathlib import Path

from tacitly_client.capture.content import NoContent
from tacitly_client.capture.main import run_capture
from tacitly_client.home import AgentHome

if __name__ == "__main__":
    run_capture(AgentHome(Path(sys.argv[1])), content=NoContent(), keep_injected=True)
