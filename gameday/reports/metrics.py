"""Publishes gameday's own metrics for Prometheus, the last result of each test: as a textfile, and to a push gateway
if one is configured.

docs/metrics.md is the contract of names and labels. The results come from history; while it can't be asked, from what
was published last and the runs since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, push_to_gateway, write_to_textfile
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from gameday import codec
from gameday.errors import GamedayError
from gameday.model import RunResult, Verdict
from gameday.past import history
from gameday.past.history import Board, Standing
from gameday.reports.words import parameters, plain
from gameday.stack.config import StackConfig
from gameday.state import State
from gameday.system.http import Unanswered, ask
from gameday.system.tls import PLAIN, Tls

__all__ = ["publish", "push", "render"]

JOB = "gameday"

PUSH_WITHIN_S = 5.0
"""For the whole push, with the look-up of the name: a gateway that hangs must not hold up a night."""

TOLD_BYTES = 200

PER_TEST = ("stack", "test", "params")

Standings: TypeAlias = Mapping[tuple[str, ...], Standing]
"""Labels, in the order of PER_TEST -> standing."""


def publish(
    config: StackConfig, state: State, ran: Sequence[RunResult] = (), completed: datetime | None = None
) -> list[str]:
    """Write the textfile, and push. ran: the runs that have ended. completed: when this night was completed, if it was.

    Returns what went wrong, for the run's log: it never changes a verdict.
    """
    troubles: list[str] = []
    board = _board(config, state, troubles)
    for result in ran:
        board = history.with_run(board, result)
    board = replace(
        board, night_completed_s=_latest(board.night_completed_s, completed.timestamp() if completed else None)
    )
    textfile = config.metrics.textfile or state.textfile
    try:
        codec.write_json(state.board, board)
        textfile.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(textfile), _registry(board, config.name))
    except GamedayError as e:
        troubles.append(str(e))
    except OSError as e:
        troubles.append(f"{textfile} can't be written: {e.strerror}. Remedy: check space and rights there")
    if config.metrics.push_url is not None:
        try:
            push(config.metrics.push_url.get_secret_value(), board, config.name, tls=config.metrics.tls)
        except GamedayError as e:
            troubles.append(str(e))
    return troubles


def render(board: Board, stack: str) -> str:
    """Return the metrics in Prometheus' text format, version 0.0.4."""
    return generate_latest(_registry(board, stack)).decode()


def push(url: str, board: Board, stack: str, within_s: float = PUSH_WITHIN_S, tls: Tls = PLAIN) -> None:
    """Replace this stack's metrics at the push gateway. Raises GamedayError when that is not done in time."""
    parts = urlsplit(url)
    place = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    def trouble(what: str) -> GamedayError:
        return GamedayError(f"the push gateway at {place} {what}. Remedy: check metrics.push_url in gameday.toml")

    def handler(
        url: str, method: str, timeout: float | None, headers: list[tuple[str, str]], data: bytes
    ) -> Callable[[], None]:
        def put() -> None:
            try:
                answer = ask(method, url, within_s, body=data, headers=dict(headers), tls=tls, proxied=True)
            except Unanswered as e:
                raise trouble(f"did not take them: {e}") from None
            if answer.status >= HTTPStatus.BAD_REQUEST:
                said = plain(answer.body[:TOLD_BYTES].decode(errors="replace")).strip()
                raise trouble(f"answered {answer.status}{': ' if said else ''}{said}")

        return put

    push_to_gateway(url, JOB, _registry(board, stack), {"stack": stack}, timeout=within_s, handler=handler)


@dataclass(frozen=True, eq=False)  # the library keys collectors by identity
class _Metrics(Collector):
    """The collector that the library asks for the metrics."""

    board: Board
    stack: str

    def collect(self) -> Iterator[Metric]:
        by_time = sorted(self.board.standings, key=lambda s: s.ended_s)
        distinct = {(_clean(self.stack), *_labels(s)): s for s in by_time}  # 1 and "1" look alike
        standings: Standings = {labels: distinct[labels] for labels in sorted(distinct)}
        yield _verdicts(standings)
        yield _gauge("last_run_timestamp_seconds", "When the last run ended.", standings, "ended_s")
        yield _gauge("duration_seconds", "How long the last run took.", standings, "took_s")
        yield _gauge("mttr_target_seconds", "Within what time service has to be back.", standings, "mttr_max_s")
        yield _measure("mttr", "The last run's time to recovery, the high end of its interval.", standings)
        yield _measure("alert", "The last run's time to the platform's own alert, the high end.", standings)
        yield _measure("drain", "The last run's time until nothing was behind, the high end.", standings)
        yield _slower(standings)
        yield _gauge("last_pass_timestamp_seconds", "When the last pass ended.", standings, "passed_s")
        yield _gauge("nights_since_pass", "Nights with this test after its last pass.", standings, "nights_since_pass")
        completed = GaugeMetricFamily(
            "gameday_night_completed_timestamp_seconds", "When the last completed night ended.", labels=["stack"]
        )
        if self.board.night_completed_s is not None:
            completed.add_metric([_clean(self.stack)], self.board.night_completed_s)
        yield completed


def _gauge(name: str, about: str, standings: Standings, field: str) -> Metric:
    family = GaugeMetricFamily(f"gameday_{name}", about, labels=PER_TEST)
    for labels, standing in standings.items():
        if (value := getattr(standing, field)) is not None:
            family.add_metric(labels, value)
    return family


def _measure(name: str, about: str, standings: Standings) -> Metric:
    family = GaugeMetricFamily(f"gameday_{name}_seconds", about, labels=PER_TEST)
    for labels, standing in standings.items():
        measure = standing.measures.get(name)
        if measure is not None and measure.high_s is not None:
            family.add_metric(labels, measure.high_s)
    return family


def _verdicts(standings: Standings) -> Metric:
    family = GaugeMetricFamily(
        "gameday_last_verdict", "1 for the last run's verdict, 0 for the others.", labels=(*PER_TEST, "verdict")
    )
    for labels, standing in standings.items():
        for verdict in Verdict:
            family.add_metric((*labels, str(verdict)), float(verdict is standing.verdict))
    return family


def _slower(standings: Standings) -> Metric:
    about = "1 where the last run was slower than its own history, 0 where it was not."
    family = GaugeMetricFamily("gameday_slower", about, labels=(*PER_TEST, "measure"))
    for labels, standing in standings.items():
        for trend in standing.trends:
            if trend.p is not None:
                family.add_metric((*labels, trend.measure), float(trend.worse))
    return family


def _labels(standing: Standing) -> tuple[str, str]:
    """Return the test and its parameters, sorted by name: how=sigkill, shop=berlin."""
    return _clean(standing.test), _clean(parameters(dict(sorted(standing.params.items()))))


def _clean(text: str) -> str:
    """Remove control characters and what UTF-8 can't encode."""
    return plain(text).encode(errors="replace").decode()


def _registry(board: Board, stack: str) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Metrics(board, stack))
    return registry


def _board(config: StackConfig, state: State, troubles: list[str]) -> Board:
    """Return history's board, or the one published last while history can't be asked."""
    last = Board()
    if state.board.exists():
        try:
            last = codec.decode(Board, codec.read_json(state.board), str(state.board))
        except GamedayError as e:
            troubles.append(str(e))
    try:
        board = history.board(config.history.get_secret_value(), config.name)
    except GamedayError as e:
        troubles.append(f"made without history: {e}")
        return last
    return replace(board, night_completed_s=_latest(board.night_completed_s, last.night_completed_s))


def _latest(*times: float | None) -> float | None:
    return max((t for t in times if t is not None), default=None)
