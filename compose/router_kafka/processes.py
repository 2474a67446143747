"""The router's platform over a share group of Apache Kafka: compose/router/processes.py says what runs."""

from __future__ import annotations

from pathlib import Path

from compose.router.processes import KAFKA, RULES
from compose.servers import Report
from gameday.state import State

__all__ = ["CONFIG", "PORTS", "RULES", "SECRETS", "get", "links", "preparations", "processes", "targets"]

CONFIG = Path(__file__).with_name("gameday.toml")

PORTS, SECRETS = KAFKA.all_ports, KAFKA.all_secrets
links, targets = KAFKA.links, KAFKA.targets
processes, preparations = KAFKA.processes, KAFKA.preparations


def get(state: State, report: Report) -> None:
    """Get every server. Idempotent; what an earlier, interrupted call got is kept."""
    KAFKA.get(report)
