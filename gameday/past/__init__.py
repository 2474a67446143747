"""What earlier nights found, in gameday's Postgres."""
