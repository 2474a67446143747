"""The failpoints driver against a real process, and the fault through a real guardian."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gameday.drivers import failpoints as driver
from gameday.drivers.failpoints import Points
from gameday.errors import ConfigError, DriverError, TooLate
from gameday.ports import Points as PointsProtocol
from gameday.state import ROOT
from gameday.system.polling import until

PROGRAM = """
import threading, time
from failpoints import listen, point
STEP = point("toy::step", "before each step", returns=int)
REST = point("toy::rest", "never reached")
listen()
while True:
    if STEP.on is not None:
        STEP()
    threading.Event().wait(0.002)
"""


class Toy:
    """A process that comes by toy::step 500 times a second; its folder's name is too long for a socket's address."""

    def __init__(self, folder: Path) -> None:
        self.points = Points(str(folder / "points.sock"), str(folder / "points.jsonl"))
        self._folder = folder

    def start(self) -> subprocess.Popen[bytes]:
        environment = {
            "FAILPOINTS_ENABLE": "1",
            "FAILPOINTS_SOCKET": self.points.socket,
            "FAILPOINTS_EVIDENCE": self.points.evidence,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], env={**os.environ, "PYTHONPATH": str(ROOT), **environment}
        )
        until(self.points.listed, within_s=20, what="the program to listen")
        return self.process


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Toy]:
    folder = tmp_path / ("a-folder-whose-name-is-longer-than-it-should-be-" * 2)
    folder.mkdir()
    made = Toy(folder)
    made.start()
    assert len(made.points.socket) > 108
    yield made
    made.process.kill()
    made.process.wait()


def test_it_offers_the_protocol(toy: Toy) -> None:
    """Everything that Points asks for."""
    assert isinstance(toy.points, PointsProtocol)


def test_arm_fire_and_disarm(toy: Toy) -> None:
    """What was armed is listed, what fired is in the evidence with its run, and afterwards nothing is armed."""
    points = toy.points
    assert points.listed()["toy::step"]["term"] is None
    points.arm("toy::step", "2,5@print()", 60, "run-1")
    points.wait("toy::step", 2, 10)
    listed = points.listed()["toy::step"]
    assert (listed["term"], listed["run"], listed["fired"]) == ("2,5@print()", "run-1", 2)
    assert [(f["hit"], f["pid"], f["run"]) for f in points.firings("toy::step")] == [
        (hit, toy.process.pid, "run-1") for hit in (2, 5)
    ]
    assert points.firings("toy::rest") == []
    points.disarm("toy::step")
    points.disarm("toy::step")
    assert points.listed()["toy::step"]["term"] is None


def test_the_time_to_live_disarms_without_anybody(toy: Toy) -> None:
    """Who armed it may be dead."""
    toy.points.arm("toy::rest", "kill", 0.2, "run-1")
    assert toy.points.listed()["toy::rest"]["term"] == "kill"
    until(lambda: toy.points.listed()["toy::rest"]["term"] is None, within_s=5, what="the end of its time")


@pytest.mark.parametrize(
    ("point", "term", "message"),
    [
        ("toy::stepp", "off", "Did you mean toy::step"),
        ("toy::step", "3*0ff", "no action.* at position 2"),
        ("toy::rest", "return(1)", "return means nothing there"),
        ("toy::step", "return(one)", "invalid literal"),
    ],
)
def test_what_makes_no_sense_is_bad_usage(toy: Toy, point: str, term: str, message: str) -> None:
    """Nothing was touched: exit code 2."""
    with pytest.raises(ConfigError, match=message):
        toy.points.arm(point, term, 60, "run-1")
    assert {p["term"] for p in toy.points.listed().values()} == {None}


def test_waiting_in_vain_is_too_late(toy: Toy) -> None:
    """For a firing that doesn't come, and at once for a point that isn't armed."""
    toy.points.arm("toy::rest", "off", 60, "run-1")
    with pytest.raises(TooLate, match="has fired 0 times, not 1"):
        toy.points.wait("toy::rest", 1, 0.2)
    with pytest.raises(TooLate, match="is not armed"):
        toy.points.wait("toy::step", 1, 30)


def test_a_process_that_its_point_killed_is_proved_by_the_evidence(toy: Toy) -> None:
    """The wait ends with the process; nothing is armed there then, nor in its successor."""
    waited = threading.Event()

    def wait() -> None:
        toy.points.wait("toy::step", 1, 20)
        waited.set()

    toy.points.arm("toy::step", "200@kill", 60, "run-1")
    threading.Thread(target=wait, daemon=True).start()
    assert toy.process.wait(10) == -signal.SIGKILL
    assert waited.wait(10)
    assert [f["action"] for f in toy.points.firings("toy::step")] == ["200@kill"]
    assert toy.points.listed() == {}
    toy.start()
    assert toy.points.listed()["toy::step"]["term"] is None
    assert len(toy.points.firings("toy::step")) == 1


def test_nobody_at_the_socket_is_definite(toy: Toy, tmp_path: Path) -> None:
    """Nothing was armed: neither where a process was, nor where none ever was."""
    toy.process.kill()
    toy.process.wait()
    for points in (toy.points, Points(str(tmp_path / "none.sock"), str(tmp_path / "none.jsonl"))):
        assert points.listed() == {}
        assert list(points.firings("toy::step")) == []
        with pytest.raises(DriverError, match="no process listens for failpoints") as failed:
            points.arm("toy::step", "off", 60, "run-1")
        assert failed.value.definite


def test_a_frozen_process_is_indefinite(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may take the order when it goes on: heal will have to come again."""
    monkeypatch.setattr(driver, "ASK_WITHIN_S", 0.3)
    toy.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(DriverError) as failed:
            driver.Points._ask(toy.points, "PUT", "/points/toy::rest?ttl_s=60", "off", 0.3)
        assert not failed.value.definite
    finally:
        toy.process.send_signal(signal.SIGCONT)


def test_evidence_that_cannot_be_read_is_an_error(toy: Toy) -> None:
    """It is never taken for "has not fired"."""
    Path(toy.points.evidence).write_text("no json\n")
    with pytest.raises(DriverError, match="can't be read"):
        toy.points.firings("toy::step")
