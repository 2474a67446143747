"""The failure tests of the platform of change data capture, one a file."""
