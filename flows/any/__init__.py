"""Failure tests of any component: each is run for every one that opted in."""
