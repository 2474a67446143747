"""Has the names and numbers that all programs of the router share, and makes the backend."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping

from pipelines.router.backends import Backend, Names
from pipelines.router.defects import DEFECTS

__all__ = [
    "ACK_WAIT_S",
    "ADDRESS",
    "BACKENDS",
    "DECISIONS",
    "LABELS",
    "LETTERS",
    "MAX_DELIVER",
    "REQUESTS",
    "backend",
    "common",
    "defect",
]

REQUESTS = Names("requests", "dlq.requests", "routers")
DECISIONS = Names("decisions", "dlq.decisions", "workers")
LETTERS = Names(REQUESTS.dead, "dlq.letters", "clerks")
"""The streams: requests for the routers, decisions for the workers, and dead letters, which a worker stores too."""

LABELS: Mapping[str, str] = {
    REQUESTS.requests: "requests",
    DECISIONS.requests: "decisions",
    REQUESTS.dead: "letters",
}
"""Stream or topic -> its name in metrics."""

ACK_WAIT_S = 10.0
"""How long a broker waits for the answer to a delivery."""

MAX_DELIVER = 5
"""How often a message is delivered at most."""

UNBOUNDED = 10**9

ADDRESS = "BROKER_URL"
"""The variable of the address: nats://user:password@host:port, redis://user:password@host:port, or Kafka's host:port,…
"""

BACKENDS = ("jetstream", "kafka", "valkey")


def backend(kind: str, address: str, names: Names, ack_wait_s: float) -> Backend:
    """Return a backend, not connected. Only its own client is imported. The broker limits the deliveries (Kafka's
    settings), else Wire does."""
    if kind == "jetstream":
        from pipelines.router.backends.jetstream import JetStream

        return JetStream(address, names, ack_wait_s, UNBOUNDED)
    if kind == "kafka":
        from pipelines.router.backends.kafka import Kafka

        return Kafka(address, names, ack_wait_s, MAX_DELIVER)
    from pipelines.router.backends.valkey import Valkey

    return Valkey(address, names, ack_wait_s, UNBOUNDED)


def common(about: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all programs have."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--backend", choices=BACKENDS, required=True)
    parser.add_argument("--port", type=int, required=True, help="for /healthz and /metrics")
    parser.add_argument(
        "--ack-wait", type=float, default=ACK_WAIT_S, help=f"seconds that the broker waits (default {ACK_WAIT_S:g})"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    return parser


def defect(parser: argparse.ArgumentParser) -> str:
    """Return the planted defect; "": none."""
    found = os.environ.get("ROUTER_DEFECT", "")
    if found and found not in DEFECTS:
        parser.error(f"ROUTER_DEFECT is {found!r}. Remedy: one of {', '.join(DEFECTS)}, or none")
    return found
