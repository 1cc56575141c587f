"""What was measured of a model's use, and what that says about a campaign's settings."""
