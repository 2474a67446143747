"""Create the platform's ClickHouse objects: python -m pipelines.trades.schema --brokers HOST:PORT, and the
environment's CLICKHOUSE_URL.

The objects are in the .sql files beside this one. Idempotent: objects that are right are left alone, and readers of the
log are only rebuilt when their SQL or the brokers have changed. Tables with data are never dropped.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipelines.trades.addresses import BROKERS, CLICKHOUSE, HTTP, given

__all__ = ["DATABASE", "SchemaError", "apply", "main", "query", "statements"]

DATABASE = "trades"
FILES = ("bronze.sql", "silver.sql", "gold.sql", "feed.sql")
"""In the order of dependency; the feed comes last, because it starts the flow."""

READERS = (
    "feed_to_bronze",
    "feed",
    "bronze_to_silver",
    "bronze_to_dead_letters",
    "silver_raw_to_heads",
    "gold_to_gold",
    "silver_to_gold",
)
"""The objects without data, in the order in which they are dropped: the flow stops first, so that no row passes a
missing reader.
"""

TIMEOUT_S = 30.0


class SchemaError(Exception):
    """The server didn't answer or refused; the message names the remedy."""


def statements(brokers: str, files: Sequence[str] = FILES) -> Iterator[str]:
    """The SQL of all objects of these files, in order."""
    for name in files:
        text = Path(__file__).with_name(name).read_text()
        lines = [line for line in text.splitlines() if not line.startswith("--")]
        for statement in "\n".join(lines).split(";\n"):
            if statement.strip(" \n;"):
                yield statement.strip(" \n;").replace("{brokers}", brokers)


def apply(url: str, brokers: str) -> bool:
    """Make the objects what the files say. Return whether anything had to be done. Raises SchemaError if that fails."""
    if not re.fullmatch(BROKERS, brokers):
        raise SchemaError(f"--brokers is {brokers!r}. Remedy: HOST:PORT, several separated by commas")
    wanted = list(statements(brokers))
    print_ = hashlib.sha256("\n".join(wanted).encode()).hexdigest()
    query(url, f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Atomic")
    if (
        query(url, f"SELECT comment FROM system.tables WHERE database = '{DATABASE}' AND name = 'feed_to_bronze'")
        == print_
    ):
        return False
    for name in READERS:
        query(url, f"DROP TABLE IF EXISTS {DATABASE}.{name} SYNC")
    for statement in wanted:
        query(url, statement)
    query(url, f"ALTER TABLE {DATABASE}.feed_to_bronze MODIFY COMMENT '{print_}'")
    return True


def query(url: str, sql: str) -> str:
    """Run one statement over HTTP. Return its answer without the last line end."""
    parts = urlsplit(url)
    request = urllib.request.Request(
        f"{parts.scheme}://{parts.hostname}:{parts.port or 8123}/", data=sql.encode(), method="POST"
    )
    if parts.username:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return str(answer.read().decode(errors="replace")).rstrip("\n")
    except urllib.error.HTTPError as e:
        text = e.read().decode(errors="replace").strip()
        remedy = f"the user and password in {CLICKHOUSE}" if e.code in (401, 403, 516) else "see the server's message"
        raise SchemaError(
            f"ClickHouse refused (HTTP {e.code}): {sql.splitlines()[0][:100]} …: {text[:1000]}. Remedy: {remedy}"
        ) from e
    except OSError as e:
        raise SchemaError(
            f"no ClickHouse at {parts.hostname}:{parts.port}: {e}. Remedy: start it, or mend {CLICKHOUSE}"
        ) from e


def main() -> int:
    """Exit 1 when the server refuses or doesn't answer."""
    parser = argparse.ArgumentParser(description="Create the trades platform's tables and views in ClickHouse.")
    parser.add_argument("--brokers", required=True, help="HOST:PORT,... as ClickHouse reaches them")
    options = parser.parse_args()
    url = given(parser, CLICKHOUSE, HTTP, "http://USER:PASSWORD@HOST:PORT")
    try:
        changed = apply(url, options.brokers)
    except SchemaError as e:
        sys.stderr.write(f"schema: {e}\n")
        return 1
    sys.stdout.write("schema: created\n" if changed else "schema: up to date\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
