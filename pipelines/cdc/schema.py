"""Create the tables of the CDC platform: python -m pipelines.cdc.schema source|target, with SOURCE_URL or TARGET_URL in
the environment.

The tables are in source.sql and target.sql. Idempotent: existing objects stay as they are. For the source,
CONNECT_PASSWORD makes the role `connect`, as which Debezium logs in: it may replicate and read, and nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from pipelines.trades.addresses import DSN, given

__all__ = ["SOURCE", "TARGET", "SchemaError", "apply", "grant", "main"]

SOURCE, TARGET = "SOURCE_URL", "TARGET_URL"
EXAMPLE = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
ROLE = "connect"
CONNECT_WITHIN_S = 10


class SchemaError(Exception):
    """The server didn't answer or refused; the message names the remedy."""


def apply(dsn: str, which: str) -> None:
    """Make the tables of `which`, source or target. Raises SchemaError when that fails."""
    sql = Path(__file__).with_name(f"{which}.sql").read_bytes()
    try:
        with psycopg.connect(dsn, connect_timeout=CONNECT_WITHIN_S) as connection:
            connection.execute(SQL("SELECT pg_advisory_xact_lock(719_004)"))
            connection.execute(sql)
    except psycopg.Error as e:
        raise _refused(which, e) from e


def grant(dsn: str, password: str) -> None:
    """Make the role as which Debezium logs in, or give it this password."""
    may = "LOGIN REPLICATION PASSWORD"
    try:
        with psycopg.connect(dsn, connect_timeout=CONNECT_WITHIN_S) as connection:
            known = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone() is not None
            verb = SQL("ALTER" if known else "CREATE")
            connection.execute(SQL("{} ROLE {} {} {}").format(verb, Identifier(ROLE), SQL(may), Literal(password)))
            connection.execute(SQL("GRANT SELECT ON customers, orders, items TO {}").format(Identifier(ROLE)))
            connection.execute(SQL("GRANT SELECT, INSERT, DELETE ON debezium_signal TO {}").format(Identifier(ROLE)))
    except psycopg.Error as e:
        raise _refused("source", e) from e


def _refused(which: str, why: psycopg.Error) -> SchemaError:
    name = SOURCE if which == "source" else TARGET
    return SchemaError(f"the tables of the {which} can't be made: {why}. Remedy: start it, or mend {name}")


def main() -> int:
    """Exit 1 when the server refuses or doesn't answer."""
    parser = argparse.ArgumentParser(description="Create the CDC platform's tables.")
    parser.add_argument("which", choices=("source", "target"))
    options = parser.parse_args()
    dsn = given(parser, SOURCE if options.which == "source" else TARGET, DSN, EXAMPLE)
    try:
        apply(dsn, options.which)
        if options.which == "source" and (password := os.environ.get("CONNECT_PASSWORD")):
            grant(dsn, password)
    except SchemaError as e:
        sys.stderr.write(f"schema: {e}\n")
        return 1
    sys.stdout.write(f"schema: the tables of the {options.which} are there\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
