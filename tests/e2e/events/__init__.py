"""A platform of web events that is none of ours: its processes, its gameday.toml, its failure tests and runbooks."""
