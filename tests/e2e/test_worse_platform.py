"""The platform made worse on purpose: each defect is caught, by the right check, and named.

A stack of its own, because its history is damaged for good.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.query import QueryResult
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from compose.own import platform, processes
from compose.up import clean, down, up
from flows import catalogue
from gameday import codec
from gameday.model import Verdict
from gameday.run import Run, new_id
from gameday.stack.live import open_stack
from gameday.stack.reading import read_env
from gameday.state import ROOT, State
from gameday.system.polling import until
from tasks.definition import definition
from tasks.run import interpret, plain
from tests.e2e.command import gameday, results, running, seen
from tests.stackfixture import drawn

pytestmark = [
    pytest.mark.suite("trades"),
    pytest.mark.timeout(600),  # the first test brings the stack up
]

WITHIN_S = 450
"""One run."""

IN_VAIN_S = 20.0
"""How long recovery is awaited where none can come."""

BROKER_S = 60.0
"""Until a broker that was started again tells where a partition ends."""

RESENT = 40
"""How many of a partition's last trades are sent again."""


@pytest.fixture(scope="module")
def worse(session_stack: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """A stack with one handler that fills no gaps, one that rounds prices, and one that comes back idle.

    The session's own stack rests meanwhile: two at once leave nothing of two cores.
    """
    down(session_stack)
    state = State(tmp_path_factory.mktemp("worse"))
    commands = {p.name: p.argv for p in processes(platform("trades"), state, drawn(state), {})}
    replaced = {
        f"handler-{venue}": _instead(commands[f"handler-{venue}"], f"tests.e2e.worse.{defect}")
        for venue, defect in {
            "binance": "no_gap_fill",
            "kraken": "rounds_prices",
            "coinbase": "comes_back_idle",
        }.items()
    }
    up(state, print, replaced)
    try:
        yield state
    finally:
        clean(state)


def _instead(argv: tuple[str, ...], module: str) -> tuple[str, ...]:
    return tuple(module if part == "pipelines.trades.handler" else part for part in argv)


def run(state: State, tmp_path: Path, *arguments: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """One run's result."""
    done = gameday(state, "run", *arguments, "--json", str(tmp_path / "r.json"), env=env, within_s=WITHIN_S)
    assert done.returncode in (1, 3), done.stdout + done.stderr
    return results(tmp_path / "r.json")[0]


def finding(result: dict[str, Any], check: str) -> tuple[str, str]:
    """(verdict, why) of one check."""
    return next((f["verdict"], f["why"]) for f in result["findings"] if f["check"] == check)


@pytest.fixture(scope="module")
def crashed(worse: State, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of a crash of the handler that fills no gaps, while another rounds prices."""
    return run(worse, tmp_path_factory.mktemp("crashed"), "feed_handler_crash", "-p", "venue=binance")


def test_a_handler_without_gap_fill_loses_trades_at_the_broker(worse: State, crashed: dict[str, Any]) -> None:
    """The guilty hop and the missing ids are named."""
    assert crashed["verdict"] == "fail"
    verdict, why = finding(crashed, "no_loss")
    assert (verdict, "broker" in why, "binance/" in why) == ("fail", True, True), why
    lost = crashed["counts"]["lost"]
    assert lost["broker"] == lost["silver"] > 100
    differences = open_differences(worse, crashed["id"])
    missing = next(rows["missing"] for place, rows in differences.items() if place.startswith("broker binance/"))
    assert missing["count"] > 0
    assert len(missing["ids"]) > 0


def test_rounded_prices_are_a_change_at_the_broker(worse: State, crashed: dict[str, Any]) -> None:
    """`unchanged` names the hop, and the field with both values is listed; no trade of that venue is called lost."""
    verdict, why = finding(crashed, "unchanged")
    assert (verdict, "broker" in why, "kraken/" in why) == ("fail", True, True), why
    differences = open_differences(worse, crashed["id"])
    lost = {place for place, rows in differences.items() if rows["missing"]["count"]}
    assert [place for place in lost if " binance/" not in place] == []
    changed = next(rows["changed"] for place, rows in differences.items() if place.startswith("broker kraken/"))
    assert {"id", "price"} <= set(changed["rows"][0])


def test_silver_fed_twice_without_dedup_names_the_duplicates(worse: State, tmp_path: Path) -> None:
    """A second view feeds silver the same rows, and what users query does not remove them."""
    feed = query(worse, "SELECT as_select FROM system.tables WHERE database = 'trades' AND name = 'bronze_to_silver'")
    shown = query(worse, "SELECT as_select FROM system.tables WHERE database = 'trades' AND name = 'silver'")
    query(worse, f"CREATE MATERIALIZED VIEW trades.second_feed TO trades.silver_raw AS {feed}")
    query(worse, f"CREATE OR REPLACE VIEW trades.silver AS {shown.replace(' FINAL', '')}")
    query(worse, "SYSTEM STOP MERGES trades.silver_raw")
    try:
        result = run(worse, tmp_path, "broker_restart")
    finally:
        query(worse, "DROP VIEW trades.second_feed")
        query(worse, "SYSTEM START MERGES trades.silver_raw")
        query(worse, f"CREATE OR REPLACE VIEW trades.silver AS {shown}")
    verdict, why = finding(result, "no_duplicates")
    assert (verdict, "silver" in why) == ("fail", True), why
    assert result["counts"]["doubled"]["silver"] > 100


def test_silver_that_keeps_the_highest_offset_is_caught(worse: State, tmp_path: Path) -> None:
    """A trade that is sent again would move past the offload's position."""
    feed = query(worse, "SELECT as_select FROM system.tables WHERE database = 'trades' AND name = 'bronze_to_silver'")
    assert "18446744073709551615 - offset" in feed
    query(worse, "DROP VIEW trades.bronze_to_silver")
    highest = feed.replace("18446744073709551615 - offset", "offset")
    query(worse, f"CREATE MATERIALIZED VIEW trades.bronze_to_silver TO trades.silver_raw AS {highest}")
    try:
        with running(worse, "run", "broker_restart", "--json", str(tmp_path / "r.json")) as (process, output):
            seen(process, output, "was started in its place")
            resend(worse, "market.crypto.trades.kraken")
            process.wait(200)
    finally:
        query(worse, "DROP VIEW trades.bronze_to_silver")
        query(worse, f"CREATE MATERIALIZED VIEW trades.bronze_to_silver TO trades.silver_raw AS {feed}")
    verdict, why = finding(results(tmp_path / "r.json")[0], "first_kept")
    assert verdict == "fail", why


def test_a_restart_that_does_nothing_is_invalid(worse: State, tmp_path: Path) -> None:
    """The platform survives it beautifully; a test without its fault proves nothing."""
    idle = {"PYTHONPATH": os.pathsep.join((str(ROOT / "tests" / "e2e" / "worse" / "idle"), str(ROOT)))}
    result = run(worse, tmp_path, "broker_restart", env=idle)
    assert (result["verdict"], "did not bite" in result["why"]) == ("invalid", True), result["why"]


def test_a_component_that_is_up_but_serves_nothing_has_not_recovered(worse: State) -> None:
    """It answers its health check from the first second; its streams stand still. Awaited for less long than a user
    would: nothing comes any more."""
    params = {"venue": "coinbase", "how": "stop"}
    test = definition(catalogue()["feed_handler_crash"])(**params)
    soon = replace(test, mttr_max_s=IN_VAIN_S, drain_max_s=IN_VAIN_S, alert=None)
    result = interpret(
        Run(open_stack(state=worse), "feed_handler_crash", params, soon, new_id("idle"), print), plain, lambda _: None
    )
    assert [f.verdict for f in result.findings if f.check == "recovered"] == [Verdict.FAIL], result
    assert result.measures["mttr"].high_s is None


def open_differences(state: State, run_id: str) -> dict[str, Any]:
    """The rows in which hops differed, as the run's evidence lists them."""
    found: dict[str, Any] = codec.load_evidence(state.run(run_id)).symptoms["differences"]
    return found


def query(state: State, sql: str) -> str:
    """One statement to the platform's ClickHouse; the first value of its answer."""
    env = read_env(state.env)
    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=int(env["CLICKHOUSE_PORT"]), username="gameday", password=env["CLICKHOUSE_PASSWORD"]
    )
    answer = client.query(sql) if sql.startswith("SELECT") else client.command(sql)
    return str(answer.result_rows[0][0]) if isinstance(answer, QueryResult) else ""


def resend(state: State, topic: str) -> None:
    """Send each partition's last trades again, as a producer does that never saw its acknowledgements."""
    brokers = f"127.0.0.1:{read_env(state.env)['KAFKA_DIRECT_PORT']}"
    reader = Consumer({"bootstrap.servers": brokers, "group.id": "resend", "enable.auto.commit": False})
    writer = Producer({"bootstrap.servers": brokers, "acks": "all"})

    def ends(partition: int) -> tuple[int, int] | None:
        with suppress(KafkaException):  # the broker has only just been started, and does not know the topic yet
            return reader.get_watermark_offsets(TopicPartition(topic, partition), 5)
        return None

    for partition in range(4):
        low, end = until(functools.partial(ends, partition), BROKER_S, what=f"partition {partition}")
        first = max(low, end - RESENT)
        reader.assign([TopicPartition(topic, partition, first)])
        for message in reader.consume(end - first, 10) if end > first else ():
            writer.produce(topic, message.value(), key=message.key(), partition=partition)
    reader.close()
    assert writer.flush(30) == 0
