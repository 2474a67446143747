"""What comes from outside stands in SQL as a string, whatever is in it."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from gameday.drivers import clickhouse
from gameday.drivers.iceberg import Archive
from gameday.model import Group, Window
from tests.trades import TRADES

EVIL = "x'), numbers(9) -- \\"
SHOWN = "x\\'), numbers(9) -- \\\\"


def archive() -> Archive:
    catalog = {"name": "lake", "uri": "x", "warehouse": "s3://lake/w", "s3.endpoint": "http://127.0.0.1:1"}
    secrets = {"s3.access-key-id": EVIL, "s3.secret-access-key": EVIL}
    return Archive({**catalog, **secrets}, "a.b", "http://127.0.0.1:1", TRADES)


def table(name: str = EVIL) -> Any:
    location = f"s3://lake/{name}"
    entry = SimpleNamespace(snapshot_id=7, data_file=SimpleNamespace(file_path=f"{location}/data/{name}"))
    manifest = SimpleNamespace(added_snapshot_id=7, fetch_manifest_entry=lambda *_, **__: [entry])
    return SimpleNamespace(
        metadata=SimpleNamespace(location=location, snapshots=[SimpleNamespace(snapshot_id=7, timestamp_ms=1)]),
        metadata_location=f"{location}/metadata/{name}",
        current_snapshot=lambda: SimpleNamespace(manifests=lambda _: [manifest]),
        io=None,
    )


COLUMNS = {
    "venue": "String",
    "symbol": "String",
    "trade_id": "UInt64",
    "price": "Decimal(18, 8)",
    "quantity": "Decimal(18, 8)",
    "side": "String",
    "exchange_time": "DateTime64(6)",
}


def questions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What ClickHouse is asked for from now on; it has no rows."""
    asked: list[str] = []

    def rows(_: object, sql: str, *__: object) -> list[Any]:
        asked.append(sql)
        return [[name, COLUMNS[name]] for name in TRADES.types] if sql.startswith("DESCRIBE") else []

    monkeypatch.setattr(clickhouse.Server, "rows", rows)
    return asked


def test_an_archive_s_place_keys_and_file_are_strings() -> None:
    """The folder, the store's key and secret, the pinned metadata."""
    made = archive()._rows_of(table()).table
    assert made.count(SHOWN) == 4
    assert EVIL not in made


@pytest.mark.parametrize("ask", ["added", "heads"])
def test_an_archive_s_data_files_are_strings(monkeypatch: pytest.MonkeyPatch, ask: str) -> None:
    """Their names are the writer's: those of partitions are in them."""
    asked = questions(monkeypatch)
    manifests = table().current_snapshot().manifests
    snapshot: Any = SimpleNamespace(snapshot_id=7, parent_snapshot_id=None, timestamp_ms=1, manifests=manifests)
    if ask == "added":
        archive()._added(table(), [snapshot])
    else:
        archive()._heads_at(table(), snapshot)
    assert SHOWN in asked[-1].partition("WHERE")[2]
    assert not any(EVIL in sql for sql in asked)


def test_a_group_s_names_are_strings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A symbol is the venue's."""
    asked = questions(monkeypatch)
    hop = clickhouse.Hop("http://127.0.0.1:1", "append", "t", TRADES)
    more: Mapping[Group, int] = {("v", "other"): 1}
    inside_an_array = clickhouse.literal(SHOWN)[1:-1]
    for others, shown in (({}, SHOWN), (more, inside_an_array)):
        where = hop._inside(Window({("v", EVIL): 0}, {("v", EVIL): 1, **others}), "t")
        assert shown in where
        assert EVIL not in where
    hop.heads()
    assert not any(EVIL in sql for sql in asked)
