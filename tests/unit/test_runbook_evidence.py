"""The evidence that a night writes back: what it says, and that nothing outside its markers is touched."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gameday.errors import GamedayError
from gameday.model import Json, Measure, RunResult, Step, Verdict
from gameday.runbooks.evidence import BEGIN, END, RUNS, block, diff, filled

OUTSIDE = st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | st.sampled_from([b"\r\n", b"\n", b"\xff\x00"])
CONTENT = st.text(alphabet=st.characters(exclude_characters="<"), max_size=80)


@given(OUTSIDE, OUTSIDE, OUTSIDE, CONTENT)
@example(b"", b"", b"", "half a pair: \ud800")
@example(b"", b"\r\n", b"", "\r")
def test_every_byte_outside_the_markers_stays(before: bytes, between: bytes, after: bytes, content: str) -> None:
    """Whatever stands there, and in whatever encoding; twice is as good as once."""
    text = before + BEGIN + between + END + after
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        return
    new = filled(text, content, "x.md")
    assert new.startswith(before + BEGIN)
    assert new.endswith(END + after)
    inside = new[len(before + BEGIN) : len(new) - len(END + after)]
    lines = (b"", *content.encode(errors="replace").split(b"\n"), b"")
    assert inside in (b"\n".join(lines), b"\r\n".join(lines))
    assert filled(new, content, "x.md") == new


@given(st.lists(st.sampled_from([BEGIN, END, b"text\n", b"<!-- gameday -->"]), max_size=6))
def test_only_one_whole_pair_of_markers_is_filled(parts: list[bytes]) -> None:
    """None, several, nested or turned around: a clear error, and no new text at all."""
    text = b"".join(parts)
    right = [p for p in parts if p in (BEGIN, END)] == [BEGIN, END]
    if right:
        assert filled(text, "new", "x.md")
    else:
        with pytest.raises(GamedayError, match=r"^x\.md has .* Remedy"):
            filled(text, "new", "x.md")


def test_the_lines_end_as_the_file_s_do() -> None:
    """A file from elsewhere keeps its line ends inside the markers too."""
    assert filled(BEGIN + b"\r\nold\r\n" + END, "a\nb", "x.md") == BEGIN + b"\r\na\r\nb\r\n" + END


def run(
    verdict: Verdict = Verdict.PASS,
    mttr_s: float | None = 2.0,
    alert_s: float | None = None,
    steps: tuple[Step, ...] = (),
    day: int = 1,
    params: Mapping[str, Json] | None = None,
) -> RunResult:
    return RunResult(
        id="id",
        night="n",
        test="broker_restart",
        params=params or {"how": "stop"},
        stack="trades",
        verdict=verdict,
        why="why",
        started=f"2026-01-{day:02}T02:00:00.000+00:00",
        took_s=60.0,
        mttr_max_s=120,
        drain_max_s=120,
        measures={"mttr": Measure(mttr_s, mttr_s), "alert": Measure(alert_s, alert_s)},
        counts={},
        findings=(),
        acts=(),
        steps=steps,
    )


def test_it_tells_what_was_proven_when_and_how_fast() -> None:
    """The newest first: last proven, median and worst, time to alert, last verdicts."""
    told = block([run(Verdict.FAIL, None, day=9), run(mttr_s=4.0, alert_s=70.0, day=8), run(mttr_s=2.0, day=7)])
    assert "On stack `trades`, as of 2026-01-09" in told
    assert "| how=stop | 2026-01-08 | 3.0 s | 4.0 s | 70.0 s | fail pass pass |" in told


def test_figures_are_of_the_last_runs_of_each_parameter_set() -> None:
    """A set that is run seldom is not pushed out by another, and an old slow run does not count for ever."""
    often = [run(mttr_s=1.0, day=3) for _ in range(RUNS)]
    told = block([*often, run(mttr_s=99.0, day=2), run(mttr_s=5.0, params={"how": "kill"})])
    assert "| how=stop | 2026-01-03 | 1.0 s | 1.0 s |" in told
    assert "| how=kill | 2026-01-01 | 5.0 s | 5.0 s |" in told


def test_a_pass_with_a_stale_step_proves_no_runbook() -> None:
    """And what came out otherwise is told, from the newest run of each parameter set alone."""
    stale = Step("diagnosis", "It | refuses", False, "expected ^no; came: <yes>", 1.0)
    skipped = Step("verify", "psql", None, "psql is not installed here", 0.0)
    told = block([run(steps=(stale, skipped), day=9), run(steps=(Step("verify", "x", False, "old", 1.0),), day=8)])
    assert "| how=stop | never |" in told
    assert "- how=stop, diagnosis, “It \\| refuses” came out otherwise: expected ^no; came: &lt;yes>" in told
    assert "- how=stop, verify, “psql” was not carried out: psql is not installed here" in told
    assert "old" not in told


def test_without_drift_it_says_so() -> None:
    """But never for steps that there were not."""
    assert "Every step came out as this text says" in block([run(steps=(Step("verify", "x", True, "", 1.0),))])
    assert "No step was carried out." in block([run()])
    assert "No run has been recorded yet." in block([])


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_text_from_outside_ends_the_block(title: str, why: str) -> None:
    """Whatever a command prints: filling it in again works, and gives the same."""
    hostile = Step("verify", f"{title} {END.decode()}", False, f"{BEGIN.decode()} {why}", 1.0)
    told = block([run(steps=(hostile,))])
    page = b"a" + BEGIN + END + b"b"
    assert filled(filled(page, told, "x"), told, "x") == filled(page, told, "x")


def test_a_diff_is_in_lines_as_git_sees_them() -> None:
    """They end at a newline, and at nothing else that some call the end of a line."""
    text = b"a\x0cb\n\x85\xff\r\n"
    assert diff("x.md", text, text) == b""
    lines = diff("runbooks/x.md", text, text + b"new").split(b"\n")
    assert lines[:2] == [b"--- a/runbooks/x.md", b"+++ b/runbooks/x.md"]
    assert lines[3:] == [b" a\x0cb", b" \x85\xff\r", b"+new", b"\\ No newline at end of file", b""]
