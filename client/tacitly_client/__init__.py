"""The endpoint: what runs on a person's own machine."""
