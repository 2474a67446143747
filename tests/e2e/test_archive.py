"""The archive's failure tests beyond the night's: another victim, another link. What an offload with a
defect looks like to gameday is tests/contract/test_driver_iceberg.py's."""

from __future__ import annotations

from pathlib import Path

import pytest

from gameday.state import State
from tests.e2e.command import gameday, results

WITHIN_S = 400


@pytest.mark.timeout(WITHIN_S + 60)
@pytest.mark.parametrize(
    "arguments",
    [
        ("offload_failure", "-p", "victim=worker", "-p", "point=after_commit"),
        ("network_partition", "-p", "link=clickhouse-offload", "-p", "how=blackhole"),
    ],
    ids=lambda arguments: " ".join(a for a in arguments if a != "-p"),
)
def test_the_platform_survives_it(stack_state: State, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A pass: every commit whole, every trade in the archive exactly once."""
    found = tmp_path / "r.json"
    done = gameday(stack_state, "run", *arguments, "--json", str(found), within_s=WITHIN_S)
    (result,) = results(found)
    assert (done.returncode, result["verdict"]) == (0, "pass"), done.stdout + done.stderr
    assert {f["verdict"] for f in result["findings"] if f["check"] == "snapshots_whole"} == {"pass"}
    assert result["counts"]["lost"]["archive"] == result["counts"]["doubled"]["archive"] == 0
