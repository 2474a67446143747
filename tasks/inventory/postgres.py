"""Tables, publications and slots of a Postgres database, by its catalogs, and the newest rows of its tables."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from gameday.drivers.postgres.session import Session, begin
from gameday.errors import DriverError
from gameday.stack.init.seen import Store, Table
from gameday.stack.init.values import column

__all__ = ["postgres"]

ASK_WITHIN_S = 5.0
TABLES_MAX = 5_000
TABLES_READ_MAX = 40
"""Tables whose rows are read: those with the most."""

ROWS = 2_000
PAGES = 50
"""Of a table's end, where its newest rows mostly lie."""

COLUMNS_MAX = 100
IDENTITIES = {"d": "the primary key", "n": "nothing", "f": "full", "i": "an index"}
PLAIN = re.compile("[A-Za-z_][A-Za-z0-9_]*")

TABLES = f"""
SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relkind, c.relreplident,
    greatest(c.reltuples, 0)::bigint, pg_relation_size(c.oid) / current_setting('block_size')::int,
    has_table_privilege(c.oid, 'SELECT')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition
    AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'
ORDER BY c.reltuples DESC, 2 LIMIT {TABLES_MAX}"""

COLUMNS = """
SELECT attrelid, attname, format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute
WHERE attnum > 0 AND NOT attisdropped AND attrelid = ANY ('{%s}'::oid[]) ORDER BY attrelid, attnum"""

KEYS = """
SELECT i.indrelid, a.attname
FROM pg_catalog.pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place), pg_catalog.pg_attribute a
WHERE i.indisprimary AND i.indrelid = ANY ('{%s}'::oid[]) AND a.attrelid = i.indrelid AND a.attnum = k.number
ORDER BY i.indrelid, k.place"""


def postgres(dsn: str) -> tuple[Store, list[str]]:
    """What is there, and what was refused. Raises DriverError where it doesn't answer."""
    troubles: list[str] = []
    with Session(dsn, ASK_WITHIN_S) as session:
        session.rows(begin(ASK_WITHIN_S))
        told = session.rows(TABLES)
        refused = [str(row[1]) for row in told if row[6] != "t"]
        if refused:
            troubles.append(
                f"Postgres: no right to SELECT from {', '.join(refused[:5])}{', …' if len(refused) > 5 else ''}"
            )
        open_ = [row for row in told if row[6] == "t"]
        ids = ",".join(str(row[0]) for row in open_)
        columns: dict[str, dict[str, str]] = defaultdict(dict)
        for number, name, type_ in session.rows(COLUMNS % ids):
            if PLAIN.fullmatch(str(name)):
                columns[str(number)][str(name)] = str(type_)
        keys: dict[str, list[str]] = defaultdict(list)
        for number, name in session.rows(KEYS % ids):
            keys[str(number)].append(str(name))
        publications: dict[str, list[str]] = defaultdict(list)
        for publication, table in session.rows(
            "SELECT pubname, quote_ident(schemaname) || '.' || quote_ident(tablename) "
            "FROM pg_catalog.pg_publication_tables"
        ):
            publications[str(publication)].append(str(table))
        slots = {
            str(name): f"{plugin or 'physical'}, {'in use' if active == 't' else 'not in use'}"
            for name, plugin, active in session.rows(
                "SELECT slot_name, plugin, active FROM pg_catalog.pg_replication_slots "
                "WHERE database IS NULL OR database = current_database()"
            )
        }
        session.rows("COMMIT")
    found = []
    for number, called, kind, identity, rows, pages, _ in open_[:TABLES_READ_MAX]:
        its = columns[str(number)]
        described = Table(
            str(called),
            {"r": "table", "p": "partitioned table", "v": "view", "m": "materialized view"}[str(kind)],
            its,
            tuple(keys[str(number)]),
            int(rows or 0),
            identity=IDENTITIES.get(str(identity), "") if kind in ("r", "p") else "",
        )
        try:
            found.append(_read(dsn, described, int(pages or 0) if kind == "r" else 0))
        except DriverError as e:
            troubles.append(f"{called}: {e}")
    return (
        Store(
            "postgres", dsn, found, publications=publications, slots=slots, unread=max(0, len(open_) - TABLES_READ_MAX)
        ),
        troubles,
    )


def _read(dsn: str, table: Table, pages: int) -> Table:
    """With its newest rows: those that lie in its last pages, where it has pages; else any."""
    kinds = {name: kind for name, type_ in table.columns.items() if (kind := column(type_)) is not None}
    kinds = dict(list(kinds.items())[:COLUMNS_MAX])
    if not kinds:
        return table
    listed = ", ".join(_text(name, kind.kind) for name, kind in kinds.items())
    end = f" WHERE ctid >= '({pages - PAGES},0)'" if pages > PAGES else ""
    most = 10 * ROWS if end else ROWS
    with Session(dsn, ASK_WITHIN_S) as session:
        rows: Sequence[Sequence[str | None]] = session.rows(
            f"{begin(ASK_WITHIN_S)}; SELECT {listed} FROM {table.name}{end} LIMIT {most}; COMMIT"
        )
    held = [dict(zip(kinds, row, strict=True)) for row in rows[-ROWS:]]
    return Table(table.name, table.engine, table.columns, table.key, table.held, held, table.identity)


def _text(name: str, kind: str) -> str:
    quoted = f'"{name}"'
    if kind == "time":
        return f"(extract(epoch FROM {quoted}) * 1000000)::bigint::text"
    return f"{quoted}::text"
