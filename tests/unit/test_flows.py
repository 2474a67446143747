"""The failure tests as data, and what the night makes of them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows import catalogue, definitions, find, general, parameters
from flows.nightly import choose, too_late
from gameday.errors import ConfigError
from gameday.faults.isolate import Isolate
from gameday.plan import FailureTest, Heal, Inject
from gameday.stack.config import PrefectConfig
from gameday.stack.live import Stack, open_stack
from gameday.stack.reading import default_path
from gameday.state import ROOT, State
from tasks.definition import definition, question
from tests.fakes import OWN_TEST, write_config

PREFECT = PrefectConfig(api_url="http://127.0.0.1:1/api")
DUE = datetime(2026, 1, 2, 2, 0, tzinfo=UTC)


def test_the_catalogue_is_the_files_in_their_order() -> None:
    """Adding a failure test is adding a file."""
    files = {p.stem for p in (ROOT / "flows" / "trades").glob("*.py")} - {"__init__"}
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
        path = default_path()

        def misses(self, test: FailureTest) -> list[str]:
            faults = [step.fault for step in test.plan if isinstance(step, Inject)]
            return [] if all(isinstance(fault, Isolate) for fault in faults) else ["a link"]

    stack: Any = Stack()
    ((_, params),) = choose(["network_partition"], "canonical", stack)
    assert params["how"] == "isolate"
    assert len(choose(["network_partition"], "all", stack)) == 9
    assert len(choose(["broker_restart"], "canonical", stack)) == 1


@pytest.fixture
def toy(tmp_path: Path) -> Callable[..., Stack]:
    """Two processes that opted in and one that didn't, with a failure test of their own that restarts `web`."""

    def made(more: str = "") -> Stack:
        path = write_config(tmp_path, opted_in=("web", "queue"))
        (tmp_path / "failures").mkdir(exist_ok=True)
        (tmp_path / "failures" / "ours.py").write_text(OWN_TEST.replace('"broker"', '"web"'))
        path.write_text(f'{path.read_text()}\n[tests]\nfolder = "failures"\n{more}')
        return open_stack(path, State(tmp_path))

    return made


def chosen(stack: Stack, *names: str) -> list[tuple[str, str]]:
    """Name and parameters of each run."""
    found = choose(names or None, "canonical", stack)
    return [(one.name, " ".join(map(str, params.values()))) for one, params in found]


def test_a_general_test_is_for_each_component_that_opted_in(toy: Callable[..., Stack]) -> None:
    """The stack's own come first, and take the place of those that do the same; what can't be done is left out: there
    is no link."""
    assert chosen(toy()) == [
        ("ours", ""),
        ("crash", "web"),
        ("crash", "queue"),
        ("restart", "queue"),
        ("hang", "web"),
        ("hang", "queue"),
    ]


def test_a_stack_says_which_general_tests_its_nights_have(toy: Callable[..., Stack]) -> None:
    """None, some, or one that there isn't; by hand each can be run."""
    assert chosen(toy("general = []")) == [("ours", "")]
    assert chosen(toy('general = ["crash"]')) == [("ours", ""), ("crash", "web"), ("crash", "queue")]
    assert chosen(toy("general = []"), "restart") == [("restart", "web"), ("restart", "queue")]
    with pytest.raises(ConfigError, match=r"tests\.general has 'crsh'\. Did you mean crash"):
        chosen(toy('general = ["crsh"]'))


def test_a_stack_says_for_whom_its_nights_have_a_general_test(toy: Callable[..., Stack]) -> None:
    """As a run by hand would: for one component, or one end of a link; one that there isn't is no wish."""
    assert chosen(toy('general = ["crash component=queue", "hang"]')) == [
        ("ours", ""),
        ("crash", "queue"),
        ("hang", "web"),
        ("hang", "queue"),
    ]
    assert chosen(toy('general = ["restart component=web"]')) == [("ours", "")]  # its own does the same
    with pytest.raises(
        ConfigError, match=r"tests\.general has 'crash component=qeue'\. Did you mean crash component=q"
    ):
        chosen(toy('general = ["crash component=qeue"]'))
    with pytest.raises(ConfigError, match=r"tests\.general has 'partition link=a-b'\. Known: none"):
        chosen(toy('general = ["partition link=a-b"]'))


def test_a_general_test_says_what_it_demands() -> None:
    """A component, and a link where it is about one."""
    assert parameters(find("crash"), {"component": "web"}) == {"component": "web"}
    with pytest.raises(ConfigError, match=r"partition: component and link missing\. Remedy: -p component=NAME"):
        parameters(find("partition"), {"how": "cut"})


@pytest.mark.parametrize(
    ("late", "skipped"), [(timedelta(0), False), (timedelta(minutes=15), False), (timedelta(minutes=16), True)]
)
def test_a_late_night_does_not_start(late: timedelta, skipped: bool) -> None:
    """Nothing is injected at 9 in the morning because a worker came back."""
    assert (too_late(DUE, DUE + late, PREFECT) is not None) is skipped


def test_a_night_that_was_asked_for_is_never_late() -> None:
    """Only what a schedule started has a due time."""
    assert too_late(None, DUE, PREFECT) is None


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The gameday.toml of a stack that has failure tests of its own, outside the checkout."""
    (tmp_path / "failures").mkdir()
    (tmp_path / "failures" / "ours.py").write_text(OWN_TEST)
    (tmp_path / "failures" / "_helpers.py").write_text("raise ValueError('no failure test')\n")
    path = tmp_path / "gameday.toml"
    path.write_text('[tests]\nfolder = "failures"\n')
    return path


def test_a_stack_has_failure_tests_of_its_own(own: Path) -> None:
    """They are those of its folder, and no other platform's; besides there are those of any component."""
    assert list(catalogue(own)) == ["ours"]
    assert list(definitions(own)) == ["ours", *general()]
    assert parameters(find("ours", own), {"how": "graceful"}) == {"how": "graceful"}
    with pytest.raises(ConfigError, match=r"no failure test 'broker_restart'\. "):
        find("broker_restart", own)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def ours(:\n", r"ours\.py can't be imported: SyntaxError.*Remedy"),
        ("import nothing_like_it\n", r"ours\.py can't be imported: ModuleNotFoundError.*nothing_like_it"),
        ("def other():\n    pass\n", r"ours\.py has no function 'ours'.*Remedy"),
    ],
)
def test_a_file_that_is_no_failure_test_is_named(own: Path, text: str, message: str) -> None:
    """With what is wrong with it; mended, it is found."""
    path = own.parent / "failures" / "ours.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        definitions(own)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('folder = "nowhere"', r"tests\.folder is 'nowhere', and there is no folder .*nowhere"),
        ("folder = 3", r"tests\.folder: .*path.*got 3"),
        ('folders = "failures"', r"tests\.folders is no key that gameday knows .*Did you mean folder"),
    ],
)
def test_a_folder_of_failure_tests_that_is_wrong_is_named(own: Path, table: str, message: str) -> None:
    """With the key and its value."""
    own.write_text(f"[tests]\n{table}\n")
    with pytest.raises(ConfigError, match=message):
        catalogue(own)
