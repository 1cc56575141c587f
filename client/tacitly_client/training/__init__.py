"""Windows of a person's events -> DP-SGD -> a clipped, noised update, in a process of its own."""
