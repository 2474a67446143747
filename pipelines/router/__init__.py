"""A router of requests over a broker of any kind."""
