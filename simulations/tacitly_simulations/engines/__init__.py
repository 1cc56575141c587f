"""Ways to run many clients on one machine."""
