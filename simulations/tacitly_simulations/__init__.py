"""Evaluation: recorded data, the demo, and the same code under Flower's simulation engine."""
