"""The simulation lab: studies described in TOML, run on either engine, reported."""
