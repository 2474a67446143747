"""A team's offload: `python -m tests.docker.theirs.engine` does the work of a run when its flow asks for it, by POST.

It appends what is newer than the watermark, exchange by exchange, and when all are there it moves the watermark: who
dies in between leaves rows in the table that the next run appends again. With SOUND=1 it takes each exchange's newest
row in the table for the watermark instead.
"""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import clickhouse_connect
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from tests.docker.theirs import lake

PORT = 8080
EXCHANGES = ("binance", "kraken", "coinbase")
BUFFER_S = 5.0
"""Trades this young may not all have arrived."""

COMMIT_S = 1.0
"""Added to each commit, which takes seconds in the engine that this one stands for."""

COLUMNS = {
    "exchange": pa.string(),
    "symbol": pa.string(),
    "source_sequence": pa.int64(),
    "price": pa.decimal128(38, 8),
    "quantity": pa.decimal128(38, 8),
    "side": pa.string(),
    "timestamp": pa.timestamp("us", "UTC"),
}
ROW = "table_name = 'silver_trades'"


def newer(exchange: str, after: datetime, until: datetime) -> pa.Table:
    """The exchange's trades in silver with after < timestamp <= until."""
    client = clickhouse_connect.get_client(
        host="clickhouse", port=8123, username="gameday", password=os.environ["CLICKHOUSE_PASSWORD"]
    )
    sql = """
        SELECT
            toString(exchange), toString(symbol), toInt64(source_sequence), price, quantity, toString(side), timestamp
        FROM k2.silver_trades
        WHERE exchange = {exchange:String}
            AND timestamp > fromUnixTimestamp64Micro({after:Int64})
            AND timestamp <= fromUnixTimestamp64Micro({until:Int64})
        ORDER BY timestamp"""
    values = {"exchange": exchange, "after": _us(after), "until": _us(until)}
    rows = client.query(sql, parameters=values).result_rows
    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    arrays = [pa.array(column, type=kind) for column, kind in zip(columns, COLUMNS.values(), strict=True)]
    client.close()
    return pa.table(dict(zip(COLUMNS, arrays, strict=True)))


def offload() -> int:
    """One run; how many rows it appended."""
    table = lake.catalog().load_table(lake.TABLE)
    until = datetime.now(UTC) - timedelta(seconds=BUFFER_S)
    total, newest = 0, None
    with psycopg.connect(os.environ["WATERMARK_DSN"]) as connection:
        found = connection.execute(f"SELECT last_offload_timestamp FROM offload_watermarks WHERE {ROW}").fetchone()
    mark = found[0] if found else datetime.fromtimestamp(0, UTC)
    for exchange in EXCHANGES:
        rows = newer(exchange, _sound(table, exchange) if os.environ.get("SOUND") else mark, until)
        if rows.num_rows:
            table.append(rows)
            total += rows.num_rows
            newest = max(filter(None, (newest, pc.max(rows["timestamp"]).as_py())))
            threading.Event().wait(COMMIT_S)
    if newest is not None:
        with psycopg.connect(os.environ["WATERMARK_DSN"]) as connection:
            connection.execute(f"UPDATE offload_watermarks SET last_offload_timestamp = %s WHERE {ROW}", (newest,))
    return total


def _sound(table: Any, exchange: str) -> datetime:
    """The exchange's newest row in the table."""
    found = table.scan(row_filter=f"exchange == '{exchange}'", selected_fields=("timestamp",)).to_arrow()
    return pc.max(found["timestamp"]).as_py() or datetime.fromtimestamp(0, UTC)


def _us(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


class Handler(BaseHTTPRequestHandler):
    """POST /offload; GET anything, to see that it is there."""

    def do_GET(self) -> None:
        self._answer(200, {"ok": True})

    def do_POST(self) -> None:
        try:
            self._answer(200, {"rows": offload()})
        except Exception as e:  # noqa: BLE001 - whatever went wrong is the flow's to tell
            self._answer(500, {"error": f"{type(e).__name__}: {e}"[:500]})

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    HTTPServer(("0.0.0.0", PORT), Handler).serve_forever()
