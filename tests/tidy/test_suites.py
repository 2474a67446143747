"""Every test is in exactly one suite, and every suite is run as a whole by one command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from gameday.state import ROOT
from tests.durations import known
from tests.suites import LAYERS, SHORT, SUITES

COLLECT = """
import json, sys
import pytest
from tests.suites import suite_of

class Listing:
    def pytest_collection_finish(self, session):
        listed = {item.nodeid: suite_of(item) for item in session.items}
        open(sys.argv[1], "w").write(json.dumps(listed))

sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", "tests"], plugins=[Listing()]))
"""


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Test -> its suite, of every test that pytest finds. suite_of refuses a test with two."""
    file: Path = tmp_path_factory.mktemp("suites") / "listed.json"
    done = subprocess.run([sys.executable, "-c", COLLECT, str(file)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, str] = json.loads(file.read_text())
    return found


def test_every_test_is_run_by_the_one_suite_that_it_is_in(listed: dict[str, str]) -> None:
    """A suite runs the layers that it names: a test of it elsewhere would never be run; an empty layer is a mistake."""
    layers = defaultdict(set)
    for test, suite in listed.items():
        layers[suite].add(test.split("/")[1])
    assert {name: set(suite.layers) for name, suite in SUITES.items()} == dict(layers)


def test_every_folder_of_tests_is_a_layer() -> None:
    """Else no command would run what is in it."""
    assert {path.parent.name for path in ROOT.glob("tests/*/test_*.py")} == set(LAYERS)


def test_make_test_runs_every_layer_of_its_suite() -> None:
    """The Makefile names them, with lint in between."""
    lines = [line for line in (ROOT / "Makefile").read_text().splitlines() if f"tests.suites run {SHORT}" in line]
    assert " ".join(line.partition(f"run {SHORT} ")[2] for line in lines).split() == list(SUITES[SHORT].layers)


def test_the_table_of_durations_knows_no_other_suite() -> None:
    """Continuous integration plans by it, and says which suites it doesn't know."""
    assert known().keys() <= SUITES.keys()
