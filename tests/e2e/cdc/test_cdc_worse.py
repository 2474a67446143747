"""The platform of change data capture with a sink that is made worse: it is found out, at its hop and with the keys.

Each test has a platform of its own. They stand in a file of their own, so that the healthy one is down by then.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gameday import codec
from tests.e2e.cdc.copied import carried_out, failed, platform

pytestmark = [pytest.mark.suite("cdc"), pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    ("defect", "test", "params", "check", "kind"),
    [
        ("ignore_delete", "consumer_lag", ("how=pause",), "no_duplicates", "doubled"),
        ("float_amount", "consumer_lag", ("how=pause",), "unchanged", "changed"),
        ("position_first", "sink_crash", ("point=before_position",), "no_loss", "lost"),
    ],
)
def test_a_sink_that_is_made_worse_is_found_out(
    tmp_path: Path, defect: str, test: str, params: tuple[str, ...], check: str, kind: str
) -> None:
    """By the check that it breaks, at the target, with a key of a row; the log is right."""
    with platform(tmp_path / "state", defect) as state:
        code, result = carried_out(state, tmp_path, test, *params)
        assert (code, result["verdict"]) == (1, "fail"), result["findings"]
        listed = codec.load_evidence(state.run(result["id"])).symptoms["differences"]
    assert result["counts"][kind]["target"] > 0
    assert result["counts"][kind]["topic"] == 0
    assert "target" in failed(result)[check]
    rows = [row for kinds in listed.values() if kind in kinds for row in kinds[kind]["rows"]]
    assert rows
    assert any(str(row["id"]) in failed(result)[check] for row in rows), failed(result)


def test_a_dead_letter_that_is_lost_is_found_out(tmp_path: Path) -> None:
    """A sink that only logs what is refused: its target is right, and its history lacks how the change has ended."""
    with platform(tmp_path / "state", "log_errors") as state:
        code, result = carried_out(state, tmp_path, "constraint_violation", "kind=check")
    assert (code, result["verdict"]) == (1, "fail"), result["findings"]
    assert {hop: number for hop, number in result["counts"]["lost"].items() if number} == {"history": 1}
    assert "orders/9" in failed(result)["no_loss"]
