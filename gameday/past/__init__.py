"""Keeps what earlier nights found, in gameday's Postgres."""
