"""The end of a night: evidence as a diff or as a branch, from history or from the run folders."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gameday import codec
from gameday.model import Finding, Measure, RunResult, Verdict
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from tasks.night import Night
from tasks.writeback import write_back
from tests.fakes import write_config

PAGE = b"# Web stops\n\n<!-- gameday:evidence -->\n<!-- /gameday:evidence -->\nthe end"
GIT = ("git", "-c", "user.name=Somebody", "-c", "user.email=somebody@localhost")


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """Its history is away; its runbooks lie beside gameday.toml."""
    path = write_config(tmp_path)
    path.write_text(path.read_text() + '\n[runbook]\nfolder = "books"\n')
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "web_stop.md").write_bytes(PAGE)
    return open_stack(path, State(tmp_path / "state"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """With the runbooks committed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    for arguments in (("init", "-q"), ("add", "books"), ("commit", "-q", "-m", "first")):
        subprocess.run([*GIT, *arguments], cwd=tmp_path, check=True, capture_output=True, env=clean)
    return tmp_path


def night(stack: Stack, test: str = "web_stop") -> tuple[Night, list[str]]:
    """One run of the night, in its folder; and what is told."""
    result = RunResult(
        id="20260101T020000-web_stop-1",
        night="night-1",
        test=test,
        params={"how": "stop"},
        stack=stack.name,
        verdict=Verdict.PASS,
        why="as promised",
        started="2026-01-01T02:00:00.000+00:00",
        took_s=60.0,
        mttr_max_s=60.0,
        drain_max_s=60.0,
        measures={"mttr": Measure(1.0, 1.5)},
        counts={},
        findings=(),
        acts=(),
    )
    folder = stack.state.run(result.id)
    folder.mkdir(parents=True)
    codec.write_json(folder / "result.json", codec.encode(result))
    told: list[str] = []
    return Night("night-1", say=told.append, results=[result]), told


def git(folder: Path, *arguments: str, given: bytes = b"") -> bytes:
    return subprocess.run([*GIT, *arguments], cwd=folder, check=True, capture_output=True, input=given).stdout


def test_a_night_leaves_a_diff_that_git_takes(stack: Stack, repository: Path) -> None:
    """In its folder; the runbook itself is as it was until somebody applies it."""
    here, told = night(stack)
    write_back(here, stack, commit=False)
    book, made = repository / "books" / "web_stop.md", stack.state.night("night-1") / "runbooks.diff"
    assert book.read_bytes() == PAGE
    assert told == [f"runbooks: evidence: git apply {made}"]
    git(repository, "apply", str(made))
    assert b"| how=stop | 2026-01-01 | 1.5 s | 1.5 s |" in book.read_bytes()
    assert book.read_bytes().endswith(b"<!-- /gameday:evidence -->\nthe end")


def test_asked_for_it_makes_a_branch(stack: Stack, repository: Path) -> None:
    """And no diff beside it."""
    here, told = night(stack)
    write_back(here, stack, commit=True)
    assert b"| how=stop | 2026-01-01 |" in git(repository, "show", "gameday/night-1:books/web_stop.md")
    assert git(repository, "status", "--porcelain", "books") == b""
    assert told[0].startswith("runbooks: evidence: branch gameday/night-1, commit ")
    assert not (stack.state.night("night-1") / "runbooks.diff").exists()


def test_without_a_repository_the_diff_is_left(stack: Stack, tmp_path: Path) -> None:
    """Asked for a branch or not."""
    here, told = night(stack)
    write_back(here, stack, commit=True)
    made = stack.state.night("night-1") / "runbooks.diff"
    assert made.read_bytes().startswith(b"--- a/web_stop.md\n")
    assert "no branch: git rev-parse" in told[0]


def test_a_runbook_without_its_markers_is_told_and_left_alone(stack: Stack, tmp_path: Path) -> None:
    """There is nothing to apply then."""
    (tmp_path / "books" / "web_stop.md").write_bytes(b"# Only text\n")
    here, told = night(stack)
    write_back(here, stack, commit=False)
    assert "web_stop.md has 0 times" in told[0]
    assert not (stack.state.night("night-1") / "runbooks.diff").exists()


def test_a_night_whose_checks_are_blind_proves_nothing(stack: Stack) -> None:
    """No evidence is made of verdicts that nobody can believe."""
    here, told = night(stack)
    here.findings.append(Finding("selftest", Verdict.UNKNOWN, "missed one"))
    write_back(here, stack, commit=False)
    assert told == ["runbooks: evidence: none, for no verdict of this night can be believed"]


def test_a_test_without_a_runbook_is_left_out(stack: Stack) -> None:
    """Nothing is told of it either."""
    here, told = night(stack, test="other")
    write_back(here, stack, commit=False)
    assert told == []
