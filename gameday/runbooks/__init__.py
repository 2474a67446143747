"""Runbooks: their blocks, and the evidence that is written back into them."""
