"""The caller against a real broker: what it is asked for is done once, what it was told outlives it, and what the
broker does not take is published when it does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gameday.system.polling import until
from pipelines.router.tape import POISON, TENANTS, asked
from tests.contract.router.rig import WAIT_S, Bare, Broker, Process, brought_up

pytestmark = [pytest.mark.suite("router"), pytest.mark.timeout(300)]

EACH = 5


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with brought_up("jetstream", tmp_path / "broker") as found:
        yield found


@pytest.fixture
def platform(broker: Broker, dsn: str, tmp_path: Path) -> Iterator[Bare]:
    """Of which only the caller is started."""
    found = Bare(broker, dsn, tmp_path, "")
    try:
        found.caller.start()
        found.published(EACH)
        yield found
    finally:
        found.stop()


def told(caller: Process, path: str, body: dict[str, Any] | None = None) -> Any:
    return json.loads(caller.ask(path, body))


def test_what_is_asked_for_under_a_key_is_published_once(platform: Bare) -> None:
    """However often it is asked for; several of a kind have one key, and are done when the last one is."""
    caller = platform.caller
    first = told(caller, "/poison", {"kind": "raises", "count": 3, "key": "k"})
    assert told(caller, "/poison", {"kind": "raises", "count": 3, "key": "k"})["n"] == first["n"] == 3
    assert first["id"] == asked(1, 3, "raises")["id"]
    until(lambda: told(caller, "/asked/k")["done"], WAIT_S, 0.05, "the broker to have all three")
    assert [one["kind"] for one in told(caller, "/tape")["poison"]] == ["raises"] * 3
    assert told(caller, "/tape")["done"][POISON] == 3
    assert "nothing was asked for" in told(caller, "/asked/another")["error"]


@pytest.mark.parametrize(
    ("path", "body", "remedy"),
    [
        ("/poison", {"kind": "unknown"}, "one of raises, crashes, slow"),
        ("/poison", {"kind": "raises", "count": 0}, "a number from 1"),
        ("/burst", {"requests": "many"}, "a number from 1"),
        ("/hold", {"s": 3_600}, "a number from 0 to 60"),
    ],
)
def test_a_wrong_question_is_told_its_remedy(platform: Bare, path: str, body: dict[str, Any], remedy: str) -> None:
    """And changes nothing."""
    assert remedy in told(platform.caller, path, body)["error"]
    assert told(platform.caller, "/tape")["poison"] == []


def test_its_tape_outlives_it(platform: Bare) -> None:
    """A request that was taken is not asked for anew, and no number is left out."""
    caller = platform.caller
    told(caller, "/poison", {"kind": "slow", "key": "k"})
    assert caller.process is not None
    caller.process.terminate()
    assert caller.process.wait(WAIT_S) == 0
    kept = json.loads((platform.folder / "tape" / "tape.json").read_text())
    caller.start()
    platform.published(max(kept["done"].values()) + 1)
    now = told(caller, "/tape")
    assert all(now["done"][tenant] > kept["done"][tenant] >= EACH for tenant in TENANTS)
    assert [one["key"] for one in now["poison"]] == ["k"]


def test_what_waited_in_a_broker_that_has_dropped_it_is_published_again(platform: Bare, tmp_path: Path) -> None:
    """A platform that is started again after the time that its broker keeps requests: each ends all the same."""
    platform.router.start()
    platform.worker.start()
    until(lambda: _ended(platform) >= EACH, WAIT_S, 0.1, "the first outcomes")
    platform.router.stop()
    platform.worker.stop()
    wanted = max(json.loads(platform.caller.ask("/tape"))["done"].values()) + EACH
    platform.published(wanted)
    assert platform.caller.process is not None
    platform.caller.process.terminate()  # its tape is whole then
    assert platform.caller.process.wait(WAIT_S) == 0
    platform.broker.kill()
    for stored in filter(Path.is_dir, (tmp_path / "broker").iterdir()):
        shutil.rmtree(stored)
    platform.broker.start()
    platform.start()
    until(lambda: _ended(platform) > wanted, WAIT_S, 0.1, "the outcomes of what the broker has dropped")


def _ended(platform: Bare) -> int:
    """The lowest of all tenants' last requests that have ended with all before them."""
    with psycopg.connect(platform.dsn) as store:
        ended: dict[str, int] = dict(store.execute("SELECT tenant, n FROM heads").fetchall())
    return min(ended.get(tenant, 0) for tenant in TENANTS)


def test_what_a_broker_that_is_away_does_not_take_is_published_when_it_is_back(platform: Bare) -> None:
    """Meanwhile the caller is in trouble, and says so; no request is left out."""
    caller = platform.caller
    platform.broker.kill()
    until(lambda: not told(caller, "/healthz")["ok"], WAIT_S, 0.1, "trouble")
    before = told(caller, "/tape")
    assert all(0 <= before["heads"][tenant] - before["done"][tenant] <= 1 for tenant in TENANTS)
    platform.broker.start()
    platform.published(max(before["heads"].values()) + 1)
    until(lambda: told(caller, "/healthz")["ok"], WAIT_S, 0.1, "no trouble")
    assert told(caller, "/tape")["outcomes"]["unknown"] > 0
