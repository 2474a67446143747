"""What is restarted of a connector, when, and what is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.cdc.connect_watch import Unanswered, Watch


class Connect:
    """A Connect whose task is in this state, and a source whose slot is; restarts: how often it was asked for one."""

    def __init__(self, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state, self.slot, self.now_s, self.restarts = "RUNNING", "", 100.0, 0
        monkeypatch.setattr(watch, "_asked", self._asked)
        monkeypatch.setattr(watch, "_lost", lambda: self.slot)
        monkeypatch.setattr("pipelines.cdc.connect_watch.time.monotonic", lambda: self.now_s)

    def _asked(self, method: str, path: str) -> Any:
        if method == "POST":
            assert path == "/restart?includeTasks=true&onlyFailed=true"
            self.restarts += 1
            return None
        return {"connector": {"state": "RUNNING"}, "tasks": [{"state": self.state, "trace": "why"}]}


@pytest.fixture
def watch() -> Watch:
    return Watch("http://127.0.0.1:1", "orders", "postgresql://127.0.0.1:1/none", "orders")


def test_a_task_that_fails_again_and_again_is_restarted_after_longer_and_longer(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, then after 1, 2, 4 s, 60 s at most; one that was well for half a minute begins anew."""
    connect = Connect(watch, monkeypatch)
    assert (watch.look(), connect.restarts) == ("well", 0)
    connect.state = "FAILED"
    at = []
    for _ in range(400):
        if watch.look() == "restarted":
            at.append(connect.now_s - 100)
        connect.now_s += 1
    assert at == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363]
    connect.state, connect.now_s = "RUNNING", connect.now_s + 31
    assert watch.look() == "well"
    connect.state = "FAILED"
    assert [watch.look(), watch.look()] == ["restarted", "waiting"]
    connect.now_s += 1
    assert watch.look() == "restarted"


@pytest.mark.parametrize("why", ["slot orders is lost", "slot orders is gone"])
def test_a_task_whose_slot_is_lost_is_left_alone(watch: Watch, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """However often it is looked at: a new slot would begin behind the gap."""
    connect = Connect(watch, monkeypatch)
    connect.state, connect.slot = "FAILED", why
    assert [watch.look() for _ in range(3)] == ["lost"] * 3
    assert connect.restarts == 0


def test_nothing_is_done_where_nothing_is_known(watch: Watch) -> None:
    """Nobody answers."""
    with pytest.raises(Unanswered, match=r"^Connect: GET /status: "):
        watch.look()
