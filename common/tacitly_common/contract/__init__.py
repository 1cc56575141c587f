"""The privacy contract: what officers sign, and what devices check trusting nobody else."""
