"""`gameday init` against real NATS, Valkey and S3 with data: the file that it writes loads, and what it declares is
so."""

from __future__ import annotations

import signal
import time
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.ports import free_ports
from compose.servers import seaweedfs
from gameday.errors import ConfigError, NotUp
from gameday.model import Outcome
from gameday.ports import Newest
from gameday.records.attempts import Attempt, values
from gameday.stack.live import Stack
from gameday.stack.reading import parse
from gameday.state import State
from tasks.init import Asked, look_again, looked, text_of
from tasks.inventory import nats as inventory_nats
from tasks.inventory import redis_streams as inventory_redis
from tests.contract.conftest import freeze, new_nats, new_valkey, serving
from tests.contract.sockets import silent
from tests.contract.streamrigs import JetStream, RedisStream

NUMBER = 300
NOW_US = 1_795_000_000_000_000
START_S = 1_795_000_000


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.setenv("GAMEDAY_STATE", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    return State(tmp_path)


@pytest.fixture(params=["nats", "redis"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A stream on a server of the test's own, which has no other."""
    service, url = (new_nats if request.param == "nats" else new_valkey)(tmp_path / request.param)
    with serving(service):
        yield JetStream(url, "orders") if request.param == "nats" else RedisStream(url, "orders")


def placed(n: int) -> dict[str, Any]:
    at = datetime.fromtimestamp(START_S + n, UTC).isoformat()
    return {"order_id": str(uuid4()), "customer": f"customer {n}", "sum": f"{n}.25", "placed": at}


def table(dsn: str, orders: list[dict[str, Any]]) -> None:
    with psycopg.connect(dsn) as own:
        own.execute("CREATE TABLE orders (id uuid PRIMARY KEY, customer text, total numeric(12, 2), at timestamptz)")
        with own.cursor() as cursor:
            rows = [(one["order_id"], one["customer"], one["sum"], one["placed"]) for one in orders]
            cursor.executemany("INSERT INTO orders VALUES (%s, %s, %s, %s)", rows)


def asked(rig: Any, **more: Any) -> Asked:
    return Asked(**{"nats" if isinstance(rig, JetStream) else "redis": rig.url, **more})


def test_a_stream_and_a_table_become_a_file_whose_look_says_yes(rig: Any, dsn: str, tmp_path: Path) -> None:
    """Paths, types, key and time by the values; the consumer's place; and no password."""
    orders = [placed(n) for n in range(NUMBER)]
    rig.put(orders)
    rig.consume(100)
    table(dsn, orders)
    page = text_of(looked(asked(rig, postgres=(dsn,)), "shop", lambda line: None))
    raw = tomllib.loads(page.text)
    told = {row["what"]: row["ok"] for row in look_again(page, tmp_path / "gameday.toml")}
    assert {what: ok for what, ok in told.items() if what.startswith("look")} == {
        "look at log": True,
        "look at orders": True,
        "look from log to orders": True,
    }
    (stream,) = raw["streams"].values()
    assert (stream["key"], stream["time"]) == (["id"], "at")
    assert stream["fields"] == {"id": "uuid", "customer": "text", "total": "decimal(2)", "at": "time"}
    name = "NATS" if isinstance(rig, JetStream) else "REDIS"
    assert rig.url.partition("@")[0].partition("://gameday:")[2] not in page.text
    assert f"${{{name}_PASSWORD}}" in raw["hops"]["log"]["url"]
    assert raw["hops"]["log"].get("field") == ("data" if isinstance(rig, RedisStream) else None)
    (cursor,) = raw["cursors"].values()
    assert "200 messages left when it was looked at" in page.text
    stack = stack_of(page.text, page.secrets, tmp_path)
    assert stack.mistakes() == []
    place = stack.cursor(next(iter(raw["cursors"])))
    assert place.position() != place.end()
    assert cursor["topic"] == "orders"
    kind = "nats" if isinstance(rig, JetStream) else "redis"
    assert [probe.read() for probe in stack.own_probes(kind).values()] == [{"": 1.0}]
    assert raw["streams"]["orders"]["path"] == [kind, "postgres"]
    assert raw["watches"]["serving"]["topics"] == ["orders"]


def stack_of(text: str, secrets: Mapping[str, str], folder: Path) -> Stack:
    return Stack(parse(tomllib.loads(text), secrets, folder / "gameday.toml"), State(folder))


def test_a_canary_is_made_up_like_a_message(rig: Any, dsn: str, tmp_path: Path) -> None:
    """It is taken, and the log tells it from real records."""
    orders = [placed(n) for n in range(NUMBER)]
    rig.put(orders)
    table(dsn, orders)
    taken(rig, dsn, tmp_path)


def test_a_canary_is_made_up_like_an_entry(tmp_path: Path, dsn: str) -> None:
    """Where the fields are the record's own."""
    orders = [placed(n) for n in range(NUMBER)]
    table(dsn, orders)
    service, url = new_valkey(tmp_path / "redis")
    with serving(service):
        rig = RedisStream(url, "orders")
        with rig.client() as client:
            for one in orders:
                client.xadd(rig.topic, one)
        taken(rig, dsn, tmp_path)


def taken(rig: Any, dsn: str, folder: Path) -> None:
    """A record as the file has it is done, and is the one record that the canary's hop has."""
    page = text_of(looked(asked(rig, postgres=(dsn,)), "shop", lambda line: None), own=True)
    stack = stack_of(page.text, page.secrets, folder)
    assert stack.mistakes() == []
    assert stack.canary is not None
    sent = stack.canary.send(values(Attempt(1, "", str(uuid4()), NOW_US), "gameday-"))
    assert sent.outcome is Outcome.DONE, sent.why
    log = stack.hop(stack.streams["canary"].stream.hops[1])
    assert isinstance(log, Newest)
    seen = log.newest(100)
    assert (seen.malformed, sum(len(next(iter(columns.values()))) for columns in seen.groups.values())) == (0, 1)
    assert "may gameday write such records into orders" in page.text


def test_a_work_queue_is_asked_about(tmp_path: Path) -> None:
    """What it has handed out is gone; and without a table it is asked where users query."""
    service, url = new_nats(tmp_path / "nats")
    with serving(service):
        JetStream(url, "orders", {"retention": "workqueue"}).put([placed(n) for n in range(50)])
        page = text_of(looked(Asked(nats=url), "shop", lambda line: None))
    questions = " ".join(page.questions)
    assert "orders has the retention workqueue" in questions
    assert "where do users query these records?" in questions


def test_several_streams_and_what_is_none_are_told(tmp_path: Path) -> None:
    """A key-value store is no log; messages that are no JSON are named; of a stream without a consumer it is said."""
    service, url = new_nats(tmp_path / "nats")
    with serving(service):
        JetStream(url, "KV_settings").put([placed(1)])
        JetStream(url, "binary").put([b"\x00\x01"] * 20)
        JetStream(url, "orders").put([placed(n) for n in range(50)])
        seen = looked(Asked(nats=url), "shop", lambda line: None)
    assert [topic.name for topic in seen.logs[0].topics] == ["orders", "binary"]
    assert "KV_settings: stores of keys or objects, and no logs" in " ".join(seen.troubles)
    page = text_of(seen)
    assert "topic binary: 20 of its newest 20 messages are" in page.text
    assert "No consumer of orders was found" in page.text


def test_servers_that_hang_or_refuse_are_said_and_the_rest_goes_on(
    jetstream: str, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each within its bound, by its name; a password is not told."""
    for module in (inventory_nats, inventory_redis):
        monkeypatch.setattr(module, "ASK_WITHIN_S", 2.0)
    service, frozen = new_valkey(tmp_path / "v")
    with serving(service) as process, silent() as port:
        freeze(process.pid)
        began = time.monotonic()
        asked = Asked(
            nats=f"nats://me:its-secret@127.0.0.1:{port}", redis=frozen, s3="http://k:s@127.0.0.1:1", postgres=(dsn,)
        )
        seen = looked(asked, "shop", lambda line: None)
        took_s = time.monotonic() - began
        process.send_signal(signal.SIGCONT)
    assert took_s < 20
    told = " ".join(seen.troubles)
    for place in (f"NATS 127.0.0.1:{port}: no answer within", "Redis 127.0.0.1:", "S3 at http://127.0.0.1:1"):
        assert place in told, told
    assert "its-secret" not in told
    assert [store.driver for store in seen.stores] == ["postgres"]
    wrong = looked(Asked(nats=jetstream.replace("@127", "x@127")), "shop", lambda line: None)
    assert "Authorization Violation" in wrong.troubles[0]
    with pytest.raises(NotUp, match="Authorization Violation"):
        text_of(wrong)
    with pytest.raises(ConfigError, match=r"--redis.*such as redis://host:port"):
        Asked(redis="127.0.0.1:6379").check()


@pytest.mark.suite("brokers")
def test_buckets_and_iceberg_tables_are_told(tmp_path: Path) -> None:
    """What lies in a store, and how it shows that it serves; another secret is refused."""
    import boto3

    names = [name for part in seaweedfs.PARTS for name in (part, f"{part}.grpc")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    with serving(seaweedfs.process(tmp_path / "s3", ports, "lake", "admin/secret", "other")):
        endpoint = f"http://127.0.0.1:{ports['s3']}"
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id="admin",
            aws_secret_access_key="admin/secret",
            region_name="us-east-1",
        )
        for key in ("shop/orders/metadata/00000-a.metadata.json", "shop/orders/data/a.parquet", "other/file"):
            client.put_object(Bucket="lake", Key=key, Body=b"x")
        url = endpoint.replace("http://", "http://admin:admin%2Fsecret@")
        seen = looked(Asked(s3=url), "shop", lambda line: None)
        assert seen.objects is not None
        lake = next(bucket for bucket in seen.objects.buckets if bucket.name == "lake")
        assert (lake.objects, lake.whole, list(lake.tables)) == (3, True, ["s3://lake/shop/orders"])
        refused = looked(Asked(s3=url.replace("secret", "another")), "shop", lambda line: None)
        assert "S3 at " in refused.troubles[0]
        assert "another" not in refused.troubles[0]
        page = text_of(seen)
        assert "bucket lake: 3 objects; Iceberg tables: s3://lake/shop/orders" in page.text
        assert "secret" not in page.text
        assert "admin:" not in page.text  # the server's own command line has -admin.port
        probe = tomllib.loads(page.text)["components"]["s3"]["probes"]["answers"]
        assert probe["url"] == f"{endpoint}/"
        stack = stack_of(page.text, page.secrets, tmp_path)
        assert [one.read() for one in stack.own_probes("s3").values()] == [{"": 1.0}]
