"""Evaluation: recorded data, the demo, and the same code under Flower's simulation engine."""

import os

# Read when torch and numpy are loaded, also by processes started here. What runs in parallel here
# are processes; a second thread in each is one that spins, and doubles what a client costs.
os.environ.setdefault("OMP_NUM_THREADS", "1")
