"""The router's platform over Valkey's streams: compose/router/processes.py says what runs."""

from __future__ import annotations

from pathlib import Path

from compose.router.processes import RULES, VALKEY
from compose.servers import Report
from gameday.state import State

__all__ = ["CONFIG", "PORTS", "RULES", "SECRETS", "get", "links", "preparations", "processes", "targets"]

CONFIG = Path(__file__).with_name("gameday.toml")

PORTS, SECRETS = VALKEY.all_ports, VALKEY.all_secrets
links, targets = VALKEY.links, VALKEY.targets
processes, preparations = VALKEY.processes, VALKEY.preparations


def get(state: State, report: Report) -> None:
    """Get every server. Idempotent; what an earlier, interrupted call got is kept."""
    VALKEY.get(report)
