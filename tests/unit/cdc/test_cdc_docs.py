"""docs/cdc.md names what there is."""

from __future__ import annotations

import re

import pytest

from gameday.state import ROOT
from pipelines.cdc.defects import DEFECTS
from pipelines.cdc.tape import KINDS, SHAPES


@pytest.mark.parametrize(("what", "known"), [("defects", DEFECTS), ("shapes", SHAPES), ("poison", KINDS)])
def test_every_name_is_on_the_page(what: str, known: tuple[str, ...]) -> None:
    """Each defect with the words that the code has for it."""
    page = (ROOT / "docs" / "cdc.md").read_text()
    assert [name for name in known if f"`{name}`" not in page] == []
    if what == "defects":
        told = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.MULTILINE))
        assert {name: told.get(name) for name in DEFECTS} == DEFECTS
