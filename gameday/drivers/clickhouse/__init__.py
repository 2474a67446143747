"""ClickHouse: a table as a hop, a canary that writes by an INSERT, and the server that both ask over HTTP."""

from gameday.drivers.clickhouse.answers import columns
from gameday.drivers.clickhouse.hop import DIGEST_WITHIN_S, LOOK_WITHIN_S, Hop
from gameday.drivers.clickhouse.inserting import Canary
from gameday.drivers.clickhouse.queries import Server
from gameday.drivers.clickhouse.sql import either, literal, same

__all__ = ["DIGEST_WITHIN_S", "LOOK_WITHIN_S", "Canary", "Hop", "Server", "columns", "either", "literal", "same"]
