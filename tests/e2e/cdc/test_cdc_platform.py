"""The platform of change data capture, as a user runs it: it comes up, its records are as declared, its failure tests
pass while it is healthy, and a sink that is made worse is found out, at its hop and with the keys.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from compose import own
from compose.up import clean, up
from gameday import codec
from gameday.state import State
from gameday.undo import lease
from tests.e2e.command import gameday, results
from tests.stackfixture import drawn

pytestmark = [pytest.mark.suite("cdc"), pytest.mark.timeout(600)]

WITHIN_S = 420
PLATFORM = "cdc"


@contextmanager
def platform(folder: Path, defect: str = "") -> Iterator[State]:
    """The platform, up; with a defect of the sink's, if one is named."""
    state = State(folder)
    replaced = {}
    if defect:
        services = own.processes(own.platform(PLATFORM), state, drawn(state, PLATFORM), {})
        (sink,) = (service for service in services if service.name == "sink")
        replaced = {"sink": ("env", f"SINK_DEFECT={defect}", *sink.argv)}
    try:
        up(state, functools.partial(print, flush=True), replaced, PLATFORM)
        lease.hold(state, None)
        yield state
    finally:
        clean(state)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """The platform as it is."""
    with platform(tmp_path_factory.mktemp("cdc")) as state:
        yield state


def carried_out(state: State, folder: Path, test: str, *params: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the result of one run."""
    file = folder / "results.json"
    given = [part for param in params for part in ("-p", param)]
    done = gameday(state, *here(state), "run", test, *given, "--json", str(file), within_s=WITHIN_S)
    assert file.exists(), done.stdout + done.stderr
    (result,) = results(file)
    return done.returncode, result


def here(state: State) -> tuple[str, ...]:
    return "--platform", PLATFORM, "--state", str(state.root)


def failed(result: dict[str, Any]) -> dict[str, str]:
    """Check -> its reason."""
    return {found["check"]: found["why"] for found in result["findings"] if found["verdict"] == "fail"}


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


@pytest.mark.parametrize(
    ("defect", "test", "params", "check", "kind"),
    [
        ("ignore_delete", "consumer_lag", ("how=pause",), "no_duplicates", "doubled"),
        ("float_amount", "consumer_lag", ("how=pause",), "unchanged", "changed"),
        ("position_first", "sink_crash", ("point=before_position",), "no_loss", "lost"),
    ],
)
def test_a_sink_that_is_made_worse_is_found_out(
    tmp_path: Path, defect: str, test: str, params: tuple[str, ...], check: str, kind: str
) -> None:
    """By the check that it breaks, at the target, with a key of a row; the log is right."""
    with platform(tmp_path / "state", defect) as state:
        code, result = carried_out(state, tmp_path, test, *params)
        assert (code, result["verdict"]) == (1, "fail"), result["findings"]
        listed = codec.load_evidence(state.run(result["id"])).symptoms["differences"]
    assert result["counts"][kind]["target"] > 0
    assert result["counts"][kind]["topic"] == 0
    assert "target" in failed(result)[check]
    rows = [row for kinds in listed.values() if kind in kinds for row in kinds[kind]["rows"]]
    assert rows
    assert any(str(row["id"]) in failed(result)[check] for row in rows), failed(result)


def test_a_dead_letter_that_is_lost_is_found_out(tmp_path: Path) -> None:
    """A sink that only logs what is refused: its target is right, and its history lacks how the change has ended."""
    with platform(tmp_path / "state", "log_errors") as state:
        code, result = carried_out(state, tmp_path, "constraint_violation", "kind=check")
    assert (code, result["verdict"]) == (1, "fail"), result["findings"]
    assert {hop: number for hop, number in result["counts"]["lost"].items() if number} == {"history": 1}
    assert "orders/9" in failed(result)["no_loss"]
