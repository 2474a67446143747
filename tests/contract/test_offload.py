"""The offload on real servers: every trade reaches Iceberg once, whatever is killed, stopped, run twice, lost or away.

The truth is silver, compared with the pinned snapshot row by row (by digest, in ClickHouse). Kafka only keeps what its
consumer group has committed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import boto3
import psycopg
import pyarrow as pa
import pytest
import structlog
from botocore.exceptions import ClientError

from compose.service import READY_BUCKET
from failpoints import scenario
from gameday.system import address
from gameday.system.polling import until
from pipelines.trades.offload import maintenance
from pipelines.trades.offload.lake import IDS, lineage
from pipelines.trades.offload.mirror import Mirror
from pipelines.trades.offload.settings import OffloadError
from tests.contract.conftest import freeze
from tests.contract.sockets import nobody, silent
from tests.offloadrig import BUCKET, DAY_US, FIRST_US, Offload, Servers, fired
from tests.suites import only_in

POINTS = ("before_read", "after_data_file", "after_manifest_list", "after_metadata", "after_commit", "before_mirror")
ANSWER_S = 9
"""What the tests of silent servers set in place of 30 s: every time-out of the clients is a share of it."""

FAILS_WITHIN_S = 60.0
"""A run that can't go on ends in this time; the clients' own time-outs, as they are by default, make about half."""


def with_settings(offload: Offload, **changes: str) -> Offload:
    """The same stream and table under other settings."""
    offload.changes = {**offload.changes, **changes}
    return offload


# ---- what is moved ---------------------------------------------------------------------------------------------------


def test_every_trade_is_moved_once_over_several_runs(offload: Offload) -> None:
    """Of three venues and several days, digit by digit; the mirror tells the same as the table."""
    for n in range(3):
        for venue, symbol in (("binance", "BTCUSDT"), ("kraken", "BTC/USD"), ("coinbase", "ETH-USD")):
            offload.write(1000, 1 + 1000 * n, venue, symbol, days=3)
        offload.commit()
        assert offload.run().rows == 3000
        assert offload.whole()
    now, mirror = offload.place(), offload.mirror()
    assert now.ids == {"binance/BTCUSDT": 3000, "kraken/BTC/USD": 3000, "coinbase/ETH-USD": 3000}
    assert (mirror["position"], mirror["snapshot_id"], mirror["rows"]) == (now.position, now.snapshot_id, 9000)
    assert (mirror["status"], mirror["failure_count"], mirror["last_error"]) == ("succeeded", 0, None)


def test_a_file_holds_one_venue_and_one_day(offload: Offload) -> None:
    """The table is partitioned by both, so that readers skip what they don't ask for."""
    offload.write(200, venue="kraken", days=2)
    offload.write(200, venue="binance", days=2)
    offload.commit()
    offload.run()
    files = offload.table().inspect.files().to_pylist()
    places = {(f["partition"]["venue"], f["partition"]["exchange_day"]) for f in files}
    assert len(places) == len(files) >= 4


def test_only_what_clickhouse_has_committed_is_moved(offload: Offload) -> None:
    """Below that offset silver is complete; above it rows may still be on their way."""
    offload.write(100)
    offload.commit({key: 60 for key in offload.ends})
    assert offload.run().rows == 60
    assert offload.differing() == {}
    offload.commit()
    assert offload.run().rows == 40
    assert offload.whole()


def test_a_trade_that_happened_long_ago_is_moved_when_it_arrives(offload: Offload) -> None:
    """The position counts arrivals, not times."""
    offload.write(100)
    offload.commit()
    offload.run()
    offload.write(50, symbol="LATEUSDT", since_us=FIRST_US - 30 * DAY_US)
    offload.commit()
    assert offload.run().rows == 50
    assert offload.whole()


@pytest.mark.parametrize("merged", [False, True], ids=["apart", "merged"])
def test_a_trade_that_was_sent_again_is_moved_once(offload: Offload, merged: bool) -> None:
    """With its lowest offset; whether copies come before or after its export, and whatever ClickHouse has merged."""
    offload.write(100)
    offload.write(100)
    offload.commit()
    assert offload.run().rows == 100
    offload.write(100, first=51)
    offload.write(20, first=1)
    if merged:
        offload.servers.sql("OPTIMIZE TABLE trades.silver_raw FINAL")
    offload.commit()
    assert offload.run().rows == 50
    assert offload.differing() == {}


def test_a_large_backlog_is_moved_in_several_commits(offload: Offload) -> None:
    """Each no larger than it may be; between two summaries lie exactly the rows that the snapshot adds."""
    for venue, symbol, count in (("binance", "BTCUSDT", 3000), ("kraken", "BTC/USD", 2000), ("kraken", "ETH/USD", 500)):
        offload.write(count, venue=venue, symbol=symbol)
    offload.commit()
    done = with_settings(offload, COMMIT_ROWS="1000").run()
    assert (done.rows, done.commits) == (5500, 6)
    assert offload.whole()
    before: dict[str, int] = {}
    for snapshot in reversed(list(lineage(offload.table()))):
        assert snapshot.summary is not None
        ids = json.loads(snapshot.summary[IDS] or "")
        added = int(snapshot.summary["added-records"] or 0)
        assert added == sum(last - before.get(symbol, 0) for symbol, last in ids.items()) <= 1000
        before = ids


def test_nothing_new_makes_no_snapshot(offload: Offload) -> None:
    """Nor do records that hold no trade, or one that is known."""
    assert offload.run().commits == 0
    offload.write(10)
    offload.commit()
    offload.run()
    snapshot = offload.place().snapshot_id
    offload.write(10)  # again
    offload.commit({key: end + 5 for key, end in offload.ends.items()})  # dead letters
    assert offload.run().commits == 0
    assert offload.place().snapshot_id == snapshot
    offload.ends = {key: end + 5 for key, end in offload.ends.items()}
    offload.write(10, first=11)
    offload.commit()
    assert offload.run().rows == 10
    assert offload.whole()


# ---- two at once -----------------------------------------------------------------------------------------------------


def test_two_at_once_double_nothing(offload: Offload) -> None:
    """Both succeed; what one has committed the other is refused, and goes on from there."""
    offload.write(5000)
    offload.commit()
    with_settings(offload, COMMIT_ROWS="1000")
    slow = armed("offload::after_data_file=sleep(150)")
    outputs = [offload.finish(process) for process in [offload.start(**slow), offload.start(**slow)]]
    assert [code for code, _ in outputs] == [0, 0], outputs
    assert any('"rejected"' in output for _, output in outputs)
    assert offload.whole()


@pytest.mark.parametrize("point", [POINTS[1], *only_in("offload", POINTS[0], *POINTS[2:])])
def test_a_run_that_was_stopped_while_another_committed_doubles_nothing(
    offload: Offload, tmp_path: Path, point: str
) -> None:
    """Continued, it finds itself outdated, at whatever step it was; the mirror isn't set back either."""
    offload.write(2000)
    offload.commit()
    evidence = tmp_path / "evidence"
    zombie = offload.start(**armed(f"offload::{point}=1*sleep(1000)", evidence))
    fired(evidence)
    os.kill(zombie.pid, signal.SIGSTOP)
    offload.write(1000, first=2001)
    offload.commit()
    offload.run()
    os.kill(zombie.pid, signal.SIGCONT)
    code, output = offload.finish(zombie)
    assert code == 0, output
    assert offload.whole()
    assert offload.mirror()["position"] == offload.place().position


# ---- killed and lost -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", [*POINTS[:2], *only_in("offload", *POINTS[2:], "after_mirror")])
def test_a_killed_run_leaves_all_of_a_commit_or_nothing(offload: Offload, point: str) -> None:
    """The next one goes on from the table's position."""
    offload.write(2000)
    offload.commit()
    with_settings(offload, COMMIT_ROWS="1000")
    code, output = offload.finish(offload.start(**armed(f"offload::{point}=kill")))
    assert code == -signal.SIGKILL, output
    assert offload.differing() == {}
    assert (offload.place().rows == 0) is (point not in ("after_commit", "before_mirror", "after_mirror"))
    offload.run()
    assert offload.whole()
    assert offload.mirror()["position"] == offload.place().position


def test_a_commit_whose_acknowledgement_is_lost_is_found(offload: Offload) -> None:
    """By reloading the table: it is neither repeated nor cleaned away."""
    offload.write(2000)
    offload.commit()
    with (
        structlog.testing.capture_logs() as logs,
        scenario("offload::after_commit=1*raise(ConnectionError: the answer was lost)", everywhere=True) as s,
    ):
        done = with_settings(offload, COMMIT_ROWS="1000").run()
        s["offload::after_commit"].assert_fired(1)
    assert (done.rows, done.commits) == (2000, 2)
    assert [entry["event"] for entry in logs].count("acknowledgement_lost") == 1
    assert offload.whole()


def test_a_commit_that_did_not_happen_is_not_taken_for_lost(offload: Offload) -> None:
    """The run fails, the position holds, the next run moves the rows."""
    offload.write(1000)
    offload.commit()
    with (
        scenario("offload::after_metadata=1*raise(ConnectionError: cut off)", everywhere=True),
        pytest.raises(OffloadError, match="cut off"),
    ):
        offload.run()
    assert offload.place().snapshot_id is None
    assert offload.run().rows == 1000
    assert offload.whole()


# ---- the mirror ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "position = '{\"elsewhere/0\": 7}'",
        "sequence_number = 1000000, snapshot_id = 5, rows = 1",
        "sequence_number = 0, position = '{}', snapshot_id = NULL",
    ],
    ids=["wrong", "ahead", "behind"],
)
def test_the_mirror_is_mended_from_the_table(offload: Offload, damage: str) -> None:
    """Whatever it says, the next run reads the table, and tells what that says; an idle run too."""
    offload.write(100)
    offload.commit()
    offload.run()
    with psycopg.connect(offload.servers.postgres) as connection:
        connection.execute(
            f"UPDATE offload_watermarks SET {damage} WHERE table_name = %s",
            (offload.settings().table,),
        )
    assert offload.run().rows == 0
    now, mirror = offload.place(), offload.mirror()
    assert (mirror["position"], mirror["snapshot_id"], mirror["sequence_number"], mirror["rows"]) == (
        *(now.position, now.snapshot_id, now.sequence_number),
        100,
    )


def test_a_run_counts_although_another_has_started_beside_it(offload: Offload) -> None:
    """Where runs hang for longer than the schedule's interval, none is the last that started when it ends."""
    first, second = (Mirror(offload.settings(), name) for name in ("first", "second"))
    with contextlib.closing(first), contextlib.closing(second):
        first.begin()
        second.begin()
        first.failed(1.0, "no rows")
        mirror = offload.mirror()
        assert (mirror["status"], mirror["failure_count"], mirror["last_error"]) == ("running", 1, "no rows")
        first.begin()
        second.succeeded(2.0)
        mirror = offload.mirror()
        assert (mirror["status"], mirror["failure_count"], mirror["last_error"]) == ("running", 0, None)
        assert mirror["last_successful_run"] is not None


def test_the_mirror_tells_of_failed_and_killed_runs(offload: Offload) -> None:
    """Both count, until one succeeds; the error says what it was, and holds no password."""
    offload.write(100)
    offload.commit()
    offload.finish(offload.start(**armed("offload::after_data_file=kill")))
    assert offload.mirror()["status"] == "running"
    with nobody() as port, pytest.raises(OffloadError):
        with_settings(offload, CLICKHOUSE_URL=f"http://u:secret-word@127.0.0.1:{port}").run()
    mirror = offload.mirror()
    assert (mirror["status"], mirror["failure_count"]) == ("failed", 2)
    assert str(port) in mirror["last_error"]
    assert "secret-word" not in mirror["last_error"]
    offload.changes = {}
    offload.run()
    mirror = offload.mirror()
    assert (mirror["status"], mirror["failure_count"], mirror["last_error"]) == ("succeeded", 0, None)
    assert datetime.now(UTC).timestamp() - mirror["last_successful_run"].timestamp() < FAILS_WITHIN_S


# ---- maintenance -----------------------------------------------------------------------------------------------------


@pytest.mark.suite("offload")
def test_maintenance_beside_a_running_offload_harms_nothing(offload: Offload, monkeypatch: pytest.MonkeyPatch) -> None:
    """It expires and sweeps all the time while commits go on; every row is there, and few snapshots are left."""
    monkeypatch.setattr(maintenance, "CLOCKS_DIFFER_S", 1.0)
    offload.write(6000)
    offload.commit()
    with_settings(offload, COMMIT_ROWS="200", KEEP_SNAPSHOTS="3", ORPHAN_AGE_S="1")
    process = offload.start(**armed("offload::after_data_file=sleep(30)"))
    while process.poll() is None:
        maintenance.run(offload.settings())
    code, output = offload.finish(process)
    assert code == 0, output
    maintenance.run(offload.settings())
    assert offload.whole()
    assert len(offload.table().snapshots()) == 3


def test_orphans_are_swept_when_they_are_old_and_no_commit_can_want_them(
    offload: Offload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before their age, nor before a newer commit: until then the run that wrote them may only be asleep."""
    monkeypatch.setattr(maintenance, "CLOCKS_DIFFER_S", 1.0)
    offload.write(100)
    offload.commit()
    offload.run()
    offload.write(100, first=101)
    offload.commit()
    kept = set(offload.objects())
    offload.finish(offload.start(**armed("offload::after_metadata=kill")))
    orphans = set(offload.objects()) - kept
    assert {key.rpartition(".")[2] for key in orphans} == {"parquet", "avro", "json"}
    with_settings(offload, ORPHAN_AGE_S="1")
    until(lambda: age_s(offload, orphans) > 3, 10, 0.1, "orphans to grow old")
    assert maintenance.run(offload.settings()).swept == 0
    offload.run()
    with_settings(offload, ORPHAN_AGE_S="3600")
    assert maintenance.run(offload.settings()).swept == 0
    with_settings(offload, ORPHAN_AGE_S="1")
    assert maintenance.run(offload.settings()).swept == len(orphans)
    assert orphans.isdisjoint(offload.objects())
    assert offload.whole()


def test_an_upload_that_was_never_ended_is_aborted_when_it_is_old(offload: Offload) -> None:
    """Else its parts would stay for ever, unseen."""
    admin = offload.servers.admin()
    admin.create_multipart_upload(Bucket=BUCKET, Key="warehouse/left")
    assert maintenance.run(with_settings(offload, ORPHAN_AGE_S="3600").settings()).aborted == 0
    with_settings(offload, ORPHAN_AGE_S="1")
    until(lambda: maintenance.run(offload.settings()).aborted == 1, 10, 0.2, "the upload to grow old")
    assert not admin.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_the_position_outlives_expiry_under_snapshots_that_tell_none(offload: Offload) -> None:
    """Those of other writers; it is found among their parents, however few snapshots are kept."""
    offload.write(100)
    offload.commit()
    offload.run()
    for _ in range(3):
        foreign(offload, rows=0)
    with_settings(offload, KEEP_SNAPSHOTS="1")
    maintenance.run(offload.settings())
    offload.write(100, first=101)
    offload.commit()
    assert offload.run().rows == 100
    assert offload.whole()


def test_a_table_that_lost_its_position_is_refused(offload: Offload) -> None:
    """A guess would double every row."""
    foreign(offload, rows=0)
    offload.write(100)
    offload.commit()
    with pytest.raises(OffloadError, match=r"no snapshot of .* tells the position any more. Remedy"):
        offload.run()


# ---- servers that are away -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [nobody, *only_in("offload", silent)])
@pytest.mark.parametrize(
    ("setting", "url", "message"),
    [
        ("S3_ENDPOINT", "http://127.0.0.1:{}", r"S3 at http://127\.0\.0\.1:{} does not take part.*Remedy"),
        ("CLICKHOUSE_URL", "http://u:p@127.0.0.1:{}", r"ClickHouse at 127\.0\.0\.1:{} does not give rows.*Remedy"),
        ("BROKERS", "127.0.0.1:{}", r"Kafka at 127\.0\.0\.1:{} does not tell.*Remedy"),
        ("CATALOG_DSN", "postgresql://u:p@127.0.0.1:{}/d", r"catalog in Postgres at 127\.0\.0\.1:{} .*Remedy"),
        ("MIRROR_DSN", "postgresql://u:p@127.0.0.1:{}/d", r"Postgres at 127\.0\.0\.1:{} does not take.*Remedy"),
    ],
    ids=["s3", "clickhouse", "kafka", "catalog", "mirror"],
)
def test_a_server_that_is_away_or_hangs_ends_the_run_in_time(
    offload: Offload, how: object, setting: str, url: str, message: str
) -> None:
    """The error names the server, where it was looked for, and the remedy; rows are moved once it is back."""
    offload.write(10)
    offload.commit()
    began = time.monotonic()
    with how() as port, pytest.raises(OffloadError, match=message.format(port)):  # type: ignore[operator]
        with_settings(offload, ANSWER_S=str(ANSWER_S), **{setting: url.format(port)}).run()
    assert time.monotonic() - began < FAILS_WITHIN_S
    offload.changes = {}
    assert offload.run().rows == 10


def test_s3_is_ready_when_its_buckets_are_there(around: Servers) -> None:
    """Whoever asks whether it is ready can't make a bucket. An answer would come before the buckets are made, else."""
    at = address.of(str(around.s3.ready))
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://{at.host}:{at.port}",
        aws_access_key_id=at.user,
        aws_secret_access_key=at.password,
        region_name="us-east-1",
    )
    s3.put_object(Bucket=READY_BUCKET, Key="ready", Body=b"1")
    for bucket in ("nobody-has-made-it", BUCKET):
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.put_object(Bucket=bucket, Key="ready", Body=b"1")


def test_a_key_without_the_right_to_write_ends_the_run(offload: Offload) -> None:
    """Withdrawn and given back while the server runs; reading goes on."""
    offload.write(10)
    offload.commit()
    rights = offload.servers.rights()
    rights.deny_writes()
    try:
        with pytest.raises(OffloadError, match=r"S3 at .* refuses: .*Remedy: give OFFLOAD_S3_ACCESS_KEY that right"):
            offload.run()
        assert offload.place().snapshot_id is None
    finally:
        rights.allow_writes(None)
    assert offload.run().rows == 10


@pytest.mark.parametrize("answer", [{"ANSWER_S": str(ANSWER_S)}, *only_in("offload", {})], ids=["as set", "by default"])
def test_s3_that_hangs_in_the_middle_of_a_run_ends_it(offload: Offload, tmp_path: Path, answer: dict[str, str]) -> None:
    """In time; nothing of it is visible, and the next run moves everything."""
    offload.write(1000)
    offload.commit()
    evidence = tmp_path / "evidence"
    with_settings(offload, **answer)
    run = offload.start(**armed("offload::after_data_file=1*sleep(500)", evidence))
    fired(evidence)
    with frozen(offload.servers.s3_process):
        began = time.monotonic()
        code, output = offload.finish(run)
        assert (code, time.monotonic() - began < FAILS_WITHIN_S) == (1, True), output
    assert "S3 at " in output
    assert "Remedy" in output
    assert offload.place().snapshot_id is None
    assert offload.run().rows == 1000
    assert offload.whole()


# ---- offloads with a defect ------------------------------------------------------------------------------------------


def test_a_position_committed_before_its_rows_loses_them(offload: Offload) -> None:
    """The tests above would see it: killed between the two, the table lacks what it claims to have."""
    offload.write(1000)
    offload.commit()
    worse = offload.start("tests.e2e.worse.offload_watermark_first", **armed("offload::after_data_file=kill"))
    assert offload.finish(worse)[0] == -signal.SIGKILL
    offload.run()
    assert not offload.whole()


@pytest.mark.suite("offload")
def test_a_position_by_time_loses_what_arrives_late(offload: Offload) -> None:
    """Without any fault."""
    for since_us in (FIRST_US, FIRST_US - DAY_US):
        offload.write(100, symbol=f"S{since_us}", since_us=since_us)
        offload.commit()
        assert offload.finish(offload.start("tests.e2e.worse.offload_by_time"))[0] == 0
    assert list(offload.differing()) == [f"binance/S{FIRST_US - DAY_US}"]


def test_an_append_that_is_repeated_blindly_doubles_rows(offload: Offload) -> None:
    """When the acknowledgement of the first one is lost."""
    offload.write(100)
    offload.commit()
    lost = armed("offload::after_commit=1*raise(ConnectionError: the answer was lost)")
    code, output = offload.finish(offload.start("tests.e2e.worse.offload_retries_blindly", **lost))
    assert code == 0, output
    assert offload.place().rows == 200
    assert not offload.whole()


@pytest.mark.suite("offload")
def test_a_read_without_deduplication_doubles_rows(offload: Offload) -> None:
    """Of trades that were sent again and not yet merged."""
    offload.servers.sql("SYSTEM STOP MERGES trades.silver_raw")
    try:
        offload.write(100)
        offload.write(100)
        offload.commit()
        assert offload.finish(offload.start("tests.e2e.worse.offload_without_dedup"))[0] == 0
    finally:
        offload.servers.sql("SYSTEM START MERGES trades.silver_raw")
    assert offload.place().rows == 200
    assert not offload.whole()


# ---- small things ----------------------------------------------------------------------------------------------------


def armed(terms: str, evidence: Path | None = None) -> dict[str, str]:
    """What arms a process from its environment."""
    more = {"FAILPOINTS_EVIDENCE": str(evidence)} if evidence else {}
    return {"FAILPOINTS_ENABLE": "1", "FAILPOINTS": terms, **more}


def foreign(offload: Offload, rows: int) -> None:
    """A snapshot of another writer."""
    table = offload.table()
    table.append(table.scan().to_arrow().slice(0, rows).cast(pa.schema(table.scan().to_arrow().schema)))


def age_s(offload: Offload, keys: set[str]) -> float:
    """Seconds since the youngest of the objects was written."""
    admin = offload.servers.admin()
    youngest = max(admin.head_object(Bucket=BUCKET, Key=key)["LastModified"] for key in keys)
    return (datetime.now(UTC) - youngest).total_seconds()


@contextlib.contextmanager
def frozen(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A server that accepts connections and does nothing."""
    freeze(process.pid)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)
