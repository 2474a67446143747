"""The router over each broker, as a user runs it: it comes up, its records are as declared, failure tests pass while it
is healthy, and routers that are made worse are found out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gameday.state import State
from tests.e2e.command import gameday, results
from tests.stackfixture import brought_up

pytestmark = [pytest.mark.suite("router"), pytest.mark.timeout(900)]

WITHIN_S = 420
PLATFORMS = ("router", "router_kafka", "router_valkey")


def asked(platform: str, state: State, *arguments: str) -> Any:
    return gameday(state, "--platform", platform, "--state", str(state.root), *arguments, within_s=WITHIN_S)


def carried_out(platform: str, state: State, folder: Path, test: str, *params: str) -> dict[str, Any]:
    """The result of one run."""
    file = folder / "results.json"
    given = [part for param in params for part in ("-p", param)]
    done = asked(platform, state, "run", test, *given, "--json", str(file))
    assert file.exists(), done.stdout + done.stderr
    (result,) = results(file)
    return result


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_healthy_platform_is_as_declared_and_passes(platform: str, tmp_path: Path) -> None:
    """At every hop, held against each other; and while its broker is killed, and one of its routers."""
    with brought_up(platform, tmp_path / "state") as state:
        rows = json.loads(asked(platform, state, "check", "--look", "--json").stdout)
        assert [row for row in rows if not row["ok"]] == []
        assert {"look at requests", "look at outcomes"} <= {row["what"] for row in rows}
        for test, *params in (
            ("restart", "component=broker", "how=sigkill"),
            ("crash", "component=router"),
        ):
            result = carried_out(platform, state, tmp_path, test, *params)
            assert result["verdict"] == "pass", result["findings"]
            assert not any(number for hops in result["counts"].values() for number in hops.values())


def test_routers_that_are_made_worse_are_found_out(tmp_path: Path) -> None:
    """They connect again to a broker that they could not reach, and ask for nothing: all looks well but the outcomes,
    which do not come."""
    defect = "ROUTER_DEFECT=forget_after_reconnect"
    with brought_up("router", tmp_path / "state", defect, ["router-a", "router-b"]) as state:
        cut = ("component=router-a", "link=broker-router", "held_s=10")
        result = carried_out("router", state, tmp_path, "partition", *cut)
    assert result["verdict"] == "fail", result["findings"]
    (why,) = [found["why"] for found in result["findings"] if found["check"] == "recovered"]
    assert why
