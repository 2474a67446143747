"""A shop's platform: Kafka, ClickHouse with a queue and a view, and a web tier, as its people have them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from compose.servers import clickhouse, kafka
from compose.service import answers
from gameday.state import ROOT
from gameday.system.polling import until
from pipelines.trades.schema import query
from tests.docker.containers import in_container, service_in_container
from tests.docker.foreign.platform import EVERYWHERE, PASSWORD, SERVES_WITHIN_S, Platform

__all__ = ["Foreign"]

KAFKA, CLICKHOUSE, WEB = "apache/kafka:4.4.0", "clickhouse/clickhouse-server:26.9", "shop/web:1.7"
SCHEMA = Path(__file__).with_name("schema.sql")
BROKERS = "127.0.0.1:9094"
PARTITIONS = 3

CONFIG = """\
<clickhouse>
  <kafka><broker_address_family>v4</broker_address_family></kafka>
  <listen_host>0.0.0.0</listen_host>
  <http_port>8123</http_port>
  <users_config>users.xml</users_config>
  <default_profile>default</default_profile>
</clickhouse>
"""
"""ClickHouse's defaults: nobody told it that a test is waiting."""


@dataclass(frozen=True)
class Foreign(Platform):
    """Kafka -> ClickHouse, each record with a UUID."""

    project: ClassVar[str] = "shop"
    images: ClassVar[Sequence[str]] = (KAFKA, CLICKHOUSE, WEB)
    exported: ClassVar[Mapping[str, str]] = {"CLICKHOUSE_PASSWORD": PASSWORD}

    @property
    def warehouse(self) -> str:
        return clickhouse.url(8123, PASSWORD)

    def run_sql(self, statement: str) -> None:
        """What the shop's people tell their warehouse."""
        code = "import sys; from pipelines.trades.schema import query; query(*sys.argv[1:])"
        self.python(code, self.warehouse, statement)

    @property
    def view(self) -> str:
        """The query of the view that fills the table."""
        return "SELECT" + SCHEMA.read_text().rpartition(" AS\nSELECT")[2].rstrip(";\n")

    def prepare(self) -> None:
        for url in (f"kafka://{BROKERS}", "http://127.0.0.1:8123/ping"):
            until(partial(answers, url, 2.0), SERVES_WITHIN_S, 0.5, url)
        kafka.create_topics(BROKERS, {"user_activity": PARTITIONS})
        for statement in filter(str.strip, SCHEMA.read_text().partition("\n")[2].split(";")):
            query(self.warehouse, statement)

        def fills() -> bool:
            return int(query(self.warehouse, "SELECT count() FROM analytics.activity")) > 0

        until(fills, SERVES_WITHIN_S, 0.5, "the first row of the shop's table")

    def services(self) -> Mapping[str, Any]:
        kafka.get(print)
        listeners = (
            kafka.Listener("DIRECT", 9092, 9092, "kafka"),
            kafka.Listener("EXTERNAL", 9094, 9094, "127.0.0.1"),
        )
        broker = kafka.process(self.folder / "kafka", listeners, 9093, self.project, listen=EVERYWHERE)
        store = clickhouse.process(self.folder / "clickhouse", 8123, PASSWORD, listen=EVERYWHERE)
        (self.folder / "clickhouse" / "config.xml").write_text(CONFIG)
        web = [sys.executable, "-m", "tests.docker.foreign.producer"]
        return {
            "kafka": service_in_container(KAFKA, broker, (self.folder,), (9094,)),
            "clickhouse": service_in_container(CLICKHOUSE, store, (self.folder,), (8123,)),
            "web": in_container(WEB, web, {"PYTHONPATH": str(ROOT)}),
        }


if __name__ == "__main__":
    Foreign.main(sys.argv[1])
