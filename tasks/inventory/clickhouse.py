"""Tables, queues and views of a ClickHouse, by its system tables, and the newest rows of what may hold records."""

from __future__ import annotations

import re
from collections import defaultdict

from gameday.drivers.clickhouse import Server
from gameday.errors import DriverError
from gameday.stack.init.seen import Queue, Store, Table, View
from gameday.stack.init.values import column

__all__ = ["clickhouse", "queue", "view"]

ASK_WITHIN_S = 5.0

TABLES_MAX = 5_000
TABLES_READ_MAX = 40
"""Tables whose rows are read: those that a view fills, and those with the most rows."""

ROWS = 2_000
"""Of each table, its newest."""

COLUMNS_MAX = 100

FLUSH_MS = 7_500
"""ClickHouse's own, where a queue says nothing."""

OWN = "('system', 'INFORMATION_SCHEMA', 'information_schema')"
PLAIN = re.compile("[A-Za-z_][A-Za-z0-9_]*")


def clickhouse(url: str) -> tuple[Store, list[str]]:
    """What is there, and what was refused. Raises DriverError where it doesn't answer."""
    server = Server(url, {"max_threads": 2})
    told = server.rows(
        "SELECT database, name, engine, engine_full, ifNull(total_rows, 0), sorting_key, create_table_query, as_select "
        f"FROM system.tables WHERE database NOT IN {OWN} AND NOT is_temporary "
        f"ORDER BY total_rows DESC NULLS LAST, database, name LIMIT {TABLES_MAX}",
        ASK_WITHIN_S,
    )
    columns: dict[str, dict[str, str]] = defaultdict(dict)
    for database, table, name, kind in server.rows(
        f"SELECT database, table, name, type FROM system.columns WHERE database NOT IN {OWN} "
        "AND default_kind NOT IN ('ALIAS', 'EPHEMERAL') ORDER BY database, table, position",
        ASK_WITHIN_S,
    ):
        if PLAIN.fullmatch(name):
            columns[_name(database, table)][name] = kind
    queues, views, tables = [], [], []
    for database, name, engine, full, rows, key, created, select in told:
        called = _name(database, name)
        if engine == "Kafka":
            queues += [found] if (found := queue(called, full)) is not None else []
        elif engine == "MaterializedView":
            views += [found_view] if (found_view := view(called, database, created, select)) is not None else []
        elif "MergeTree" in engine or engine in ("Distributed", "Memory", "Log", "TinyLog", "StripeLog", "MySQL"):
            tables.append(Table(called, engine, columns[called], _key(key), int(rows)))
    filled = {one.target for one in views}
    wanted = [t for t in tables if t.held or t.engine in ("Distributed", "Memory", "Log", "TinyLog", "StripeLog")]
    wanted.sort(key=lambda table: (table.name not in filled, -table.held))
    unseen = "ClickHouse: its user sees no table. Remedy: GRANT SELECT ON NAME.*, or another user"
    troubles = [] if told else [unseen]
    read = []
    for table in wanted[:TABLES_READ_MAX]:
        try:
            read.append(_read(server, table))
        except DriverError as e:
            troubles.append(f"{table.name}: {e}")
    return Store("clickhouse", url, read, queues, views, unread=max(0, len(wanted) - TABLES_READ_MAX)), troubles


def queue(name: str, full: str) -> Queue | None:
    """Of a Kafka table's engine with its settings, in either form; None: it names no topics."""
    inside = re.match(r"Kafka\(([^)]*)\)", full)
    names = ("kafka_broker_list", "kafka_topic_list", "kafka_group_name", "kafka_format")
    told = dict(zip(names, re.findall("'([^']*)'", inside[1]) if inside else (), strict=False))
    told |= {key: text or bare for key, text, bare in re.findall(r"(kafka_\w+) = (?:'([^']*)'|([^\s,]+))", full)}
    if not told.get("kafka_topic_list"):
        return None
    flush = told.get("kafka_flush_interval_ms", "")
    return Queue(
        name,
        told.get("kafka_broker_list", ""),
        [topic.strip() for topic in told["kafka_topic_list"].split(",")],
        told.get("kafka_group_name", ""),
        told.get("kafka_format", ""),
        int(flush) if flush.isdigit() and int(flush) else FLUSH_MS,
    )


def view(name: str, database: str, created: str, select: str) -> View | None:
    """Of a materialized view into a table of its own name; None: it keeps its rows itself."""
    into = re.search(r"^CREATE MATERIALIZED VIEW \S+(?: UUID '[^']*')?(?: REFRESH .*?)? TO (\S+)", created)
    columns, rest = _columns(select)
    source = re.search(r"\bFROM\s+([\w.`]+)", rest)
    if into is None or source is None:
        return None
    return View(name, _full(source[1], database), _full(into[1], database), columns)


def _columns(select: str) -> tuple[dict[str, str], str]:
    """Column -> SQL of a SELECT, and the rest from its FROM on."""
    begins = re.match(r"(?:WITH .*? )?SELECT\s+(?:DISTINCT\s+)?", select, re.IGNORECASE | re.DOTALL)
    if begins is None:
        return {}, select
    depth, begin, at = 0, begins.end(), begins.end()
    pieces: list[str] = []
    for token in re.finditer(r"'(?:[^'\\]|\\.)*'|[(\[\])]|,|\bFROM\b", select[begin:], re.IGNORECASE):
        at = begins.end() + token.start()
        depth += (token[0] in ("(", "[")) - (token[0] in (")", "]"))
        if depth == 0 and (token[0] == "," or token[0].upper() == "FROM"):
            pieces.append(select[begin:at])
            begin = begins.end() + token.end()
            if token[0] != ",":
                break
    found = {}
    for piece in pieces:
        sql, _, name = piece.strip().rpartition(" AS ")
        if PLAIN.fullmatch(name := name.strip("` ")):
            found[name] = " ".join(sql.split()) or name
    return found, select[at:]


def _read(server: Server, table: Table) -> Table:
    """With its newest rows: by a time where it has one, else any."""
    kinds = {name: kind for name, type_ in table.columns.items() if (kind := column(type_)) is not None}
    kinds = dict(list(kinds.items())[:COLUMNS_MAX])
    if not kinds:
        return table
    listed = ", ".join(_text(name, kind.kind) for name, kind in kinds.items())
    times = [name for name, kind in kinds.items() if kind.kind == "time"]
    by = next((name for name in table.key if name in times), times[0] if times else None)
    sql = f"SELECT {listed} FROM {table.name}"
    try:
        rows = server.rows(f"{sql} ORDER BY {by} DESC LIMIT {ROWS}" if by else f"{sql} LIMIT {ROWS}", ASK_WITHIN_S)
    except DriverError:
        if by is None:
            raise
        rows = server.rows(f"{sql} LIMIT {ROWS}", ASK_WITHIN_S)  # too many to be put in order in that time
    held = [dict(zip(kinds, row, strict=True)) for row in rows]
    return Table(table.name, table.engine, table.columns, table.key, table.held, held)


def _text(name: str, kind: str) -> str:
    if kind == "time":
        return f"toString(toUnixTimestamp64Micro(toDateTime64({name}, 6)))"
    return f"toString({name})"


def _key(sorting: str) -> tuple[str, ...]:
    """The columns of a sorting key; () where it is made of more than columns."""
    names = tuple(name.strip() for name in sorting.split(",")) if sorting else ()
    return names if all(map(PLAIN.fullmatch, names)) else ()


def _name(database: str, name: str) -> str:
    return f"{_quoted(database)}.{_quoted(name)}"


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return name if PLAIN.fullmatch(name) else f"`{escaped}`"


def _full(name: str, database: str) -> str:
    return name if "." in name else f"{_quoted(database)}.{name}"
