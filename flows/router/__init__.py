"""The failure tests of the router platform, one a file."""
