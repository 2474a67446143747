"""The platform's alerts in gameday.toml, and what a run and a night make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from flows.nightly import not_well
from gameday.errors import ConfigError, DriverError
from gameday.model import NOT_WATCHED, Verdict
from gameday.plan import FailureTest, FiresWithin, Inject, StaysSilent
from gameday.run import Halt, Run
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from tasks.preflight import _look_at_alert
from tests.fakes import write_config

ALERTS = """
[alerts]
driver = "prometheus"
url = "http://127.0.0.1:1"
alertmanager = "http://127.0.0.1:2"
[alerts.labels]
db = { job = "postgres" }
[alerts.names]
WebDown = "SiteDown"
"""


def stack(folder: Path, alerts: str = ALERTS) -> Stack:
    path = write_config(folder)
    path.write_text(path.read_text() + alerts)
    found = open_stack(path, State(folder))
    found._hops.update(one=None, two=None)  # never asked here
    return found


class Told:
    """Alerts that say what they are told to; `away`: nobody answers."""

    def __init__(self, *firing: tuple[str, Mapping[str, str]], away: bool = False) -> None:
        self._firing, self._away = firing, away
        self.asked: list[Any] = []

    def state(self, alert: str, labels: Mapping[str, str]) -> Mapping[str, float]:
        self._answer(alert, labels)
        return {"": 0.0, ".evaluated": 1.0}

    def firing(self) -> Sequence[tuple[str, Mapping[str, str]]]:
        self._answer()
        return self._firing

    def silence(self, alert: str, labels: Mapping[str, str], for_s: float, known: str | None, why: str) -> str | None:
        self._answer(alert, labels)
        return "s1"

    def unsilence(self, known: str) -> None:
        self._answer(known)

    def _answer(self, *what: Any) -> None:
        self.asked.append(what)
        if self._away:
            raise DriverError("nobody answers", definite=True)


def told(folder: Path, alerts: Told) -> Stack:
    found = stack(folder)
    found.__dict__["alerts"] = alerts  # where the cached property would be
    return found


def test_alerts_of_other_people_are_nothing_of_ours(tmp_path: Path) -> None:
    """The same rule of a component that the toml doesn't name, or under another label, keeps no night away."""
    theirs = Told(("BrokerDown", {"component": "theirs"}), ("BrokerDown", {"cluster": "web"}), ("DiskFull", {}))
    assert told(tmp_path, theirs).firing() == []
    ours = Told(("BrokerDown", {"component": "web", "cluster": "theirs"}))
    assert told(tmp_path, ours).firing() == ["BrokerDown of web"]


FAULT: Any = type("Fault", (), {"component": "web"})()


def run(stack: Stack, alert: FiresWithin | StaysSilent | None) -> Run:
    test = FailureTest(plan=(Inject(FAULT),), mttr_max_s=1, checks=(), alert=alert)
    return Run(stack, "t", {}, test, "night", lambda _: None)


def test_whose_an_alert_is_and_what_it_is_called_here(tmp_path: Path) -> None:
    """By the component's name, unless the configuration says otherwise."""
    found = stack(tmp_path)
    assert found.alerts is not None
    assert found.alert_labels("web") == {"component": "web"}
    assert found.alert_labels("db") == {"job": "postgres"}
    assert (found.alert_name("WebDown"), found.alert_name("DbDown")) == ("SiteDown", "DbDown")


@pytest.mark.parametrize("alerts", ["", ALERTS.replace("http://127.0.0.1:1", "")], ids=["no section", "no address"])
def test_a_stack_without_alerts_runs_its_tests_all_the_same(tmp_path: Path, alerts: str) -> None:
    """Nothing is watched, nothing is silenced, no night waits; the check says what to install."""
    found = stack(tmp_path, alerts)
    one = run(found, StaysSilent("WebDown"))
    one.hush()
    _look_at_alert(one)
    assert (found.alerts, one.alert, one.silence, one.symptoms) == (None, None, None, {})
    assert not_well(found) is None
    assert not [spec for spec in found.probes(alert=("WebDown", "web")) if spec.series.startswith("alert/")]
    assert "apt-get install" in NOT_WATCHED


def test_labels_of_a_component_that_there_is_not_are_refused(tmp_path: Path) -> None:
    """They would silence nothing."""
    with pytest.raises(ConfigError, match=r"alerts.labels names 'dbb'.*Known: web, db"):
        stack(tmp_path, ALERTS.replace("db =", "dbb ="))


def test_the_alert_is_the_struck_component_s_unless_the_test_says_whose(tmp_path: Path) -> None:
    """It is sampled under the name that the test knows, and asked for under the stack's."""
    found = stack(tmp_path)
    assert run(found, FiresWithin("WebDown", 60)).alert == ("WebDown", "web")
    assert run(found, StaysSilent("WebDown", component="db")).alert == ("WebDown", "db")
    assert run(found, None).alert is None
    (spec,) = [s for s in found.probes(alert=("WebDown", "db")) if s.series.startswith("alert/")]
    assert spec.series == "alert/WebDown"
    assert (spec.probe.name, spec.probe.labels) == ("SiteDown", {"job": "postgres"})  # type: ignore[attr-defined]


def test_faults_outlive_the_wait_for_an_alert(tmp_path: Path) -> None:
    """Else the guardian would mend what is held for it."""
    found = stack(tmp_path)
    assert run(found, FiresWithin("WebDown", 500)).ttl_s == run(found, StaysSilent("WebDown")).ttl_s + 500


def test_the_alert_is_silenced_before_anything_is_broken(tmp_path: Path) -> None:
    """That alert of that component; and when it can't be, nothing is broken."""
    alerts = Told()
    one = run(told(tmp_path, alerts), FiresWithin("WebDown", 60))
    one.hush()
    assert alerts.asked == [("SiteDown", {"component": "web"})]
    assert one.silence is not None
    one.silence.end()
    with pytest.raises(Halt, match="nothing was broken, for it would page people") as halted:
        run(told(tmp_path, Told(away=True)), FiresWithin("WebDown", 60)).hush()
    assert halted.value.verdict is Verdict.UNKNOWN


def test_why_an_alert_can_t_be_watched_is_noted(tmp_path: Path) -> None:
    """The check tells it; the test of all else goes on."""
    one = run(told(tmp_path, Told(away=True)), FiresWithin("WebDown", 60))
    _look_at_alert(one)
    assert one.symptoms == {"alert.trouble": "nobody answers"}


def test_a_night_leaves_a_platform_alone_that_has_trouble(tmp_path: Path) -> None:
    """Alerts of its components count, those of others don't: gameday's own would keep every night from starting."""
    mine = ("WebSlow", {"component": "web", "severity": "page"})
    other = ("NightOverdue", {"component": "gameday"})
    assert not_well(told(tmp_path, Told(other))) is None
    assert "not well, WebSlow of web fires" in str(not_well(told(tmp_path, Told(mine, other))))
    assert "can't be asked: nobody answers" in str(not_well(told(tmp_path, Told(away=True))))
