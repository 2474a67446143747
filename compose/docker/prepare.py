"""Prepares what the containers need to work together, each thing once its server serves. Idempotent.

`python -m compose.docker.prepare databases` makes those that $SERVERS names (URL=NAME,NAME …); `platform` makes topics,
tables, views, the archive and the offload's deployments, from the environment that the offload has.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from compose.servers import kafka, postgres
from compose.trades.processes import TOPICS
from gameday.errors import GamedayError

__all__ = ["databases", "main", "platform"]

READERS_BROKERS = "toxiproxy.data:9104"
"""The broker as ClickHouse reaches it: over its link."""

CLICKHOUSE_LINK, CLICKHOUSE = "@toxiproxy.data:9105", "@clickhouse.data:8123"
"""Tables are made directly at the server, not over the link that the offload reads over."""


def databases(servers: str) -> None:
    """servers: URL=NAME,NAME …, separated by spaces."""
    for one in servers.split():
        url, _, names = one.rpartition("=")
        for name in names.split(","):
            postgres.create_database(url, name)


def platform() -> None:
    """Make topics first, because views read them; deployments last, because their runs need all the rest."""
    kafka.create_topics(os.environ["OFFLOAD_BROKERS"], TOPICS)
    url = os.environ["OFFLOAD_CLICKHOUSE_URL"].replace(CLICKHOUSE_LINK, CLICKHOUSE)
    _run("pipelines.trades.schema", "--brokers", READERS_BROKERS, env={"CLICKHOUSE_URL": url})
    _run("pipelines.trades.offload", "--prepare")
    _run("pipelines.trades.offload.flow")


def _run(module: str, *arguments: str, env: Mapping[str, str] = {}) -> None:
    done = subprocess.run([sys.executable, "-m", module, *arguments], env={**os.environ, **env}, check=False)
    if done.returncode:
        raise GamedayError(f"python -m {module} ended with {done.returncode}, for the reason above")


def main() -> int:
    """Do what the argument names. Exit 1: a server refused; the reason is printed."""
    try:
        if sys.argv[1:] == ["databases"]:
            databases(os.environ["SERVERS"])
        elif sys.argv[1:] == ["platform"]:
            platform()
        else:
            sys.exit("usage: python -m compose.docker.prepare databases|platform")
    except GamedayError as e:
        sys.exit(f"prepare: {e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
