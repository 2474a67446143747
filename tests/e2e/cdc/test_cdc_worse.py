"""The platform of change data capture with a sink that is made worse: it is found out, at its hop and with the keys.

Each test has a platform of its own. They stand in a file of their own, so that the healthy one is down by then.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gameday import codec
from tests.e2e.cdc.copied import carried_out, failed, platform

pytestmark = [pytest.mark.suite("cdc"), pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    ("defect", "test", "params", "check", "kind", "hop"),
    [
        ("ignore_delete", "consumer_lag", ("how=pause",), "no_duplicates", "doubled", "target"),
        ("float_amount", "consumer_lag", ("how=pause",), "unchanged", "changed", "target"),
        ("position_first", "sink_crash", ("point=before_position",), "no_loss", "lost", "history"),
    ],
)
def test_a_sink_that_is_made_worse_is_found_out(
    tmp_path: Path, defect: str, test: str, params: tuple[str, ...], check: str, kind: str, hop: str
) -> None:
    """By the check that it breaks, at its hop, with a key; the log is right.

    A batch that is passed over leaves its trace in the history: rows that change again are right again.
    """
    with platform(tmp_path / "state", defect) as state:
        code, result = carried_out(state, tmp_path, test, *params)
        assert (code, result["verdict"]) == (1, "fail"), result["findings"]
        listed = codec.load_evidence(state.run(result["id"])).symptoms["differences"]
    assert result["counts"][kind][hop] > 0
    assert not any(of["topic"] for of in result["counts"].values())
    assert hop in failed(result)[check]
    differs = [told for where, kinds in listed.items() if where.startswith(f"{hop} ") for told in kinds.values()]
    ids = {str(one) for told in differs for one in told["ids"]}
    assert ids & set(re.findall(r"\d+", failed(result)[check].partition("id ")[2])), (ids, failed(result))


def test_a_dead_letter_that_is_lost_is_found_out(tmp_path: Path) -> None:
    """A sink that only logs what is refused: its target is right, and its history lacks how the change has ended."""
    with platform(tmp_path / "state", "log_errors") as state:
        code, result = carried_out(state, tmp_path, "constraint_violation", "kind=check")
    assert (code, result["verdict"]) == (1, "fail"), result["findings"]
    assert {hop: number for hop, number in result["counts"]["lost"].items() if number} == {"history": 1}
    assert "orders/9" in failed(result)["no_loss"]
