"""What the library's pages say is true: their examples run."""

from __future__ import annotations

import doctest
import subprocess
import sys

import pytest

import failpoints
from failpoints import grammar, points
from gameday.state import ROOT


@pytest.fixture
def undeclared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples declare their points in a registry of their own."""
    monkeypatch.setattr(points, "_points", {})


@pytest.mark.usefixtures("undeclared")
def test_the_tutorial_runs() -> None:
    """Every example of the README gives what stands below it."""
    failed, tried = doctest.testfile(str(ROOT / "failpoints" / "README.md"), module_relative=False)
    assert (failed, tried > 5) == (0, True)


@pytest.mark.usefixtures("undeclared")
def test_the_examples_in_docstrings_run() -> None:
    """Of the package, and of its grammar."""
    for module in (failpoints, grammar):
        failed, tried = doctest.testmod(module)
        assert (failed, tried > 0) == (0, True), module


def test_every_action_is_in_the_tutorial() -> None:
    """None can be added without its line in the table."""
    text = (ROOT / "failpoints" / "README.md").read_text()
    assert not [a for a in grammar.ACTIONS if f"| `{a}" not in text]


def test_the_demo_shows_what_it_says() -> None:
    """Exactly the third save fails; a killed process leaves evidence, its restart is spared."""
    done = subprocess.run(
        [sys.executable, "-m", "failpoints", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "save('three') raised OSError('disk full'); the file still says 'two'" in done.stdout
    assert "the process ended with -9; the file says 'two'" in done.stdout
    assert "its restart ended with 0; the file says 'four'" in done.stdout
    assert '"action":"1*kill[global]","run":"demo-1"' in done.stdout
