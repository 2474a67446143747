"""The examples of the documentation do what their pages say."""

from __future__ import annotations

import dataclasses
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from flows import definitions
from gameday import faults
from gameday.errors import DriverError
from gameday.model import Measure, Verdict, Window
from gameday.plan import Heal
from gameday.sampling import conditions
from gameday.stack.live import open_stack
from gameday.state import ROOT
from gameday.verdict import checks
from tests.fakes import write_config
from tests.unit import evidence

EXAMPLE = re.compile(r"```python\n# (\S+)\n(.*?)```", re.DOTALL)


def example(page: str, name: str) -> str:
    """The block of the page that begins with this file's name."""
    return dict(EXAMPLE.findall((ROOT / "docs" / page).read_text()))[name]


def test_the_failure_test_of_the_page_is_one(tmp_path: Path) -> None:
    """In a stack of one's own, as the page has it."""
    (tmp_path / "failures").mkdir()
    (tmp_path / "failures" / "broker_hang.py").write_text(example("failure-tests.md", "failures/broker_hang.py"))
    (tmp_path / "gameday.toml").write_text('[tests]\nfolder = "failures"\n')
    test = definitions(tmp_path / "gameday.toml")["broker_hang"]
    assert [params["seconds"] for params in test().nightly] == [10, 45]
    assert isinstance(test(seconds=45).plan[-1], Heal)


@pytest.mark.parametrize("package", [faults, checks])
def test_every_fault_and_check_is_on_the_page(package: ModuleType) -> None:
    """Who looks for one finds it there; private modules and the alert's own check aside."""
    page = (ROOT / "docs" / "failure-tests.md").read_text()
    here = Path(package.__file__ or "").parent
    stems = {path.stem for path in here.glob("[a-z]*.py")} - {"alert"}
    named = {"".join(word.capitalize() for word in stem.split("_")) if package is faults else stem for stem in stems}
    assert {name for name in named if not re.search(rf"`{name}\b", page)} == set()


def test_every_condition_is_on_the_page() -> None:
    """Those that a plan may wait for."""
    page = (ROOT / "docs" / "failure-tests.md").read_text()
    asked = set(conditions.__all__) - {"Condition", "SECOND_S", "ailing", "alert_state", "lacks", "looks_back_s"}
    assert {name for name in asked if f"`{name}" not in page} == set()


def test_the_check_of_the_page_is_one() -> None:
    """It passes, fails, and is unknown where there is nothing to judge."""
    names: dict[str, object] = {}
    exec(compile(example("checks.md", "checks/drained_soon.py"), "drained_soon.py", "exec"), names)
    check = names["drained_soon"]
    assert callable(check)
    _, run = evidence.feed_handler_crash()
    for high_s, verdict in ((59.0, Verdict.PASS), (61.0, Verdict.FAIL), (None, Verdict.UNKNOWN)):
        drain = Measure(None if high_s is None else high_s - 1, high_s)
        found = check(replace(run, measures={**run.measures, "drain": drain}))
        assert (found.check, found.verdict) == ("drained_soon", verdict)


def test_the_driver_of_the_page_is_one(tmp_path: Path) -> None:
    """Beside a gameday.toml; what it holds has the digest that the same records have in memory."""
    (tmp_path / "my_drivers.py").write_text(example("drivers.md", "my_drivers.py"))
    path = write_config(tmp_path)
    taped = 'driver = "tape"\nurl = "http://127.0.0.1:1"\nrecords = "m:f"'
    ours = f'driver = "my_drivers:Sqlite"\nfile = "{tmp_path}/orders.db"\ntable = "orders"'
    path.write_text(path.read_text().replace('driver = "tape"', taped).replace('driver = "clickhouse"', ours))
    hop: Any = open_stack(path).hop("two")
    with closing(sqlite3.connect(tmp_path / "orders.db")) as database:
        database.execute("CREATE TABLE orders (id)")
        database.executemany("INSERT INTO orders VALUES (?)", [(n,) for n in range(1, 101)])
        database.commit()
        ids = np.arange(11, 91, dtype=np.int64)
        (digest,) = hop.digest(Window({(): 10}, {(): 90}))
        assert (hop.heads(), digest.groups) == ({(): 100}, {(): hop.stream.tally({"id": ids})})
        database.execute("INSERT INTO orders VALUES (50.5)")
        database.commit()
    with pytest.raises(DriverError, match="no such table"):
        dataclasses.replace(hop, table="other").heads()
    with pytest.raises(DriverError, match=r"orders\.id has a value that is no int"):
        hop.rows((), 0, 100)
