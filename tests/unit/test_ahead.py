"""What a night does for its next run while the present one is judged: it prepares it, and never in another's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gameday.errors import GamedayError
from gameday.faults.stop import Stop
from gameday.plan import FailureTest, Heal, Inject
from gameday.run import Run
from gameday.state import State
from tasks.night import Night, Planned
from tests.fakes import write_config

TEST = FailureTest(plan=(Inject(Stop("web")), Heal()), mttr_max_s=60, checks=())
FOREIGN = FailureTest(plan=(Inject(Stop("nobody")), Heal()), mttr_max_s=60, checks=())


class Launched:
    """Stands in for a sampler's process, and for a guardian's that was not told to take the stack."""

    def __init__(self, run_id: str) -> None:
        self.run_id, self.alive, self.stopped = run_id, True, False

    def stop(self) -> None:
        self.alive, self.stopped = False, True

    dismiss = stop


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Launched]:
    """What was launched: of each run a sampler, then a guardian."""
    made: list[Launched] = []

    def launch(stack: Any, run_id: str, *more: Any) -> Launched:
        made.append(Launched(run_id))
        return made[-1]

    monkeypatch.setattr("gameday.run.Sampler.launch", launch)
    monkeypatch.setattr("gameday.run.Guardian.launch", launch)
    return made


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A gameday.toml, whose state is the test's own."""
    monkeypatch.setenv("GAMEDAY_STATE", str(tmp_path))
    State(tmp_path).supervisor_socket.touch()
    return str(write_config(tmp_path))


def planned(params: dict[str, str] | None = None, test: FailureTest = TEST) -> Planned:
    return Planned("web_stop", params or {"how": "stop"}, test, "web_stop how=stop")


def begun(night: Night, config: str, params: dict[str, str] | None = None) -> Run:
    return night.begin("web_stop", params or {"how": "stop"}, TEST, config)


def test_the_run_that_was_prepared_is_the_one_that_begins(launched: list[Launched], config: str) -> None:
    """It keeps its samples and counts from its own begin; nothing is started again."""
    night = Night("night-1")
    night.look_ahead(planned(), config)
    assert night.early is not None
    made_ns = night.early.began_ns
    run = begun(night, config)
    run.prepare()
    assert [one.run_id for one in launched] == [run.id] * 2
    assert run.began_ns > made_ns
    assert night.early is None


def test_what_was_prepared_for_another_run_is_not_taken(launched: list[Launched], config: str) -> None:
    """Other parameters may strike another component: its processes end, and the run gets some of its own."""
    night = Night("night-1")
    night.look_ahead(planned({"how": "sigkill"}), config)
    run = begun(night, config)
    assert all(one.stopped for one in launched)
    assert run.id != launched[0].run_id
    assert not run.prepared


@pytest.mark.parametrize("dead", [0, 1], ids=["the sampler", "the guardian"])
def test_a_run_whose_processes_died_before_it_began_starts_anew(
    dead: int, launched: list[Launched], config: str
) -> None:
    """It would be unknown, though nothing is wrong."""
    night = Night("night-1")
    night.look_ahead(planned(), config)
    launched[dead].alive = False
    run = begun(night, config)
    run.prepare()
    assert all(one.stopped for one in launched[:2])
    assert [one.run_id for one in launched[2:]] == [run.id] * 2


def test_what_can_not_be_prepared_ahead_is_told_and_begins_as_ever(
    config: str, monkeypatch: pytest.MonkeyPatch, launched: list[Launched]
) -> None:
    """The present run's verdict doesn't hang on the next one."""

    def refused(*_: object) -> None:
        raise GamedayError("no space")

    told: list[str] = []
    night = Night("night-1", say=told.append)
    with monkeypatch.context() as patch:
        patch.setattr("gameday.run.Sampler.launch", refused)
        night.look_ahead(planned(), config)
    assert told == ["web_stop: not prepared ahead: no space"]
    begun(night, config).prepare()
    assert len(launched) == 2


def test_a_test_that_the_stack_can_not_carry_out_is_not_prepared(launched: list[Launched], config: str) -> None:
    """It will be skipped."""
    night = Night("night-1")
    night.look_ahead(planned(test=FOREIGN), config)
    assert (night.early, launched) == (None, [])


def test_a_night_that_ends_leaves_nothing_that_it_prepared(launched: list[Launched], config: str) -> None:
    """Also one that is interrupted before its next run."""
    night = Night("night-1")
    night.look_ahead(planned(), config)
    night.drop_early()
    night.drop_early()
    assert [one.stopped for one in launched] == [True, True]
