"""A stack that isn't ours, on a real engine: with nothing but the committed example, gameday finds what its offload
does wrong, and finds nothing wrong with the same offload once it is sound."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compose.engine import unavailable
from tests.docker.containers import on_an_engine
from tests.docker.theirs.stack import Theirs

GAMEDAY = str(Path(sys.executable).with_name("gameday"))
CHECK_WITHIN_S = 120.0
RUN_WITHIN_S = 900
STRIKE = ("offload_failure", "-p", "point=after_commit", "-p", "victim=engine")

pytestmark = [
    pytest.mark.suite("docker"),
    pytest.mark.skipif(unavailable() is not None, reason=f"no engine here: {unavailable()}"),
    pytest.mark.timeout(RUN_WITHIN_S + 300),
]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theirs]:
    """The platform with its naive offload, up."""
    with on_an_engine(Theirs, tmp_path_factory.mktemp("k2")) as stack:
        yield stack


def run(theirs: Theirs) -> Any:
    """The result of the strike."""
    out = theirs.folder / "results.json"
    done = theirs.gameday(GAMEDAY, "run", *STRIKE, "--json", str(out), within_s=RUN_WITHIN_S)
    assert out.exists(), done.stdout + done.stderr
    (result,) = json.loads(out.read_text())["results"]
    told = {finding["check"]: (finding["verdict"], finding["why"]) for finding in result["findings"]}
    return {**result, "told": told, "output": done.stdout + done.stderr, "code": done.returncode}


def test_check_says_what_was_found_and_what_cant_be_judged(theirs: Theirs) -> None:
    """Every component, hop, cursor and the archive; the tests without links or failpoints; no check without its
    reason."""
    done = theirs.gameday(GAMEDAY, "check", "--json", within_s=CHECK_WITHIN_S)
    rows = {f"{row['what']} {row['note']}": row["ok"] for row in json.loads(done.stdout)}
    missing = [text for text, ok in rows.items() if not ok]
    assert not [text for text in missing if not text.startswith("test ")], missing
    assert any("point=after_commit, victim=engine: can run" in text for text in rows), done.stdout
    assert any("jobs.offload.points" in text for text in missing), done.stdout
    assert any("can't be judged here: first_kept (no hop tells" in text for text in rows), done.stdout


def test_the_duplicates_of_a_naive_offload_are_found(theirs: Theirs) -> None:
    """Killed between its appends and its watermark, it appends again: the archive is guilty, with how many rows."""
    result = run(theirs)
    assert (result["verdict"], result["code"]) == ("fail", 1), result["output"]
    verdict, why = result["told"]["no_duplicates"]
    assert (verdict, why.startswith("archive has"), "too many" in why) == ("fail", True, True), why
    assert result["told"]["no_loss"][0] == "pass", result["told"]
    assert result["told"]["snapshots_whole"][0] == "fail", result["told"]
    assert result["counts"]["doubled"]["archive"] > 0


def test_the_same_strike_finds_nothing_wrong_with_a_sound_offload(theirs: Theirs) -> None:
    """The verdict is the offload's, not the strike's."""
    theirs.write(SOUND="1")
    theirs.compose("up", "--detach", "--no-build", "--pull", "never")
    result = run(theirs)
    assert (result["verdict"], result["code"]) == ("pass", 0), (result["told"], result["output"])
    assert result["told"]["watermark"][0] == "pass", result["told"]
