"""A user's way with containers: check, then a night of all failure tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.docker.conftest import Platform
from tests.e2e.command import results

NIGHT_S, UP_S = 900, 700
pytestmark = [pytest.mark.suite("docker"), pytest.mark.timeout(NIGHT_S + UP_S)]

SKIPPED = {
    ("test object_store_outage", "how=read_only"),
    ("test offload_failure", "point=after_data_file, victim=engine"),
    ("test offload_failure", "point=after_commit, victim=engine"),
}
"""MinIO's users can't be denied by a bucket's policy: the toml says so, for whichever store is in its place. The flow
does its work itself: there is no engine."""


def test_check_finds_everything(platform: Platform) -> None:
    """Components, hops, cursors, archive and links; the variants that can't run here are named with their reasons."""
    done = platform.gameday("check", "--json")
    rows = json.loads(done.stdout)
    lacking = {(row["what"], row["note"].partition(":")[0]) for row in rows if not row["ok"]}
    assert lacking == SKIPPED, [row for row in rows if not row["ok"]]
    assert done.returncode == 0, done.stderr
    assert {"component broker", "hop silver", "archive", "cursor clickhouse"} <= {row["what"] for row in rows}


def test_a_night_passes(platform: Platform, tmp_path: Path) -> None:
    """Six passes, and the whole history is right."""
    found = tmp_path / "r.json"
    done = platform.gameday("run", "--all", "--json", str(found), within_s=NIGHT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {r["test"]: r["verdict"] for r in results(found)} == {
        "broker_restart": "pass",
        "clickhouse_restart": "pass",
        "feed_handler_crash": "pass",
        "offload_failure": "pass",
        "object_store_outage": "pass",
        "network_partition": "pass",
    }
    assert "history: pass" in done.stdout
    for result in results(found):
        assert all(n == 0 for hops in result["counts"].values() for n in hops.values()), result["counts"]
