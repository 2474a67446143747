"""From `gameday init` to a verdict, as a user goes there: what a file of init's asks is answered, a night passes, and a
defect that was planted is found."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from tests.docker.foreign.platform import PASSWORD, PREFECT, Platform

__all__ = ["INIT_WITHIN_S", "NIGHT_WITHIN_S", "RUN_WITHIN_S", "begun", "found_out", "passes", "run"]

INIT_WITHIN_S = 120.0
NIGHT_WITHIN_S = 900.0
RUN_WITHIN_S = 240.0

HISTORY = 'history = "postgresql://127.0.0.1/gameday"'


def begun(platform: Platform, name: str, asked: Sequence[str], answers: Mapping[str, str]) -> list[str]:
    """The lines of the file of `gameday init` that its user has changed. asked: more options. answers: line -> what a
    person writes there, beside where gameday's own database is; all other questions are answered by what is there."""
    path = platform.folder / name
    arguments = ("init", "--project", platform.project, "--prefect", PREFECT, *asked)
    done = platform.gameday("--config", name, *arguments, within_s=INIT_WITHIN_S)
    assert done.returncode == 0, done.stdout + done.stderr + (path.read_text() if path.exists() else "")
    written = path.read_text()
    assert PASSWORD not in written
    answered = written
    for line, answer in {HISTORY: f'history = "{platform.history}"', **answers}.items():
        assert answered.count(f"\n{line}\n") == 1, (line, written)
        answered = answered.replace(f"\n{line}\n", f"\n{answer}\n")
    path.write_text(answered)
    changes = difflib.ndiff(written.splitlines(), answered.splitlines())
    return [line for line in changes if line.startswith("+ ")]


def run(platform: Platform, config: str, *tests: str, within_s: float) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, results and output of `gameday run`."""
    out = platform.folder / "results.json"
    out.unlink(missing_ok=True)
    done = platform.gameday("--config", config, "run", *tests, "--json", str(out), within_s=within_s)
    assert out.exists(), done.stdout + done.stderr
    return done.returncode, json.loads(out.read_text())["results"], done.stdout + done.stderr


def passes(platform: Platform, config: str, component: str, *tests: str) -> None:
    """A night that does these tests to this component, and each verdict is a pass. Another component's are skipped."""
    code, results, told = run(platform, config, "--all", within_s=NIGHT_WITHIN_S)
    verdicts = {(one["test"], one["params"]["component"]): one["verdict"] for one in results}
    judged = {test: verdict for test, verdict in verdicts.items() if verdict != "skipped"}
    assert judged == {(test, component): "pass" for test in tests}, told
    assert code == 0, told


def found_out(platform: Platform, config: str, component: str, check: str, where: str, measure: str) -> None:
    """A crash of this component shows a defect: this check fails at the hop `where`, and names the UUID of a record.
    measure: which of the report's counts says how many."""
    code, (result,), told = run(platform, config, "crash", "-p", f"component={component}", within_s=RUN_WITHIN_S)
    assert (result["verdict"], code) == ("fail", 1), told
    verdict, why = next((one["verdict"], one["why"]) for one in result["findings"] if one["check"] == check)
    assert (verdict, f"{where} has" in why) == ("fail", True), why
    assert result["counts"][measure][where] > 0
    assert any(_uuid(word.strip("',;:()[]")) for word in why.split()), why


def _uuid(word: str) -> bool:
    try:
        return UUID(word).version == 4
    except ValueError:
        return False
