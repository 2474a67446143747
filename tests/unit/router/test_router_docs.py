"""docs/router.md names what there is, and the router's three platforms differ in their broker alone."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

import pytest

from gameday.state import ROOT
from pipelines.router.defects import DEFECTS
from pipelines.router.tape import KINDS
from pipelines.router.wire import OPERATIONS

PLATFORMS = ("router", "router_kafka", "router_valkey")


def document(platform: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / "compose" / platform / "gameday.toml").read_text())


def without_broker(told: Mapping[str, Any]) -> dict[str, Any]:
    """All but the tables that say which broker it is."""
    made = {name: dict(given) if isinstance(given, dict) else given for name, given in told.items()}
    for name in ("name", "cursors", "watches"):
        made.pop(name, None)
    del made["components"]["broker"], made["hops"]["requests"]
    for account in made["accounts"].values():  # how it counts, and who makes dead letters, is the broker's
        for name in ("counted", "buried_by"):
            account.get("known", account).pop(name, None)
    return made


def test_every_name_is_on_the_page() -> None:
    """Each defect with the words that the code has for it."""
    page = (ROOT / "docs" / "router.md").read_text()
    names = {*DEFECTS, *PLATFORMS, *KINDS}
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []
    assert all(name in page for name in OPERATIONS)
    told = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.MULTILINE))
    assert {name: told.get(name) for name in DEFECTS} == DEFECTS


@pytest.mark.parametrize("platform", PLATFORMS[1:])
def test_the_three_platforms_differ_in_their_broker_alone(platform: str) -> None:
    """What is declared of one is declared of all."""
    first, other = document(PLATFORMS[0]), document(platform)
    assert without_broker(other) == without_broker(first)
    assert other["hops"]["requests"]["driver"] != first["hops"]["requests"]["driver"]
    assert other["components"]["broker"]["opt_in"]
