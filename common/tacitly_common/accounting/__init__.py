"""What a release costs, and what that cost means."""
