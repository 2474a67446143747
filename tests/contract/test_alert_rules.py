"""The platform's alert rules and dashboard: promtool tests the rules, and what either asks for is really told.

The exporter runs against a real broker and a real Postgres; ClickHouse and a handler tell of themselves.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from compose.own import ALERTS_QUICKENED
from compose.ports import free_ports
from compose.servers import kafka, prometheus
from compose.service import python
from compose.trades.processes import CLICKHOUSE_KEPT, RULES
from flows import catalogue
from gameday.plan import FiresWithin, StaysSilent
from gameday.state import ROOT
from gameday.system.polling import until
from pipelines.trades.offload import mirror
from tasks.definition import definition
from tests.contract.conftest import serving

DASHBOARD = ROOT / "compose" / "grafana" / "trades.json"
TOPIC, GROUP, TABLE = "trades-of-alerts", "clickhouse", "trades.silver"
WITHIN_S = 30.0

NAME = re.compile(r"\b(?:[a-z]+(?:_[a-z]+)+|up|ClickHouse\w+)\b(?!\s*\()")
"""A metric, as the rules and the dashboard write them."""

OURS = "gameday_"
"""What gameday tells of itself is documented and tested beside it."""

PLATFORMS = {path.parent.name: path for path in sorted(ROOT.glob("compose/*/alerts.yml"))}
"""Platform -> its rules."""

TESTS = {
    f"{platform}/{name}": (test, path)
    for platform, path in PLATFORMS.items()
    for name, test in catalogue(path.with_name("gameday.toml")).items()
}
"""Each failure test of a platform's own, and its platform's rules."""

each_platform = pytest.mark.parametrize("rules", PLATFORMS.values(), ids=PLATFORMS)
needs_promtool = pytest.mark.skipif(not prometheus.get(print), reason="Debian's prometheus can't be had here")


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(prometheus.tool()), *map(str, arguments)], capture_output=True, text=True, cwd=ROOT)


@needs_promtool
@each_platform
def test_the_rules_page_in_time_and_not_for_what_heals_sooner(rules: Path) -> None:
    """As they stand, with production's times."""
    done = promtool("test", "rules", rules.with_name("alerts_test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@each_platform
def test_every_rule_is_tested(rules: Path) -> None:
    """Also that it fires: an alert that is only expected to be silent is not."""
    fired = set(re.findall(r"- alertname: (\w+)\n", rules.with_name("alerts_test.yml").read_text()))
    assert named(rules)
    assert named(rules) == fired


@each_platform
def test_every_rule_sends_to_a_runbook_that_there_is(rules: Path) -> None:
    """Where it names one."""
    told = re.findall(r"runbook: (\S+)", rules.read_text())
    assert told
    assert [path for path in told if not (ROOT / path).is_file()] == []


def named(rules: Path) -> set[str]:
    """The alerts of these rules."""
    return set(re.findall(r"^\s*- alert: (\w+)", rules.read_text(), re.MULTILINE))


@needs_promtool
@each_platform
def test_the_quickened_rules_are_the_same_but_for_their_patience(rules: Path, tmp_path: Path) -> None:
    """Prometheus takes them, and no `for` is left as it was."""
    quick = prometheus.quickened(rules.read_text(), ALERTS_QUICKENED)
    (tmp_path / "rules.yml").write_text(quick)
    done = promtool("check", "rules", tmp_path / "rules.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    waits = re.compile(r"for: \S+")
    assert waits.sub("", quick) == waits.sub("", rules.read_text())
    assert "for: 15000ms" in quick
    assert not re.search(r"for: \d+[mh]\b", quick)


@pytest.mark.parametrize("name", list(TESTS))
def test_every_failure_test_names_an_alert_that_there_is(name: str) -> None:
    """With every set of parameters."""
    test, rules = TESTS[name]
    function = definition(test)
    for params in function().nightly:
        alert = function(**params).alert
        assert isinstance(alert, FiresWithin | StaysSilent), params
        assert alert.alert in named(rules)


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory, broker: str, database: str) -> Iterator[str]:
    """URL of the exporter's metrics; the topic has 30 records, of which the group has committed 20."""
    folder = tmp_path_factory.mktemp("exporter")
    (folder / "gameday.prom").write_text("gameday_night_completed_timestamp_seconds 1\n")
    kafka.create_topics(broker, {TOPIC: 2})
    producer = Producer({"bootstrap.servers": broker, "broker.address.family": "v4", "enable.idempotence": True})
    for number in range(30):
        producer.produce(TOPIC, b"x", partition=number % 2)
    assert producer.flush(WITHIN_S) == 0
    group = Consumer({"bootstrap.servers": broker, "group.id": GROUP, "broker.address.family": "v4"})
    group.commit(offsets=[TopicPartition(TOPIC, p, 10) for p in (0, 1)], asynchronous=False)
    group.close()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(mirror.TABLE)
        connection.execute(
            "INSERT INTO offload_watermarks (table_name, failure_count, rows, last_successful_run, duration_s) "
            "VALUES (%s, 2, 7, to_timestamp(1000), 3.5)",
            (TABLE,),
        )
    (port,) = free_ports(1)
    arguments = (
        *("-m", "pipelines.trades.exporter", "--port", str(port), "--brokers", broker, "--group", GROUP),
        *("--topics", TOPIC, "--offload-interval-s", "900", "--textfiles", str(folder)),
    )
    env = {"OFFLOAD_MIRROR_DSN": database}
    with serving(python("exporter", folder, *arguments, ready=f"http://127.0.0.1:{port}/healthz", env=env)):
        yield f"http://127.0.0.1:{port}/metrics"


def told(url: str) -> dict[str, float]:
    """Series -> value."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def kinds(url: str) -> set[str]:
    """The names of what is told there, also of what has no value yet."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return set(re.findall(r"^# TYPE (\w+)", answer.read().decode(), re.MULTILINE))


def test_the_exporter_tells_lag_offload_and_what_others_left(exporter: str) -> None:
    """Records and seconds behind, of each partition; the watermark; the file that gameday writes."""
    lag = f'broker_consumer_lag_records{{group="{GROUP}",partition="0",topic="{TOPIC}"}}'
    until(lambda: lag in told(exporter) and "offload_watermark_up" in told(exporter), WITHIN_S, what="a first look")
    first = told(exporter)
    assert first[lag] == 5.0
    assert first["broker_up"] == first["offload_watermark_up"] == 1.0
    assert first[f'offload_failures{{table="{TABLE}"}}'] == 2.0
    assert first[f'offload_last_success_timestamp_seconds{{table="{TABLE}"}}'] == 1000.0
    assert first[f'offload_interval_seconds{{table="{TABLE}"}}'] == 900.0
    assert first["gameday_night_completed_timestamp_seconds"] == 1.0
    behind, began = lag.replace("lag_records", "behind_seconds"), time.monotonic()
    until(lambda: told(exporter)[behind] > 2.0, WITHIN_S, what="the consumer to be behind")
    assert told(exporter)[behind] < first[behind] + time.monotonic() - began + 1.5


def test_what_does_not_answer_is_told_as_down(tmp_path: Path) -> None:
    """Neither a broker nor a database: the exporter answers all the same."""
    (port,) = free_ports(1)
    arguments = (
        *("-m", "pipelines.trades.exporter", "--port", str(port), "--brokers", "127.0.0.1:1", "--group", GROUP),
        *("--topics", TOPIC, "--offload-interval-s", "900"),
    )
    env = {"OFFLOAD_MIRROR_DSN": "postgresql://u:p@127.0.0.1:1/d"}
    with serving(python("exporter", tmp_path, *arguments, ready=f"http://127.0.0.1:{port}/healthz", env=env)):
        url = f"http://127.0.0.1:{port}/metrics"
        until(lambda: len(told(url)) == 2, WITHIN_S, what="both to be looked at")
        assert told(url) == {"broker_up": 0.0, "offload_watermark_up": 0.0}


def asked() -> dict[str, set[str]]:
    """Where -> the metrics that are asked for there."""
    rules = [line.split("expr:", 1)[1] for line in RULES.read_text().splitlines() if "expr:" in line]
    panels = [t["expr"] for p in json.loads(DASHBOARD.read_text())["panels"] for t in p.get("targets", ())]
    strings = re.compile(r"\{[^}]*\}|by \([^)]*\)|\[[^\]]*\]")
    found = {"rules": rules, "dashboard": panels}
    return {where: {n for e in exprs for n in NAME.findall(strings.sub("", e))} for where, exprs in found.items()}


@pytest.fixture(scope="module")
def handler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a handler's metrics; neither its venue nor its broker is there."""
    (port,) = free_ports(1)
    nowhere = "127.0.0.1:1"
    arguments = (
        *("-m", "pipelines.trades.handler", "--venue", "binance", "--ws", f"ws://{nowhere}"),
        *("--rest", f"http://{nowhere}", "--brokers", nowhere, "--port", str(port)),
    )
    folder = tmp_path_factory.mktemp("handler")
    with serving(python("handler", folder, *arguments, ready=f"http://127.0.0.1:{port}/healthz")):
        yield f"http://127.0.0.1:{port}/metrics"


def test_every_metric_that_is_asked_for_is_told(exporter: str, handler: str, warehouse: str) -> None:
    """A rule over a name that nobody tells is silent for ever, and a panel empty."""
    until(lambda: "offload_watermark_up" in told(exporter) and "broker_up" in told(exporter), WITHIN_S, what="a look")
    clickhouse = kinds(f"http://{warehouse.rpartition('@')[2]}/metrics")
    kept = {name for name in clickhouse if re.fullmatch(CLICKHOUSE_KEPT, name)}
    names = {"up", *kinds(exporter), *kinds(handler), *kept}
    for where, wanted in asked().items():
        assert wanted, where
        missing = {n for n in wanted - names if not n.startswith(OURS)}
        assert not missing, f"{where}: nobody tells {sorted(missing)}"


def test_a_name_that_nobody_tells_would_be_found() -> None:
    """The pattern sees every metric of the rules."""
    wanted = asked()["rules"]
    assert {"broker_up", "up", "offload_failures", "feed_handler_last_ack_age_seconds"} <= wanted
