"""The platform of change data capture, as a user runs it: it comes up, its records are as declared, and its failure
tests pass while it is healthy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gameday.state import State
from tests.e2e.cdc.copied import carried_out, here, platform
from tests.e2e.command import gameday

pytestmark = [pytest.mark.suite("cdc"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """The platform as it is."""
    with platform(tmp_path_factory.mktemp("cdc")) as state:
        yield state


def test_its_records_are_as_declared(healthy: State) -> None:
    """At every hop, held against each other; and each of its tests can be carried out."""
    done = gameday(healthy, *here(healthy), "check", "--look", "--json")
    rows = json.loads(done.stdout)
    assert [row for row in rows if not row["ok"]] == []
    assert done.returncode == 0
    assert {"look at topic", "look at target", "test connector_crash", "test sink_crash"} <= {r["what"] for r in rows}


def test_its_status_is_well(healthy: State) -> None:
    """All components answer, and its streams flow."""
    done = gameday(healthy, *here(healthy), "status", "--json")
    seen = json.loads(done.stdout)
    assert seen["well"], done.stdout
    assert len(seen["streams"]) == 12
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("test", "params"),
    [
        ("connector_restart", ("how=graceful",)),
        ("connector_restart", ("how=task",)),
        ("connector_crash", ("point=before_offset_commit",)),
        ("consumer_lag", ("how=pause",)),
        ("duplicates", ()),
        ("schema_evolution", ("change=add",)),
        ("backfill", ()),
        ("sink_crash", ("point=before_commit",)),
        ("constraint_violation", ("kind=check",)),
        ("target_error", ("how=serialization",)),
        ("crash", ("component=source",)),
        ("crash", ("component=target",)),
        ("restart", ("component=broker",)),
    ],
)
def test_a_healthy_platform_passes(healthy: State, tmp_path: Path, test: str, params: tuple[str, ...]) -> None:
    """With nothing lost, doubled or changed, at any hop."""
    code, result = carried_out(healthy, tmp_path, test, *params)
    assert (code, result["verdict"]) == (0, "pass"), result["findings"]
    assert not any(number for hops in result["counts"].values() for number in hops.values())


@pytest.mark.parametrize(("test", "params"), [("log_cut", ()), ("slot_lost", ())])
def test_what_is_lost_for_good_is_told(healthy: State, tmp_path: Path, test: str, params: tuple[str, ...]) -> None:
    """The history lacks what was written meanwhile, and nothing else; the rows are right. Somebody is paged."""
    code, result = carried_out(healthy, tmp_path, test, *params)
    assert (code, result["verdict"]) == (0, "pass"), result["findings"]
    assert {hop for hop, number in result["counts"]["lost"].items() if number} == {"history"}
    assert not any(number for kind in ("doubled", "changed") for number in result["counts"][kind].values())
    assert {"gap", "alert"} <= {found["check"] for found in result["findings"] if found["verdict"] == "pass"}
