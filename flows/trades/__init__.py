"""The failure tests of the reference platform of trades, one a file."""
