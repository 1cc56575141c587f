"""The whole agent of tests: python -P tests/agent_process.py HOME

As `tacitly-agent run` on a desktop, but that its capture is that of `capture_process.py`.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

from tacitly_client.daemon.supervisor import parts_for, supervise
from tacitly_client.home import AgentHome
from tacitly_client.processes import log_to_stderr

if __name__ == "__main__":
    log_to_stderr()
    # The processes that this one starts find `capture_process` beside it.
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    parts = [
        replace(part, module="capture_process") if part.name == "capture" else part
        for part in parts_for(os.environ, capture=True)
    ]
    supervise(AgentHome(Path(sys.argv[1])), parts)
