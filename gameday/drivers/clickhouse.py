"""Tables in ClickHouse as hops: digests computed there, so that no row moves before there is a difference to list.

numpy is imported by what computes with it: who only asks for the heads does without.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from gameday import address
from gameday.config import Http
from gameday.drivers._post import Kept
from gameday.errors import ConfigError, DriverError, masked
from gameday.model import TRADE_FIELDS, Columns, Digest, Group, Json, Position, Tally, Window

__all__ = ["COLUMNS", "DIGEST_WITHIN_S", "LOOK_WITHIN_S", "Hop", "Server", "columns", "either", "literal", "same"]

CONNECT_WITHIN_S = 0.9
HEADS_WITHIN_S = 0.9
"""Less than the deadline of the probe that samples the heads."""

ONE_THREAD = "SETTINGS max_threads = 1"
"""For a query of a few rows, asked twenty times a second: setting up more threads takes longer than it."""

LOOK_WITHIN_S = 5.0
"""For heads that are not sampled."""

DIGEST_WITHIN_S = 120.0
"""A digest of a whole history."""

TAIL_ROWS = 5_000
"""How far back from each partition's end heads() looks at first, where there is no table of heads."""

COLUMNS: Mapping[str, str] = {
    "venue": "venue",
    "symbol": "symbol",
    "id": "trade_id",
    "price": "toInt64(toDecimal128(price, 8) * 100000000)",
    "quantity": "toInt64(toDecimal128(quantity, 8) * 100000000)",
    "side": "side",
    "time_us": "exchange_us",
}
"""model.Columns -> SQL: integers, scaled exactly. A Decimal(18, 8) would overflow where it is multiplied as it is."""

PORTS = {"http": 8123, "https": 8443}
"""Where a server listens whose URL names no port."""


class Server:
    """One server, asked over HTTP on connections that are kept, for its heads are asked for twenty times a second.

    No client library: it asks three questions of its own before the first query, and takes as long to import as a whole
    `gameday status` may last.
    """

    def __init__(self, url: str, settings: Mapping[str, int | str] = {}) -> None:
        """settings: of every query, besides its own."""
        self._settings = settings
        at = address.of(url)
        port = at.port or PORTS[at.scheme]
        self._where = f"{at.host}:{port}"
        self._login = replace(at, user=at.user or "default").login
        self._kept = Kept(at.host, port, at.scheme == "https", CONNECT_WITHIN_S)

    def rows(self, sql: str, within_s: float) -> Sequence[Sequence[Any]]:
        """A query's rows; integers of any width are exact. Raises DriverError; definite, for a query changes
        nothing."""
        settings = {
            **self._settings,
            "default_format": "JSONCompact",
            "output_format_json_quote_64bit_integers": 0,
            "wait_end_of_query": 1,  # a query that fails halfway has a status that says so
            "max_execution_time": max(1, int(within_s)),  # who gives up must not leave a busy server busier
        }
        try:
            status, body = self._kept.ask("POST", f"/?{urlencode(settings)}", within_s, sql.encode(), self._login)
            text = body.decode(errors="replace")
            if status != http.client.OK:
                raise self._error(text or f"status {status}")
            rows: Sequence[Sequence[Any]] = json.loads(text)["data"]
            return rows
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as e:
            raise self._error(str(e) or type(e).__name__) from e

    def _error(self, reason: str) -> DriverError:
        return DriverError(f"ClickHouse at {self._where}: {masked(' '.join(reason.split()))[:300]}", definite=True)


@dataclass
class Hop:
    """A table of trades.

    view: what `table` promises: "raw" may repeat a record, "final" has each once. raw: the table behind a final one.
    heads_table: a small one with the columns venue, symbol and id. log: for a table of delivered messages, its columns
    topic, partition, offset, ingested. first: {"table", "offset"}: of a trade that came more than once the one with the
    lowest offset is kept, and that table has them all. columns: SQL for the columns that are not named as in COLUMNS.
    recent: SQL that only the newest rows fulfil, where there is no table of heads: heads() looks no further. settings:
    ClickHouse's own, for every query. component: the role of the server, for the start of its process.
    """

    url: Http
    view: str
    table: str
    raw: str | None = None
    heads_table: str | None = None
    log: Mapping[str, str] | None = None
    first: Mapping[str, str] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    recent: str | None = None
    component: str = "clickhouse"
    name: str = "clickhouse"
    settings: Mapping[str, int | str] = field(default_factory=dict)
    _after: dict[tuple[str, int], int] = field(default_factory=dict, init=False, repr=False)
    _heads: dict[Group, int] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.view not in ("raw", "final"):
            raise ConfigError(f'hops.{self.name}.view is {self.view!r}. Remedy: "raw" or "final"')
        if unknown := set(self.columns) - set(COLUMNS):
            raise ConfigError(f"hops.{self.name}.columns has {sorted(unknown)}. Known: {', '.join(COLUMNS)}")
        self._server = Server(self.url, self.settings)
        self._sql = {**COLUMNS, **self.columns}

    def heads(self) -> Mapping[Group, int]:
        """Group -> highest id: from the table of heads, else from the recent rows, else from the end of each partition
        of the log, else from the whole table."""
        if self.heads_table is not None:
            sql = f"SELECT {self._group}, max({self._sql['id']}) FROM {self.heads_table} GROUP BY 1, 2 {ONE_THREAD}"
            return {(venue, symbol): int(head) for venue, symbol, head in self._server.rows(sql, HEADS_WITHIN_S)}
        if self.recent is None and self.log is not None:
            return self._log_heads(self.log)
        found = self.tops(self.recent or "true", HEADS_WITHIN_S)
        with self._lock:  # what had a head has one, also when nothing of it is new any more
            for group, head in found.items():
                self._heads[group] = max(self._heads.get(group, 0), head)
            return dict(self._heads)

    def digest(self, window: Window) -> Sequence[Digest]:
        """Stream "trades" of the table behind and of the table; for a log also "offsets": the places of the same
        records, groups (topic, partition)."""
        where = self._inside(window)
        found = [self._trades(self.raw, "raw", where)] if self.raw else []
        found.append(self._trades(self.table, self.view, where))
        if self.log:
            group = f"{self.log['topic']}, toString({self.log['partition']})"
            offset = self.log["offset"]
            groups = self._tallies(group, offset, _hashed([offset]), self.table, where)
            found.append(Digest("offsets", self.name, "raw", groups))
        return tuple(found)

    def rows(self, group: Group, lo: int, hi: int) -> Columns:
        """The records lo < id <= hi by id, as the table has them; a raw table's repeats once."""
        fields = ", ".join(self._sql[name] for name in ("venue", "symbol", *TRADE_FIELDS))
        where = self._inside(Window({group: lo}, {group: hi}))
        repeats = "" if self.view == "final" else "DISTINCT "  # where each record is promised once, a repeat is a find
        sql = f"SELECT {repeats}{fields} FROM {self.table} WHERE {where} ORDER BY {self._sql['id']}"
        return columns(self._server.rows(sql, DIGEST_WITHIN_S), ("venue", "symbol"), TRADE_FIELDS)

    def delivered(self) -> Position:
        """Slot -> the offset after the highest that it holds; {} for a table without places in a log."""
        if self.log is None:
            return {}
        self._log_heads(self.log)
        with self._lock:
            return {f"{topic}/{partition}": end + 1 for (topic, partition), end in self._after.items()}

    def symptoms(self, window: Window, since_us: int, started_us: Mapping[str, int]) -> Mapping[str, Json]:
        """ingest_gap_s: topic -> the longest time since the baseline in which a record waited to be inserted: from the
        insert before, or since it happened if that was later; ingest_idle_s: the time since its last insert, or since
        the baseline. first_after_start: "topic/partition" -> lowest offset inserted since the server's start, where
        that came after the baseline; last_before_start: the highest inserted before. not_first: ids in the window of
        which another row than that with the lowest offset is kept."""
        found: dict[str, Json] = {}
        if self.log:
            found["ingest_gap_s"], found["ingest_idle_s"] = self._ingest_gaps(self.log, since_us)
            start_us = started_us.get(self.component)
            if start_us is not None:
                found |= self._around(self.log, start_us)
        if self.first:
            found["not_first"] = self._not_first(self.first, window)
        return found

    @property
    def tells(self) -> frozenset[str]:
        """The symptoms that it can tell, as it is configured."""
        of_log = ("ingest_gap_s", "ingest_idle_s", "first_after_start", "last_before_start")
        told = [(self.log, of_log), (self.first, ("not_first",))]
        return frozenset(name for configured, names in told if configured for name in names)

    def tops(self, where: str = "true", within_s: float = DIGEST_WITHIN_S) -> dict[Group, int]:
        """Group -> highest id of the table's rows under a condition, which is SQL."""
        sql = f"SELECT {self._group}, max({self._sql['id']}) FROM {self.table} WHERE {where} GROUP BY 1, 2"
        found = self._server.rows(sql, within_s)
        return {(str(venue), str(symbol)): int(head) for venue, symbol, head in found if venue and symbol}

    def tallies(self, group: str, where: str = "true") -> dict[Group, Tally]:
        """Of the table's rows under a condition, by a group of two columns; both are SQL."""
        hashed = _hashed([self._sql[name] for name in TRADE_FIELDS])
        return self._tallies(group, self._sql["id"], hashed, self.table, where)

    def _trades(self, table: str, view: str, where: str) -> Digest:
        hashed = _hashed([self._sql[name] for name in TRADE_FIELDS])
        return Digest("trades", self.name, view, self._tallies(self._group, self._sql["id"], hashed, table, where))

    def _tallies(self, group: str, key: str, hashed: str, table: str, where: str) -> dict[Group, Tally]:
        """Tallies by group; all are SQL: the group's two columns, the id, the row hash, the table and its condition.

        Exact, and once over the rows: first by id with the set of its hashes, then by group. Sums of UInt64 wrap.
        """
        sql = f"""
            SELECT g0, g1, sum(copies), count(), min(k), max(k), sum(arraySum(hashes)), countIf(length(hashes) > 1)
            FROM (
                SELECT g0, g1, k, count() AS copies, groupUniqArray(h) AS hashes
                FROM (SELECT c.1 AS g0, c.2 AS g1, c.3 AS k, c.4 AS h
                      FROM (SELECT tuple({group}, {key}, {hashed}) AS c FROM {table} WHERE {where}))
                GROUP BY g0, g1, k)
            GROUP BY g0, g1"""
        found: dict[Group, Tally] = {}
        for first, second, rows, keys, lo, hi, total, conflicts in self._server.rows(sql, DIGEST_WITHIN_S):
            found[str(first), str(second)] = Tally(rows, keys, lo, hi, total, conflicts)
        return found

    def _inside(self, window: Window) -> str:
        """SQL: the record is in the window."""
        return either(
            f"({same(self._sql['venue'], group[0])} AND {same(self._sql['symbol'], group[1])}"
            f" AND {self._sql['id']} > {window.lo.get(group, 0)} AND {self._sql['id']} <= {hi})"
            for group, hi in window.hi.items()
        )

    def _log_heads(self, log: Mapping[str, str]) -> Mapping[Group, int]:
        """What came since the call before; at the first call the end of each partition, found by the table's order."""
        topic, partition, offset = log["topic"], log["partition"], log["offset"]
        with self._lock:
            if not self._after:
                sql = f"SELECT {topic}, {partition}, max({offset}) FROM {self.table} GROUP BY 1, 2"
                ends = self._server.rows(sql, LOOK_WITHIN_S)
                self._after = {(t, p): int(end) - TAIL_ROWS for t, p, end in ends}
            known = [
                f"({same(topic, t)} AND {partition} = {p} AND {offset} > {o})" for (t, p), o in self._after.items()
            ]
            pairs = ", ".join(f"({literal(t)}, {p})" for t, p in self._after)
            fresh = [f"({topic}, {partition}) NOT IN ({pairs})"] if pairs else ["true"]
            sql = (
                f"SELECT {self._group}, {topic}, {partition}, max({self._sql['id']}), max({offset}) "
                f"FROM {self.table} WHERE {either([*known, *fresh])} GROUP BY 1, 2, 3, 4"
            )
            for venue, symbol, t, p, head, end in self._server.rows(sql, LOOK_WITHIN_S):
                if venue and symbol:  # a message that holds no trade has no group
                    self._heads[venue, symbol] = max(self._heads.get((venue, symbol), 0), int(head))
                self._after[t, p] = max(self._after.get((t, p), 0), int(end))
            return dict(self._heads)

    def _ingest_gaps(self, log: Mapping[str, str], since_us: int) -> tuple[dict[str, float], dict[str, float]]:
        us = f"toUnixTimestamp64Micro(toDateTime64({log['ingested']}, 6))"
        inserts = f"""
            SELECT {log["topic"]} AS t, {us} AS u, min({self._sql["time_us"]}) AS happened
            FROM {self.table} WHERE u > {since_us} GROUP BY t, u"""
        before = f"lagInFrame(u, 1, {since_us}) OVER (PARTITION BY t ORDER BY u)"
        waited = f"SELECT t, u, u - greatest({before}, happened) AS w FROM ({inserts})"
        sql = f"SELECT t, max(w), toUnixTimestamp64Micro(now64(6)) - max(u) FROM ({waited}) GROUP BY t"
        idle = f"SELECT DISTINCT {log['topic']}, toUnixTimestamp64Micro(now64(6)) - {since_us} FROM {self.table}"
        found = self._server.rows(sql, DIGEST_WITHIN_S)
        idle_s = {name: us / 1e6 for name, us in self._server.rows(idle, DIGEST_WITHIN_S)}
        gaps_s = {**dict.fromkeys(idle_s, 0.0), **{name: max(0, us) / 1e6 for name, us, _ in found}}
        return gaps_s, {**idle_s, **{name: us / 1e6 for name, _, us in found}}

    def _around(self, log: Mapping[str, str], start_us: int) -> dict[str, Json]:
        us = f"toUnixTimestamp64Micro(toDateTime64({log['ingested']}, 6))"
        offset = f"toInt64({log['offset']})"
        after, before = f"minIf({offset}, {us} >= {start_us})", f"maxIf({offset}, {us} < {start_us})"
        counts = f"countIf({us} >= {start_us}), countIf({us} < {start_us})"
        sql = f"SELECT {log['topic']}, {log['partition']}, {after}, {before}, {counts} FROM {self.table} GROUP BY 1, 2"
        rows = self._server.rows(sql, DIGEST_WITHIN_S)
        return {
            "first_after_start": {f"{t}/{p}": int(first) for t, p, first, _, later, _ in rows if later},
            "last_before_start": {f"{t}/{p}": int(last) for t, p, _, last, _, earlier in rows if earlier},
        }

    def _not_first(self, first: Mapping[str, str], window: Window) -> int:
        where, key = self._inside(window), f"tuple({self._group}, {self._sql['id']})"
        sql = f"""
            SELECT countIf(kept != lowest) FROM
                (SELECT {key} AS k, min({first["offset"]}) AS kept FROM {self.table} WHERE {where} GROUP BY 1) AS s
                INNER JOIN
                (SELECT {key} AS k, min({first["offset"]}) AS lowest FROM {first["table"]} WHERE {where} GROUP BY 1) AS
                b ON s.k = b.k"""
        return int(self._server.rows(sql, DIGEST_WITHIN_S)[0][0])

    @property
    def _group(self) -> str:
        return f"{self._sql['venue']}, {self._sql['symbol']}"


def columns(rows: Sequence[Sequence[Any]], texts: Sequence[str], numbers: Sequence[str]) -> Columns:
    """Rows as columns: the texts, then int64 numbers."""
    import numpy as np

    columns = list(zip(*rows, strict=True)) or [()] * (len(texts) + len(numbers))
    names = (*texts, *numbers)
    return {
        name: np.array(column, dtype=str if name in texts else np.int64)
        for name, column in zip(names, columns, strict=True)
    }


def _hashed(expressions: Sequence[str]) -> str:
    """The row hash of these integer expressions; all is SQL."""
    from gameday.records.in_clickhouse import row_hash

    return row_hash([f"toUInt64(toInt64({expression}))" for expression in expressions])


def either(conditions: Iterable[str]) -> str:
    return " OR ".join(conditions) or "false"


def same(column: str, text: str) -> str:
    return f"{column} = {literal(text)}"


def literal(text: str) -> str:
    """A string of ClickHouse's SQL, whatever is in it: what comes from outside is written no other way."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
