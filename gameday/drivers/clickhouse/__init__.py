"""ClickHouse: a server that is asked over HTTP, a table as a hop, and what writes by an INSERT."""

from gameday.drivers.clickhouse.answers import columns
from gameday.drivers.clickhouse.hop import DIGEST_WITHIN_S, LOOK_WITHIN_S, Hop
from gameday.drivers.clickhouse.inserting import Canary
from gameday.drivers.clickhouse.queries import Server
from gameday.drivers.clickhouse.sql import either, literal, same

__all__ = ["DIGEST_WITHIN_S", "LOOK_WITHIN_S", "Canary", "Hop", "Server", "columns", "either", "literal", "same"]
