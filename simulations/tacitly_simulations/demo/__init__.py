"""A real deployment on one machine: server, agents and budgets as separate processes."""
