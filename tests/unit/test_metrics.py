"""gameday's own metrics: the contract of docs/metrics.md; what becomes of them when history or a gateway is away."""

from __future__ import annotations

import base64
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from gameday.errors import GamedayError
from gameday.model import Measure, Trend, Verdict
from gameday.past.history import Board, Standing, with_run
from gameday.reports import metrics
from gameday.stack.config import MetricsConfig
from gameday.state import ROOT, State
from tests.unit import evidence

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

STANDING = Standing(
    run="r1",
    night="n1",
    test="broker_restart",
    params={"how": "sigkill"},
    verdict=Verdict.FAIL,
    ended_s=1_771_466_460.5,
    took_s=60.5,
    mttr_max_s=120.0,
    measures={"mttr": Measure(8.2, 8.4), "alert": Measure(20.0, 21.0), "drain": Measure(9.0, 9.5)},
    trends=(Trend("mttr", 30, 6.1, 6.9, 0.00001, True), Trend("alert", 3, 20.0, 21.0, None, False)),
    passed_s=1_771_380_000.0,
    nights_since_pass=2,
)
FULL = Board((STANDING,), 1_771_470_000.0)


def samples(text: str) -> Samples:
    """By name and labels; refuses a series that is there twice, as Prometheus does."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


def documented() -> dict[str, frozenset[str]]:
    """Name -> labels, as the table in docs/metrics.md has them."""
    rows = re.findall(r"^\| `(gameday_\w+)` \| ([`\w ]+) \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    return {name: frozenset(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def test_names_and_labels_are_those_of_the_page() -> None:
    """The table is the contract: nothing is missing, nothing more is there, and every metric is a gauge with a help."""
    text = metrics.render(FULL, "trades")
    assert {name: frozenset(dict(labels)) for name, labels in samples(text)} == documented()
    families = list(text_string_to_metric_families(text))
    assert {f.type for f in families} == {"gauge"}
    assert all(f.documentation for f in families)


def test_the_values_are_the_last_run_s() -> None:
    """One verdict of five is 1; measures are the high ends; what can't be said to be slower or not is absent."""
    found = samples(metrics.render(FULL, "trades"))
    of = {"stack": "trades", "test": "broker_restart", "params": "how=sigkill"}

    def value(name: str, **more: str) -> float | None:
        return found.get((name, tuple(sorted({**of, **more}.items()))))

    verdicts = {str(v): value("gameday_last_verdict", verdict=str(v)) for v in Verdict}
    assert verdicts == {"pass": 0, "skipped": 0, "unknown": 0, "invalid": 0, "fail": 1}
    assert (value("gameday_mttr_seconds"), value("gameday_mttr_target_seconds")) == (8.4, 120)
    assert (value("gameday_alert_seconds"), value("gameday_drain_seconds")) == (21, 9.5)
    assert (value("gameday_last_run_timestamp_seconds"), value("gameday_duration_seconds")) == (1_771_466_460.5, 60.5)
    assert (value("gameday_last_pass_timestamp_seconds"), value("gameday_nights_since_pass")) == (1_771_380_000, 2)
    assert (value("gameday_slower", measure="mttr"), value("gameday_slower", measure="alert")) == (1, None)
    assert found["gameday_night_completed_timestamp_seconds", (("stack", "trades"),)] == 1_771_470_000


def test_what_is_not_known_is_absent_not_zero() -> None:
    """A run that measured nothing, a test that never passed, a stack without a completed night."""
    bare = replace(STANDING, measures={"mttr": Measure(40.0, None, "not back")}, trends=(), passed_s=None)
    names = {name for name, _ in samples(metrics.render(Board((bare,), None), "trades"))}
    assert names == {
        "gameday_last_verdict",
        "gameday_last_run_timestamp_seconds",
        "gameday_duration_seconds",
        "gameday_mttr_target_seconds",
        "gameday_nights_since_pass",
    }
    assert samples(metrics.render(Board(), "trades")) == {}


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=8) | st.integers(), max_size=3), max_size=4))
@settings(deadline=None, max_examples=60)
def test_any_parameters_give_a_valid_file(params: list[dict[str, Any]]) -> None:
    """Quotes, line ends, backslashes, halves of characters, two that look alike: it can be read, and no series is there
    twice."""
    board = Board(tuple(replace(STANDING, params=p, ended_s=float(at)) for at, p in enumerate(params)), 1.0)
    found = samples(metrics.render(board, "trades"))
    shown = {dict(labels)["params"] for name, labels in found if name == "gameday_duration_seconds"}
    assert len(shown) <= len(params)
    assert bool(shown) is bool(params)


def test_a_label_comes_back_as_it_was() -> None:
    """What has a meaning of its own in the format is escaped, not lost."""
    board = Board((replace(STANDING, params={"q": 'a"b\\c\nd,e="f"}'}),), None)
    (labels,) = {labels for name, labels in samples(metrics.render(board, "trades")) if name == "gameday_mttr_seconds"}
    assert dict(labels)["params"] == 'q=a"b\\c\nd,e="f"}'


# ---- how things stand, without history ---------------------------------------------------------------------


def test_a_run_moves_the_board() -> None:
    """A fail counts a night, each night once; a pass starts anew; the same run again changes nothing."""
    result, _ = evidence.broker_restart()
    fail = replace(result, id="2", night="n2", verdict=Verdict.FAIL)
    board = with_run(Board(), result)
    assert [(s.verdict, s.nights_since_pass) for s in board.standings] == [(Verdict.PASS, 0)]
    assert board.standings[0].passed_s == pytest.approx(board.standings[0].ended_s)
    board = with_run(with_run(board, fail), replace(fail, id="3"))
    assert [(s.verdict, s.nights_since_pass) for s in board.standings] == [(Verdict.FAIL, 1)]
    board = with_run(with_run(board, replace(fail, id="4", night="n3")), replace(fail, id="4", night="n3"))
    assert board.standings[0].nights_since_pass == 2
    assert with_run(board, replace(result, id="5", night="n4")).standings[0].nights_since_pass == 0


@pytest.fixture
def away() -> Iterator[str]:
    """The address of a Postgres that refuses."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"postgresql://gameday:secret-word@127.0.0.1:{taken.getsockname()[1]}/gameday"


def stack_config(history: str, **given: Any) -> Any:
    return SimpleNamespace(name="trades", history=SecretStr(history), metrics=MetricsConfig(**given))


def test_history_away_shows_what_is_known(away: str, tmp_path: Path) -> None:
    """A fail is seen at once, also when Postgres is away; what was known before stays; that is said."""
    result, _ = evidence.broker_restart()
    state, config = State(tmp_path), stack_config(away)
    night_s = datetime(2026, 2, 19, 3, 0, tzinfo=UTC)
    told = metrics.publish(config, state, [result], night_s)
    assert len(told) == 1
    assert "made without history" in told[0]
    assert "secret-word" not in told[0]
    metrics.publish(config, state, [replace(result, id="2", verdict=Verdict.FAIL)])
    found = samples(state.textfile.read_text())
    of = tuple(sorted({"stack": "trades", "test": "broker_restart", "params": "how=graceful"}.items()))
    assert found["gameday_last_verdict", tuple(sorted((*of, ("verdict", "fail"))))] == 1
    assert found["gameday_last_pass_timestamp_seconds", of] < night_s.timestamp()
    assert found["gameday_night_completed_timestamp_seconds", (("stack", "trades"),)] == night_s.timestamp()


def test_a_textfile_that_can_t_be_written_is_told(away: str, tmp_path: Path) -> None:
    """With its path and a remedy; nothing is raised, and no half of a file is left behind."""
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "gameday.prom"
    told = metrics.publish(stack_config(away, textfile=path), State(tmp_path / "state"))
    assert any(f"{path} can't be written" in t and "Remedy" in t for t in told)


def test_a_broken_board_is_told_and_replaced(away: str, tmp_path: Path) -> None:
    """What was published last can't be read: the runs that are known are shown."""
    state = State(tmp_path)
    state.metrics.mkdir()
    state.board.write_text('{"standings": 7}')
    told = metrics.publish(stack_config(away), state, [evidence.broker_restart()[0]])
    assert any("board.json" in t for t in told)
    assert "gameday_last_verdict" in state.textfile.read_text()
    assert [t for t in metrics.publish(stack_config(away), state) if "board.json" in t] == []


# ---- the push gateway --------------------------------------------------------------------------------------


class Gateway(BaseHTTPRequestHandler):
    """What a push gateway does with a PUT: 200, or 400 and why; or it hangs."""

    asked: ClassVar[list[tuple[str, str, str | None, bytes]]] = []
    status: ClassVar[int] = 200
    hang: ClassVar[threading.Event | None] = None

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append((self.command, self.path, self.headers["Authorization"], body))
        if self.hang is not None:
            self.hang.wait(30)
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"pushed metrics are invalid\n" if self.status >= 400 else b"")

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


@contextmanager
def gateway(status: int = 200, hang: threading.Event | None = None) -> Iterator[tuple[str, list[Any]]]:
    """host:port, and what was asked."""
    handler = type("Handler", (Gateway,), {"asked": [], "status": status, "hang": hang})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", handler.asked  # type: ignore[attr-defined]
        finally:
            if hang is not None:
                hang.set()
            server.shutdown()
            thread.join()


def test_a_push_replaces_this_stack_s_metrics() -> None:
    """PUT, under the job and the stack, with the password as the user gave it and the whole text."""
    with gateway() as (address, asked):
        metrics.push(f"http://me:to%40you@{address}/", FULL, "trades")
    ((method, path, authorization, body),) = asked
    assert (method, path) == ("PUT", "/metrics/job/gameday/stack/trades")
    assert authorization == "Basic " + base64.b64encode(b"me:to@you").decode()
    assert samples(body.decode()) == samples(metrics.render(FULL, "trades"))


def test_a_gateway_that_refuses_is_told_with_its_reason() -> None:
    """Its status, its words, its place; never the password."""
    with gateway(400) as (address, _), pytest.raises(GamedayError, match="Remedy") as refused:
        metrics.push(f"http://me:secret-word@{address}", FULL, "trades")
    assert f"{address} answered 400" in str(refused.value)
    assert "pushed metrics are invalid" in str(refused.value)
    assert "secret-word" not in str(refused.value)


def test_a_gateway_that_hangs_holds_up_nothing() -> None:
    """After the bound it is told, though the connection is still open."""
    with gateway(hang=threading.Event()) as (address, _), pytest.raises(GamedayError, match=r"within 0\.3 s|timed out"):
        metrics.push(f"http://{address}", FULL, "trades", within_s=0.3)


def test_a_gateway_that_is_away_is_told_and_the_textfile_is_there(away: str, tmp_path: Path) -> None:
    """One of the two ways never costs the other."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        told = metrics.publish(stack_config(away, push_url=url), State(tmp_path), [evidence.broker_restart()[0]])
    assert any("push gateway" in t for t in told)
    assert "gameday_last_verdict" in State(tmp_path).textfile.read_text()
