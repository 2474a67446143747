"""The failure tests as data, and what the night makes of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows import catalogue, find, parameters
from flows.nightly import choose, too_late
from gameday.config import PrefectConfig
from gameday.errors import ConfigError
from gameday.faults.isolate import Isolate
from gameday.model import FailureTest, Heal, Inject
from gameday.state import ROOT
from tasks.run import definition, question

PREFECT = PrefectConfig(api_url="http://127.0.0.1:1/api")
DUE = datetime(2026, 1, 2, 2, 0, tzinfo=UTC)


def test_the_catalogue_is_the_files_in_their_order() -> None:
    """Adding a failure test is adding a file."""
    files = {p.stem for p in (ROOT / "flows").glob("*.py")} - {"__init__", "nightly"}
    assert set(catalogue()) == files
    assert list(catalogue())[:3] == ["broker_restart", "clickhouse_restart", "feed_handler_crash"]


@pytest.mark.parametrize("name", list(catalogue()))
def test_every_parameter_set_of_the_night_gives_a_plan_that_ends_with_nothing_held(name: str) -> None:
    """A plan that holds a component down ends with an explicit Heal; every set is valid; every test asks a question."""
    function = definition(catalogue()[name])
    assert question(function).endswith("?")
    for params in function().nightly:
        test = function(**params)
        steps = [s for s in test.plan if isinstance(s, Inject | Heal)]
        assert any(isinstance(s, Inject) for s in steps)
        if any(type(s.fault).__name__ in ("Stop", "Pause") for s in steps if isinstance(s, Inject)):
            assert isinstance(steps[-1], Heal)


@pytest.mark.parametrize("name", list(catalogue()))
def test_prefect_shows_a_description_for_every_parameter(name: str) -> None:
    """What one sees in the UI's form."""
    properties = catalogue()[name].parameters.model_dump()["properties"]
    assert "stack" in properties
    assert all(p.get("description") for p in properties.values())


def test_an_unknown_test_lists_near_names() -> None:
    """Bad usage, exit code 2."""
    with pytest.raises(ConfigError, match="Did you mean broker_restart"):
        find("broker_restat")


def test_parameters_are_checked_before_anything_runs() -> None:
    """An unknown name and a wrong value are named, with what is allowed."""
    flow = find("feed-handler-crash")
    assert parameters(flow, {"venue": "kraken"}) == {"venue": "kraken"}
    with pytest.raises(ConfigError, match=r"no parameter 'venu'\. Did you mean venue"):
        parameters(flow, {"venu": "kraken"})
    with pytest.raises(ConfigError, match=r"venue='moon'.*'binance', 'kraken' or 'coinbase'"):
        parameters(flow, {"venue": "moon"})


def test_variants_choose_parameter_sets() -> None:
    """Canonical is each test's first set; rotating adds one; all is all."""
    assert [len(choose(["broker_restart"], v, None)) for v in ("canonical", "rotating", "all")] == [1, 2, 2]
    assert len(choose(None, "canonical", None)) == len(catalogue())


def test_variants_are_those_that_the_stack_can_run() -> None:
    """Where no link can be cut, a partition isolates; all is all the same; a test that can't run at all is shown."""

    class Stack:
        def misses(self, test: FailureTest) -> list[str]:
            faults = [step.fault for step in test.plan if isinstance(step, Inject)]
            return [] if all(isinstance(fault, Isolate) for fault in faults) else ["a link"]

    stack: Any = Stack()
    ((_, params),) = choose(["network_partition"], "canonical", stack)
    assert params["how"] == "isolate"
    assert len(choose(["network_partition"], "all", stack)) == 9
    assert len(choose(["broker_restart"], "canonical", stack)) == 1


@pytest.mark.parametrize(
    ("late", "skipped"), [(timedelta(0), False), (timedelta(minutes=15), False), (timedelta(minutes=16), True)]
)
def test_a_late_night_does_not_start(late: timedelta, skipped: bool) -> None:
    """Nothing is injected at 9 in the morning because a worker came back."""
    assert (too_late(DUE, DUE + late, PREFECT) is not None) is skipped


def test_a_night_that_was_asked_for_is_never_late() -> None:
    """Only what a schedule started has a due time."""
    assert too_late(None, DUE, PREFECT) is None
