"""gameday.toml, and the live stack that it describes."""
