"""Checks the addresses that the pipeline's programs take. An address with a password comes by the environment, because
every user can read arguments.
"""

from __future__ import annotations

import argparse
import os
import re

__all__ = ["BROKERS", "CLICKHOUSE", "DSN", "HTTP", "given"]

CLICKHOUSE = "CLICKHOUSE_URL"

LOGIN = r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*"
HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s/?#@:,'\\\[\]]+)"
HTTP = rf"https?://(?:{LOGIN}@)?{HOST}:[0-9]{{1,5}}"
DSN = rf"postgresql://(?:{LOGIN}@)?{HOST}(?::[0-9]{{1,5}})?/[^/\s]+"
"""As in RFC 3986: special characters in a password are percent-encoded."""

BROKERS = rf"{HOST}:[0-9]{{1,5}}(?:,{HOST}:[0-9]{{1,5}})*"


def given(parser: argparse.ArgumentParser, name: str, pattern: str, example: str) -> str:
    """Return the environment's value of that name. If it is missing or no such address, end the program with exit code
    2, without printing the value."""
    value = os.environ.get(name, "")
    if not re.fullmatch(pattern, value):
        state = "no such address" if value else "not set"
        parser.error(f"{name} is {state}. Remedy: {example}, with what is special in the password percent-encoded")
    return value
