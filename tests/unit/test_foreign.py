"""A stack that isn't ours, as a configuration: what tests lack there, and what can't be judged, both with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows import catalogue
from flows.nightly import choose
from flows.trades.offload_failure import offload_failure
from gameday.errors import ConfigError
from gameday.faults.ambush import Ambush
from gameday.faults.ask import Ask
from gameday.faults.strike import Strike
from gameday.model import Evidence, Finding, Verdict
from gameday.ports import Ledger
from gameday.stack import reading, variables
from gameday.stack.live import Stack
from gameday.state import ROOT, State
from gameday.verdict import checks
from tasks.closing import close_night
from tasks.definition import definition
from tasks.night import Night
from tasks.survey import fitting
from tasks.verify import judge

THEIRS = ROOT / "tests" / "docker" / "theirs" / "gameday.toml"
EMBEDDED = ROOT / "compose" / "trades" / "gameday.toml"
VALUES = {
    "K2_CLICKHOUSE_URL": "http://default:secret@127.0.0.1:1",
    "K2_POSTGRES": "postgresql://prefect:secret@127.0.0.1:1/prefect",
    "GAMEDAY_HISTORY": "postgresql://gameday:secret@127.0.0.1:1/gameday",
    "GAMEDAY_PREFECT": "http://127.0.0.1:1/api",
    "GAMEDAY_PREFECT_PASSWORD": "p",
    "DOCKER_HOST": "unix:///nowhere/docker.sock",
}


ACCOUNTED = {"dead_lettered", "delivered_at_most", "metrics_true", "redelivered"}
"""What asks for an account of a broker's deliveries and dead letters, or a contract of metrics."""


def opened(path: Path, folder: Path, *leave_out: str) -> Stack:
    """The stack of a gameday.toml, without these tables."""
    text = path.read_text()
    for table in leave_out:
        begin = text.index(f"\n{table}")
        end = text.find("\n[", begin + len(table))
        text = text[:begin] + (text[end:] if end > 0 else "\n")
    names = set(variables.VARIABLE.findall(text))
    folder.mkdir(exist_ok=True)
    (folder / "stack.env").write_text("".join(f"{n}={VALUES.get(n, f'127.0.0.1:{i}')}\n" for i, n in enumerate(names)))
    (folder / "gameday.toml").write_text(text)
    state = State(folder)
    return Stack(reading.load(folder / "gameday.toml", state), state, folder / "gameday.toml")


@pytest.fixture
def k2(tmp_path: Path) -> Stack:
    """The example's, on this machine: no engine is asked for anything."""
    return opened(THEIRS, tmp_path / "k2")


@pytest.fixture
def trades(tmp_path: Path) -> Stack:
    """The embedded stack's."""
    return filled_in(EMBEDDED, tmp_path)


def filled_in(path: Path, folder: Path) -> Stack:
    """The stack of a gameday.toml, with numbers for what is drawn."""
    names = sorted(set(variables.VARIABLE.findall(path.read_text())))
    (folder / "stack.env").write_text("".join(f"{n}=4{i:03}\n" for i, n in enumerate(names)))
    state = State(folder)
    return Stack(reading.load(path, state), state, path)


def test_nothing_is_left_unjudged_of_the_embedded_stacks(trades: Stack, tmp_path: Path) -> None:
    """A check that is skipped on each of them would be one that never fails. Only the router has accounts of what its
    broker handed out, and a contract of its metrics."""
    assert set(trades.untold()) == ACCOUNTED
    (tmp_path / "router").mkdir()
    router = filled_in(reading.platform_config("router"), tmp_path / "router")
    assert not ACCOUNTED & set(router.untold())
    assert isinstance(trades.streams["trades"].ledger, Ledger)


def test_of_the_example_only_what_it_cant_tell_is_unjudged(k2: Stack) -> None:
    """Each with the key that is missing; its log is the ledger, and no Ledger."""
    assert set(k2.untold()) == {"first_kept", *ACCOUNTED}
    assert "hops.*.first" in k2.untold()["first_kept"]
    assert not isinstance(k2.streams["trades"].ledger, Ledger)


@pytest.mark.parametrize(
    ("table", "unjudged"),
    [
        ("[hops.bronze.log]", {"continuous", "resumed"}),
        ("[watches.serving]", {"served"}),
        ("[archive.mirror]", {"watermark"}),
    ],
)
def test_what_is_left_out_is_unjudged(tmp_path: Path, table: str, unjudged: set[str]) -> None:
    """And what doesn't rest on it is judged as before."""
    assert set(opened(THEIRS, tmp_path / "k2", table).untold()) == {"first_kept", *ACCOUNTED, *unjudged}


def test_where_no_number_counts_records_their_order_is_not_judged(tmp_path: Path) -> None:
    """Rather than unknown in every run: nobody can tell it there."""
    untold = filled_in(ROOT / "tests" / "e2e" / "events" / "gameday.toml", tmp_path).untold()
    assert untold["order"] == "no hop is a log whose records a number counts in its order"


def test_versions_tell_the_order_of_rows_that_change(tmp_path: Path) -> None:
    """A version that goes back in the log is a fail, though no number counts the rows."""
    events = (ROOT / "tests" / "e2e" / "events" / "gameday.toml").read_text()
    path = tmp_path / "gameday.toml"
    path.write_text(events.replace('key = ["event_id"]', 'key = ["event_id"]\nversion = "version"'))
    assert "order" not in filled_in(path, tmp_path).untold()


def test_without_cursors_no_position_is_judged(tmp_path: Path) -> None:
    """Nor whether the log goes on."""
    tables = [f"[cursors.clickhouse-{venue}]" for venue in ("binance", "kraken", "coinbase")]
    untold = opened(THEIRS, tmp_path / "k2", *tables).untold()
    assert {"offsets_advance", "upstream_flows"} <= set(untold)


def test_code_without_failpoints_is_not_struck_from_inside(k2: Stack, trades: Stack) -> None:
    """The reason names the key; what is asked for from outside needs none."""
    inside = Strike("offload-worker", "offload", "offload::after_commit", "1*kill")
    assert k2.lacks(inside) == ["the code of job 'offload' has no failpoints (jobs.offload.points)"]
    assert k2.lacks(Ask("offload-worker", "offload")) == []
    assert k2.lacks(Ask("offload-worker", "maintenance")) == ["stack k2 has no job 'maintenance'"]
    assert trades.lacks(inside) == []
    assert trades.lacks(Ambush("engine", "offload")) == ["stack trades has no component 'engine'"]


def test_an_engine_is_only_struck_where_it_shows_from_outside() -> None:
    """The other points of a commit are refused, with the right ones."""
    made: Any = definition(offload_failure)
    assert isinstance(made(point="after_commit", victim="engine").plan[-1].fault, Ambush)
    with pytest.raises(ConfigError, match=r"before_read can't be seen from outside\. Remedy: one of after"):
        made(point="before_read", victim="engine")


def test_the_canonical_set_is_the_first_that_the_stack_can_carry_out(trades: Stack) -> None:
    """The embedded stack has failpoints; one without them is struck from outside. All are all."""
    assert [params for _, params in choose(["offload_failure"], "canonical", trades)] == [
        {"point": "after_data_file", "victim": "flow"}
    ]
    bare = Stack(
        trades.config.model_copy(
            update={
                "jobs": {n: j.model_copy(update={"points": False}) for n, j in trades.config.jobs.items()},
                "components": {**trades.config.components, "engine": trades.config.components["offload-worker"]},
            }
        ),
        trades.state,
        EMBEDDED,
    )
    assert [params for _, params in choose(["offload_failure", "object_store_outage"], "canonical", bare)] == [
        {"point": "after_data_file", "victim": "engine"},
        {"how": "stop", "during": "start"},
    ]
    assert len(choose(["offload_failure"], "all", bare)) == len(definition(offload_failure)().nightly)


def test_where_no_set_can_be_carried_out_the_first_says_why(trades: Stack) -> None:
    """A test is not left out silently."""
    none = Stack(trades.config.model_copy(update={"jobs": {}, "archive": None}), trades.state, EMBEDDED)
    assert [params for _, params in choose(["offload_failure"], "canonical", none)] == [
        {"point": "after_data_file", "victim": "flow"}
    ]


def test_check_tells_for_each_test_what_it_lacks_and_what_cant_be_judged(trades: Stack) -> None:
    """One row a parameter set, and one for what the stack can't tell."""
    bare = Stack(trades.config.model_copy(update={"watches": {}, "links": {}}), trades.state, EMBEDDED)
    rows = list(fitting(bare, {name: definition(flow) for name, flow in catalogue().items()}))
    of = {name: [r["note"] for r in rows if r["what"] == f"test {name}"] for name in catalogue()}
    assert of["broker_restart"] == ["how=graceful: can run", "how=sigkill: can run"]
    (mute,) = [row for row in rows if row["what"] == "checks of feed_handler_crash"]  # no test that could run
    assert mute["note"].startswith("can't be judged here: served (nothing fetches")
    assert all("has no link" in note for note in of["network_partition"] if "how=isolate" not in note)
    lacking_rows = [r for r in rows if "has no link" in r["note"]]
    assert not any(r["ok"] for r in lacking_rows)


def test_an_unjudged_check_is_skipped_with_its_reason_and_another_is_not(k2: Stack) -> None:
    """A skipped one makes no pass: with nothing else judged the run is unknown."""

    class Gathered:
        stack = k2
        symptoms: dict[str, object] = {}  # noqa: RUF012
        gathered = Evidence("t", {}, "k2")
        test = definition(catalogue()["broker_restart"])()

    found: tuple[Finding, ...] = judge.fn(Gathered())  # type: ignore[arg-type]
    verdicts = {f.check: f.verdict for f in found}
    assert verdicts["first_kept"] is Verdict.SKIPPED
    assert verdicts["no_loss"] is Verdict.UNKNOWN
    wanted = (
        *checks.INTACT,
        checks.offsets_advance,
        checks.reconnected,
        checks.continuous,
        checks.recovered,
        checks.alert,
    )
    assert set(verdicts) == {check.__name__ for check in wanted}


def test_a_whole_history_is_not_judged_by_a_log(k2: Stack) -> None:
    """It keeps only its newest records; the night says so, and its verdict doesn't hang on it."""
    here = Night("night-1")
    close_night.fn(here, k2)
    (found,) = here.findings
    assert (found.check, found.verdict, "not judged here" in found.why) == ("history", Verdict.SKIPPED, True)
