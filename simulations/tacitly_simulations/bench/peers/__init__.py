"""Other simulators at the work of `bench/engines.py`: scripts that `engines_others.py` runs."""
