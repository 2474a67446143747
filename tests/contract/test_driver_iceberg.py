"""The archive, its mirror and the rights in its store, as gameday sees them: over what the real offload fills."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import psycopg
import pyarrow.compute as pc
import pytest
from pyiceberg.table.snapshots import Operation, Summary
from pyiceberg.table.update.snapshot import _MergeAppendFiles

from gameday.drivers.clickhouse import Hop as Silver
from gameday.drivers.iceberg import Archive
from gameday.drivers.postgres import Mirror, TimeMirror
from gameday.drivers.s3 import Rights
from gameday.errors import ConfigError, DriverError, RolledBack
from gameday.model import (
    Baseline,
    Check,
    Digest,
    Evidence,
    Group,
    Marks,
    Position,
    Sample,
    Verdict,
    Window,
)
from gameday.system.address import encoded
from gameday.verdict import checks
from tasks.closing import BELOW
from tasks.verify import touched
from tests.contract.sockets import nobody
from tests.offloadrig import BUCKET, DAY_US, FIRST_US, PASSWORD, Offload
from tests.trades import FIELDS, TRADE_SQL, TRADES

BTC: Group = ("binance", "BTCUSDT")
KRAKEN: Group = ("kraken", "BTC/USD")


def archive(offload: Offload, **changes: str) -> Archive:
    catalog = {
        "name": "lake",
        "type": "sql",
        "uri": offload.servers.postgres.replace("postgresql://", "postgresql+psycopg://"),
        "warehouse": f"s3://{BUCKET}/warehouse",
        "s3.endpoint": f"http://127.0.0.1:{offload.servers.s3_port}",
        "s3.access-key-id": "admin",
        "s3.secret-access-key": PASSWORD,
        "s3.region": "us-east-1",
    }
    settings = {**catalog, **changes}
    return Archive(settings, offload.settings().table, offload.servers.clickhouse, TRADES, fields=TRADE_SQL)


def exported(offload: Offload, count: int, first: int, venue: str = "binance", symbol: str = "BTCUSDT") -> None:
    """So many more trades arrive, and are moved in one commit."""
    offload.write(count, first, venue, symbol)
    offload.commit()
    offload.run()


def test_a_table_without_a_commit_says_nothing(offload: Offload) -> None:
    """No heads, no commits, an empty digest; not an error."""
    table = archive(offload)
    assert (table.heads(), table.commits(None), table.read()) == ({}, [], {"": 0.0})
    assert table.digest(Window({}, {BTC: 10}))[0].groups == {}


def test_the_newest_commit_tells_heads_and_position(offload: Offload) -> None:
    """As probe, as hop and as mirror; a symbol with a stroke in its name is one group."""
    exported(offload, 100, 1)
    exported(offload, 50, 1, *KRAKEN)
    table = archive(offload)
    assert table.heads() == {BTC: 100, KRAKEN: 50}
    found = table.read()
    assert (found["head/binance/BTCUSDT"], found["head/kraken/BTC%2FUSD"]) == (100.0, 50.0)
    positions = {name.removeprefix("position/"): at for name, at in found.items() if name.startswith("position/")}
    assert positions == offload.ends
    mirror = Mirror(offload.servers.postgres, "offload_watermarks", "table_name", offload.settings().table)
    assert mirror.position() == offload.ends


def test_its_digest_and_rows_equal_silver_s(offload: Offload) -> None:
    """The same sums over the same window, computed from the pinned snapshot's files, from below every id too."""
    exported(offload, 1000, 1)
    exported(offload, 500, 1, *KRAKEN)
    silver = Silver(offload.servers.clickhouse, "once", "trades.silver", TRADES, fields=TRADE_SQL, name="silver")
    window = Window({BTC: 100, KRAKEN: 0}, {BTC: 900, KRAKEN: 500})
    (right,), (held,) = silver.digest(window), archive(offload).digest(window)
    assert held.groups == right.groups
    assert (held.stream, held.hop, held.view, held.groups[BTC].rows) == ("archive", "archive", "final", 800)
    lowest = Window(dict.fromkeys((BTC, KRAKEN), BELOW), window.hi)  # as a night asks
    assert archive(offload).digest(lowest)[0].groups[BTC].rows == silver.digest(lowest)[0].groups[BTC].rows == 900
    one, other = silver.rows(BTC, 10, 20), archive(offload).rows(BTC, 10, 20)
    assert all(np.array_equal(one[name], other[name]) for name in FIELDS)


def test_each_commit_has_the_rows_that_it_added(offload: Offload) -> None:
    """From the one before the first act on; by the files that its manifests name, not by the ids that it claims."""
    for n in range(4):
        exported(offload, 100, 1 + 100 * n)
    table = archive(offload)
    first = table.commits(None)[0]
    assert (first.heads, first.added) == ({BTC: 400}, {})
    for n in range(4, 7):
        exported(offload, 100, 1 + 100 * n)
    found = table.commits(first.id)
    assert [c.heads[BTC] for c in found] == [400, 500, 600, 700]
    assert [(c.added[BTC].rows, c.added[BTC].lo, c.added[BTC].hi) for c in found[1:]] == [
        (100, 401, 500),
        (100, 501, 600),
        (100, 601, 700),
    ]


def test_commits_since_one_that_has_expired_can_t_be_told(offload: Offload) -> None:
    """What came between is not known: an error, and no shorter list."""
    exported(offload, 100, 1)
    table = archive(offload)
    (first,) = table.commits(None)
    for n in range(1, 4):
        exported(offload, 100, 1 + 100 * n)
    real = offload.table()
    (second, *_) = [s for s in real.snapshots() if s.parent_snapshot_id == int(first.id)]
    real.maintenance.expire_snapshots().by_ids([int(first.id), second.snapshot_id]).commit()
    with pytest.raises(DriverError, match=f"commit {first.id} is no longer in the history of .*Remedy: keep snapshots"):
        table.commits(first.id)


def compacted(offload: Offload) -> None:
    """Every file is replaced by others with the same rows, in a commit that says nothing of positions."""
    real = offload.table()
    real.overwrite(real.scan().to_arrow())


class Rewrite(_MergeAppendFiles):
    """A commit of nothing but manifests, merged into one: pyiceberg itself only merges where it appends."""

    def _summary(self, snapshot_properties: dict[str, str] = {}) -> Summary:  # noqa: B006 - as it is declared there
        return super()._summary(snapshot_properties).model_copy(update={"operation": Operation.REPLACE})


def rewritten(offload: Offload) -> None:
    """Every manifest is merged into one, in a commit of its own (`rewrite_manifests`); the files stay."""
    real = offload.table()
    before = real.current_snapshot().manifests(real.io)
    with real.transaction() as change:
        change.set_properties({"commit.manifest-merge.enabled": "true", "commit.manifest.min-count-to-merge": "2"})
        with Rewrite(Operation.APPEND, change, real.io):
            pass
        change.set_properties({"commit.manifest-merge.enabled": "false"})
    after = offload.table().current_snapshot().manifests(real.io)
    assert len(before) > len(after) == 1


def expired(offload: Offload) -> None:
    """Old commits go, but not those of the run."""
    real = offload.table()
    oldest = min(real.snapshots(), key=lambda s: s.timestamp_ms)
    real.maintenance.expire_snapshots().by_ids([oldest.snapshot_id]).commit()


def branched(offload: Offload) -> None:
    """Somebody commits to a branch of his own."""
    real = offload.table()
    real.manage_snapshots().create_branch(real.current_snapshot().snapshot_id, "audit").commit()
    real = offload.table()
    real.append(real.scan(limit=7).to_arrow(), branch="audit")


def several(offload: Offload) -> None:
    rewritten(offload)
    compacted(offload)
    branched(offload)
    compacted(offload)
    expired(offload)


@pytest.mark.parametrize("maintain", [compacted, rewritten, expired, branched, several], ids=lambda f: f.__name__)
@pytest.mark.parametrize("placed", [True, False], ids=["positions", "rows"])
def test_maintenance_beside_a_run_changes_no_commit(
    offload: Offload, maintain: Callable[[Offload], None], placed: bool
) -> None:
    """Each has the rows that it added, at its own snapshot, wherever they are by now."""
    for n in range(2):
        exported(offload, 100, 1 + 100 * n)
    table = archive(offload) if placed else replace(archive(offload), position="")
    (first,) = table.commits(None)
    for n in range(2, 4):
        exported(offload, 100, 1 + 100 * n)
    maintain(offload)
    exported(offload, 100, 401)
    for looking in (table, archive(offload) if placed else replace(archive(offload), position="")):
        found = looking.commits(first.id)
        ours = {c.heads[BTC]: c.added[BTC] for c in found[1:] if c.added and c.added[BTC].rows == 100}
        assert {head: (t.keys, t.lo, t.hi) for head, t in ours.items()} == {
            head: (100, head - 99, head) for head in (300, 400, 500)
        }
        assert looking.heads() == {BTC: 500}
    assert archive(offload).digest(Window({}, {BTC: 500}))[0].groups[BTC].rows == 500


@pytest.mark.parametrize("placed", [True, False], ids=["positions", "rows"])
def test_two_commits_in_one_second_are_two(offload: Offload, placed: bool) -> None:
    """Each with its own rows, in their order: it is the parent that tells it, not the time."""
    exported(offload, 100, 1)
    table = archive(offload) if placed else replace(archive(offload), position="")
    (first,) = table.commits(None)
    real = offload.table()
    rows = real.scan().to_arrow()
    number = rows.column_names.index("trade_id")
    for n in (1, 2):
        later = rows.set_column(number, rows.schema.field(number), pc.add(rows["trade_id"], 100 * n))
        told = {table.position or "offload.position": json.dumps(first.position or {"t/0": 1})}
        real.append(later, snapshot_properties={**told, "offload.ids": json.dumps({"binance/BTCUSDT": 100 + 100 * n})})
    found = table.commits(first.id)
    assert found[2].at_us - found[1].at_us < 1_000_000, "this machine was too slow to show it"
    assert [(c.heads[BTC], c.added[BTC].keys, c.added[BTC].lo, c.added[BTC].hi) for c in found[1:]] == [
        (200, 100, 101, 200),
        (300, 100, 201, 300),
    ]


def test_a_table_that_was_rolled_back_behind_a_commit_is_no_riddle(offload: Offload) -> None:
    """It says so: that is a find, not something that can't be told. Also when the job has gone on since."""
    exported(offload, 100, 1)
    (before,) = archive(offload).commits(None)
    exported(offload, 100, 101)
    (newest,) = archive(offload).commits(None)
    offload.table().manage_snapshots().rollback_to_snapshot(int(before.id)).commit()
    for _ in range(2):
        with pytest.raises(RolledBack, match=f"commit {newest.id} of the baseline is no longer in the history"):
            archive(offload).commits(newest.id)
        assert archive(offload).commits(before.id)[0].id == before.id
        exported(offload, 100, 201)


def test_without_positions_each_commit_s_rows_tell_its_heads(offload: Offload) -> None:
    """The same heads as the summaries say, whether or not the commits before were seen when they were made."""
    for n in range(3):
        exported(offload, 100, 1 + 100 * n)
    exported(offload, 50, 1, *KRAKEN)
    watching = replace(archive(offload), position="")
    (first,) = watching.commits(None)
    assert (first.heads, first.position) == ({BTC: 300, KRAKEN: 50}, {})
    assert watching.read() == {"": 1.0, "head/binance/BTCUSDT": 300.0, "head/kraken/BTC%2FUSD": 50.0}
    for n in range(3, 5):
        exported(offload, 100, 1 + 100 * n)
    for table in (watching, replace(archive(offload), position="")):
        found = table.commits(first.id)
        assert [dict(c.heads) for c in found] == [{BTC: head, KRAKEN: 50} for head in (300, 400, 500)]
        assert [(c.added[BTC].rows, c.added[BTC].lo) for c in found[1:]] == [(100, 301), (100, 401)]
        assert table.heads() == {BTC: 500, KRAKEN: 50}


def test_rows_that_are_appended_again_are_found_without_positions(offload: Offload) -> None:
    """Below the heads of the commit before: the digest of what was touched has them, and the commit is named."""
    exported(offload, 100, 1)
    table = replace(archive(offload), position="")
    (first,) = table.commits(None)
    real = offload.table()
    real.append(real.scan(limit=7).to_arrow())
    exported(offload, 20, 101)
    silver = Silver(offload.servers.clickhouse, "once", "trades.silver", TRADES, fields=TRADE_SQL, name="silver")
    commits = list(table.commits(first.id))
    for number, (before, commit) in enumerate(pairwise(commits), start=1):
        right = silver.digest(Window(before.heads, commit.heads))[0].groups
        commits[number] = replace(commit, right=right)
    window = touched(commits)
    right = silver.digest(window)[0].groups
    digests = (Digest("archive", "silver", "final", right), *table.digest(window))
    evidence = Evidence("t", {}, "s", stream="trades", ledger="silver", commits=tuple(commits), digests=digests)
    doubled, whole = checks.no_duplicates(evidence), checks.snapshots_whole(evidence)
    assert (doubled.verdict, "archive has 7 trades too many" in doubled.why) == (Verdict.FAIL, True), doubled
    assert (whole.verdict, f"commit {commits[1].id}" in whole.why) == (Verdict.FAIL, True), whole
    assert checks.no_loss(evidence).verdict is Verdict.PASS


def test_a_file_that_no_commit_names_is_seen_in_the_store(offload: Offload) -> None:
    """While every file of a commit is one that it names."""
    exported(offload, 100, 1)
    table = archive(offload)
    assert table.stored() == table.named() != set()
    offload.write(50, 101)
    offload.commit()
    offload.finish(offload.start(**armed("offload::after_data_file=kill")))
    (stray,) = set(table.stored()) - set(table.named())
    assert stray.endswith(".parquet")
    assert not set(table.named()) - set(table.stored())


def test_a_commit_that_doubles_rows_is_seen_through(offload: Offload) -> None:
    """An append that repeats what is there, under a position that claims nothing new, is named by snapshots_whole."""
    exported(offload, 100, 1)
    table = archive(offload)
    first = table.commits(None)[0]
    real = offload.table()
    known = real.current_snapshot().summary.additional_properties
    summary = {name: value for name, value in known.items() if name.startswith("offload.")}
    real.append(real.scan(limit=7).to_arrow(), snapshot_properties=summary)
    found = [replace(c, right={}, logged=c.heads) for c in table.commits(first.id)]
    wrong = checks.snapshots_whole(Evidence("t", {}, "s", commits=tuple(found)))
    assert (wrong.verdict, "7 ids" in wrong.why) == (Verdict.FAIL, True), wrong


def test_a_mirror_written_before_its_commit_is_seen(offload: Offload) -> None:
    """The check `watermark`, over what the drivers really answer."""
    exported(offload, 100, 1)
    table = archive(offload)
    slot, truth = next(iter(offload.ends.items()))
    samples = {
        f"archive/position/{slot}": [Sample(n, 0, table.read()[f"position/{slot}"]) for n in range(3)],
        f"mirror/{slot}": [Sample(1, 0, float(truth + 50))],
    }
    ahead = Evidence("t", {}, "s", samples=samples, commits=tuple(table.commits(None)), baseline=_normal())
    assert checks.watermark(ahead).verdict is Verdict.FAIL


def _normal() -> Baseline:
    return Baseline(Marks(0, 0), 0.1, 1.0, {})


# ---- offloads with a defect ------------------------------------------------------------------------------------------

LATE_US = 30 * DAY_US


def killed_between(offload: Offload) -> None:
    """The position is committed, its rows are not; the next run goes on from there."""
    offload.write(100, 11)
    offload.commit()
    offload.finish(offload.start("tests.e2e.worse.offload_watermark_first", **armed("offload::after_data_file=kill")))
    offload.write(100, 111)
    offload.commit()
    offload.run()


def late(offload: Offload) -> None:
    """A trade arrives that happened long before the newest one."""
    offload.write(100, 11, since_us=FIRST_US - LATE_US)
    offload.commit()
    offload.finish(offload.start("tests.e2e.worse.offload_by_time"))


def unanswered(offload: Offload) -> None:
    """The acknowledgement of a commit is lost."""
    offload.write(100, 11)
    offload.commit()
    lost = armed("offload::after_commit=1*raise(ConnectionError: the answer was lost)")
    offload.finish(offload.start("tests.e2e.worse.offload_retries_blindly", **lost))


def sent_again(offload: Offload) -> None:
    """A trade comes twice, and ClickHouse has not merged the copies yet."""
    offload.servers.sql("SYSTEM STOP MERGES trades.silver_raw")
    try:
        for _ in range(2):
            offload.write(100, 11)
        offload.commit()
        offload.finish(offload.start("tests.e2e.worse.offload_without_dedup"))
    finally:
        offload.servers.sql("SYSTEM START MERGES trades.silver_raw")


def armed(terms: str) -> dict[str, str]:
    return {"FAILPOINTS_ENABLE": "1", "FAILPOINTS": terms}


def judged(offload: Offload, since: str) -> Evidence:
    """What a run would gather of the archive, with silver as the ledger."""
    table = archive(offload)
    silver = Silver(offload.servers.clickhouse, "once", "trades.silver", TRADES, fields=TRADE_SQL, name="silver")
    commits = list(table.commits(since))
    for number, (before, commit) in enumerate(pairwise(commits), start=1):
        right = silver.digest(Window(before.heads, commit.heads))[0].groups
        commits[number] = replace(commit, right=right, logged=logged(offload, commit.position))
    window = Window(commits[0].heads, silver.heads())
    right = silver.digest(window)[0].groups
    digests = (Digest("archive", "silver", "final", right), *table.digest(window))
    return Evidence("t", {}, "s", commits=tuple(commits), digests=digests)


def logged(offload: Offload, position: Position) -> dict[Group, int]:
    """What a broker would have below these offsets: bronze keeps a row for every record."""
    below = " OR ".join(
        f"(concat(topic, '/', toString(partition)) = '{slot}' AND offset < {offset})"
        for slot, offset in position.items()
    )
    lines = offload.servers.sql(f"SELECT venue, symbol, max(trade_id) FROM trades.bronze WHERE {below} GROUP BY 1, 2")
    return {(venue, symbol): int(head) for venue, symbol, head in (line.split("\t") for line in lines.splitlines())}


@pytest.mark.parametrize(
    ("happens", "check"),
    [
        (killed_between, checks.no_loss),
        (late, checks.no_loss),
        (unanswered, checks.no_duplicates),
        (sent_again, checks.no_duplicates),
    ],
    ids=["watermark before the commit", "watermark by time", "repeated blindly", "read without dedup"],
)
def test_an_offload_with_a_defect_is_caught_and_named(
    offload: Offload, happens: Callable[[Offload], None], check: Check
) -> None:
    """The damage is found at the archive, and the commit that made it is not whole."""
    exported(offload, 10, 1)
    first = archive(offload).commits(None)[0].id
    happens(offload)
    evidence = judged(offload, first)
    found = check(evidence)
    assert (found.verdict, found.why.startswith("archive has")) == (Verdict.FAIL, True), found
    whole = checks.snapshots_whole(evidence)
    assert (whole.verdict, "commit " in whole.why) == (Verdict.FAIL, True), whole


def test_the_sound_offload_passes_the_same_judgement(offload: Offload) -> None:
    """With late trades, trades sent again and a lost acknowledgement at once."""
    exported(offload, 10, 1)
    first = archive(offload).commits(None)[0].id
    for n in (11, 61):
        offload.write(100, n)
    offload.write(100, 161, since_us=FIRST_US - LATE_US)
    offload.commit()
    lost = armed("offload::after_commit=1*raise(ConnectionError: the answer was lost)")
    assert offload.finish(offload.start(**lost))[0] == 0
    evidence = judged(offload, first)
    verdicts = [check(evidence).verdict for check in (checks.no_loss, checks.no_duplicates, checks.unchanged)]
    assert verdicts == [Verdict.PASS] * 3
    assert checks.snapshots_whole(evidence).verdict is Verdict.PASS


def test_what_is_not_committed_is_not_seen(offload: Offload) -> None:
    """A whole snapshot whose metadata file lies in the store, and that the catalog does not name."""
    exported(offload, 100, 1)
    offload.write(100, 101)
    offload.commit()
    offload.finish(offload.start(**armed("offload::after_metadata=kill")))
    assert len([key for key in offload.objects() if key.endswith(".metadata.json")]) > 2
    table = archive(offload)
    assert table.heads() == {BTC: 100}
    assert table.digest(Window({BTC: 0}, {BTC: 200}))[0].groups[BTC].rows == 100


# ---- what goes wrong around it ---------------------------------------------------------------------------------------


def test_a_store_that_is_away_is_an_error_that_tells_no_secret(offload: Offload) -> None:
    """A DriverError, definite, in bounded time; neither key nor password is in it."""
    exported(offload, 10, 1)
    with nobody() as port:
        for table in (
            archive(offload, **{"s3.endpoint": f"http://127.0.0.1:{port}"}),
            archive(offload, uri=f"postgresql+psycopg://app:{encoded(PASSWORD)}@127.0.0.1:{port}/postgres"),
        ):
            with pytest.raises(DriverError) as caught:
                table.heads()
            assert caught.value.definite
            assert PASSWORD not in str(caught.value)
            assert encoded(PASSWORD) not in str(caught.value)


def test_what_a_catalog_lacks_is_named() -> None:
    """Before anything is contacted."""
    with pytest.raises(ConfigError, match=r"lacks warehouse, s3\.endpoint"):
        Archive({"name": "lake", "uri": "x"}, "a.b", "http://127.0.0.1:1", TRADES)


def test_a_mirror_without_the_row_is_an_error(offload: Offload) -> None:
    """Nothing is not the position zero."""
    with pytest.raises(DriverError, match="no position for table_name = nobody"):
        Mirror(offload.servers.postgres, "offload_watermarks", "table_name", "nobody").position()


def test_a_watermark_may_be_a_time(offload: Offload) -> None:
    """With a zone or without one, to the microsecond; a row that is not there, or says nothing, is an error."""
    dsn = offload.servers.postgres
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET timezone = 'Asia/Tokyo'")
        connection.execute("CREATE TABLE marks (source text, at timestamptz, bare timestamp)")
        connection.execute(
            "INSERT INTO marks VALUES ('silver', '2026-02-19 02:00:00.000001+00', '2026-02-19 02:00:00.000001')"
        )
    wanted = {"time_us": 1_771_466_400_000_001}
    assert TimeMirror(dsn, "marks", "source", "silver", "at").position() == wanted
    assert TimeMirror(dsn, "public.marks", "source", "silver", "bare").position() == wanted
    with pytest.raises(DriverError, match="marks has no at for source = gold"):
        TimeMirror(dsn, "marks", "source", "gold", "at").position()
    with pytest.raises(DriverError, match="last_offload_timestamp"):
        TimeMirror(dsn, "marks", "source", "silver").position()


def test_the_right_to_write_is_withdrawn_and_given_back(offload: Offload) -> None:
    """GET 200, PUT 403, without a restart; the policy is afterwards what it was, none or another one."""
    rights = offload.servers.rights()
    assert (rights.policy(), rights.denied(), rights.refusals()) == (None, False, {"read": 200, "write": 200})
    for _ in range(2):
        rights.deny_writes()
    assert (rights.denied(), rights.refusals()) == (True, {"read": 200, "write": 403})
    for _ in range(2):
        rights.allow_writes(None)
    assert (rights.policy(), rights.refusals()) == (None, {"read": 200, "write": 200})


def test_what_an_operator_puts_into_the_policy_meanwhile_stays(offload: Offload) -> None:
    """The undo takes away its own statement from what is there now; put before the act, it is kept by the act too."""
    rights = offload.servers.rights()
    rights.deny_writes()
    document = json.loads(rights.policy() or "")
    theirs = {**document["Statement"][0], "Sid": "audit", "Action": ["s3:DeleteBucket"]}
    rights._put(json.dumps({**document, "Statement": [theirs, *document["Statement"]]}))
    try:
        for _ in range(2):
            rights.allow_writes(None)
            assert [one["Sid"] for one in json.loads(rights.policy() or "")["Statement"]] == ["audit"]
        assert (rights.denied(), rights.refusals()) == (False, {"read": 200, "write": 200})
        rights.deny_writes()
        assert rights.refusals() == {"read": 200, "write": 403}
        rights.allow_writes(None)
        assert [one["Sid"] for one in json.loads(rights.policy() or "")["Statement"]] == ["audit"]
    finally:
        rights._delete()


def test_rights_in_a_store_that_is_away_may_have_changed() -> None:
    """Not definite: what was asked may have arrived."""
    with nobody() as port, pytest.raises(DriverError) as caught:
        Rights(f"http://127.0.0.1:{port}", BUCKET, "admin", "s3cret", "p", "u", "v").denied()
    assert not caught.value.definite
    assert "s3cret" not in str(caught.value)
