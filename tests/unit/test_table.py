"""Results and history as tables, on the terminal and as Markdown."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from gameday.model import Measure, RunResult, Trend, Verdict
from gameday.reports import table, words
from tests.unit import evidence


def printed(made: Table, width: int = 80, *, terminal: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=terminal, color_system="standard" if terminal else "auto").print(made)
    return out.getvalue()


def results() -> list[RunResult]:
    return [result for result, _ in evidence.night()] + [evidence.aborted()]


def test_a_night_fits_80_columns_without_losing_a_word() -> None:
    """Nothing is cut: every test, parameter, verdict, interval and reason is there in full."""
    text = printed(table.render(results()))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    seen = " ".join(text.split())
    for wanted in (
        "broker_restart",
        "feed_handler_crash",
        "venue=binance",
        "3.1–3.3 s",
        "of 120 s",
        "unknown",
        "812044–812056",
    ):
        assert wanted in seen


def test_a_long_reason_is_cut_at_a_word() -> None:
    """A reason as long as a page does not bury the other verdicts; the report has the whole."""
    long = replace(evidence.aborted(), why="silver is 14.7 s behind in kraken/ETH/USD; " * 30)
    assert len(printed(table.render([long])).splitlines()) < 16
    assert table.markdown([long]).rstrip().endswith(" is 14.7 s behind in … |")


def test_colour_only_on_a_terminal() -> None:
    """A file or pipe gets plain text, a terminal colour on top of the same words."""
    assert "\x1b" not in printed(table.render(results()))
    assert "\x1b[" in printed(table.render(results()), terminal=True)


def test_what_was_not_judged_is_not_zero() -> None:
    """An aborted run shows dashes, never a 0."""
    last = printed(table.render([evidence.aborted()]), 200).splitlines()[-2]
    assert last.split()[2:6] == ["—"] * 4


def test_a_recovery_that_was_never_seen_says_at_least() -> None:
    """Not back by the end of the samples is "over", against its target."""
    result = replace(evidence.broker_restart()[0], measures={"mttr": Measure(120.34, None, "still silent")})
    assert "over 120.3 s" in printed(table.render([result]))
    assert "| over 120.3 s of 120 s |" in table.markdown([result])


def test_a_platforms_words_do_not_steer_the_terminal() -> None:
    """Escape sequences in a reason are not passed on, and square brackets are not read as markup."""
    text = printed(table.render([replace(evidence.aborted(), why=f"[red]{evidence.EVIL}[/]")]), 200, terminal=True)
    assert "[red]<script>" in text
    assert "\x1b[31malert" not in text
    assert "\0" not in text
    assert '"quotes" [31m[/]' in text


def test_markdown_is_one_line_a_run() -> None:
    """Test | Run Date | Result | MTTR | Notes; what would break a cell is escaped or joined."""
    bad = replace(evidence.clickhouse_restart()[0], why="a|b\nc `d` <e> \\")
    lines = table.markdown([evidence.broker_restart()[0], bad]).splitlines()
    assert lines[0] == "| Test | Run Date | Result | MTTR | Notes |"
    assert lines[2] == "| broker_restart(how=graceful) | 2026-02-19 | PASS | 3.1–3.3 s of 120 s | as promised |"
    assert lines[3].endswith(r"| FAIL | 1.7–1.8 s of 180 s | a\|b c \`d\` \<e> \\ |")
    assert len(lines) == 4


def test_history_shows_when() -> None:
    """Runs of many nights are told apart by date and time."""
    assert "2026-02-19" in printed(table.history(results()))
    assert max(len(line) for line in printed(table.history(results())).splitlines()) <= 80


def course(*high_s: float | None, worse: bool = False) -> list[RunResult]:
    """A history, the newest first as history.py gives it; None is a run that failed before anything was measured."""
    runs = [
        replace(
            evidence.broker_restart()[0],
            verdict=Verdict.PASS if s else Verdict.FAIL,
            measures={"mttr": Measure(s, s)} if s else {},
        )
        for s in high_s
    ]
    newest = replace(runs[-1], trends=(Trend("mttr", 30, 8.0, 9.0, 0.0001, worse),), verdict=Verdict(4 * worse))
    return [newest, *reversed(runs[:-1])]


def test_a_history_is_one_row_of_bars_and_verdicts() -> None:
    """Bars and letters stand one above the other, the oldest to the left; what was not measured has a dot, and no part
    in median and p95; a run that failed for nothing but its trend has."""
    text = printed(table.histories([course(4.0, 4.0, None, 4.0, 8.0, worse=True)]))
    assert max(len(line) for line in text.splitlines()) <= 80
    rows = [line.split() for line in text.splitlines() if line.strip()][1:]
    assert rows[0] == ["broker_restart", "▅▅·▅█", "4.0", "s", "slower:", "MTTR"]
    assert rows[1] == ["how=graceful", "..F.F", "p95", "8.0", "s"]


def test_thirty_runs_fit_80_columns() -> None:
    """Whatever the test's name and parameters are."""
    runs = [replace(r, test="object_store_outage", params={"link": "broker-clickhouse"}) for r in course(*[8.0] * 30)]
    text = printed(table.histories([runs]))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "█" * 30 in text
    assert "as usual" in text


def test_histories_as_markdown() -> None:
    """One line each, with the same figures."""
    lines = table.histories_markdown([course(4.0, None, 4.0), course(None, None)]).splitlines()
    assert lines[2] == "| broker_restart(how=graceful) | █·█ | .F. | 4.0 s | 4.0 s | as usual |"
    assert lines[3].endswith("| ·· | F. | — | — | as usual |")


def test_several_stacks_are_told_apart() -> None:
    """Only where there are several."""
    ours = [replace(r, stack="ours") for r in course(4.0)]
    assert "stack=ours" in printed(table.histories([course(4.0), ours]))
    assert "stack=" not in printed(table.histories([course(4.0)]))


def test_a_result_stands_beside_its_history() -> None:
    """What it usually takes is below the target; a slow-down that is not the reason is in the note."""
    slow = replace(course(4.0, worse=True)[0], verdict=Verdict.PASS, why="as promised")
    text = " ".join(printed(table.render([slow]), 200).split())
    assert "usually 8.0 s" in text
    assert "as promised; slower: MTTR" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [([1.0, 2.0, 4.0], "▃▅█"), ([0.0, 0.0], "▁▁"), ([None, 3.0], "·█"), ([None], "·"), ([], "")],
)
def test_a_sparkline_starts_at_zero(seconds: list[float | None], text: str) -> None:
    """Twice as high is twice as long; what is not measured is not 0."""
    assert words.sparkline(seconds) == text


@pytest.mark.parametrize(
    ("low_s", "high_s", "text"),
    [
        (3.12, 3.18, "3.1–3.2 s"),
        (3.0, 3.0, "3.0 s"),
        (0.3, 0.3, "0.30 s"),
        (0.012, 0.061, "0.01–0.07 s"),
        (0.0, 0.0, "0.00 s"),
        (11.96, 12.04, "11.9–12.1 s"),
        (None, None, "not measured"),
        (40.27, None, "over 40.2 s"),
        (None, 3.14, "at most 3.2 s"),
    ],
)
def test_an_interval_is_rounded_outwards(low_s: float | None, high_s: float | None, text: str) -> None:
    """The printed interval always holds the measured one."""
    assert words.interval(Measure(low_s, high_s, "")) == text


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_can_be_shown(verdict: Verdict) -> None:
    """No verdict is without a word."""
    assert str(verdict) in printed(table.render([replace(evidence.aborted(), verdict=verdict)]))
