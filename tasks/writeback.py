"""Writes the evidence of a night's tests back into their runbooks' evidence blocks: as a diff in the night's folder, or
as a commit on a branch of its own. It writes no file of the user's.
"""

from __future__ import annotations

from collections.abc import Callable

from gameday import codec
from gameday.errors import GamedayError
from gameday.model import RunResult, Verdict
from gameday.past import history
from gameday.runbooks import branch
from gameday.runbooks import evidence as runbook
from gameday.stack.live import Stack
from tasks.night import Night

__all__ = ["write_back"]

LOOKED_AT = 300
"""How many runs of one test are read: as many as all its parameter sets have together in a month."""


def write_back(night: Night, stack: Stack, commit: bool) -> None:
    """Write runbooks.diff in the night's folder, or with `commit` make the branch gameday/<night> if possible.

    The user is told why a runbook did not get its evidence. No verdict changes.
    """
    if not night.trusted:
        _say(night, "none, for no verdict of this night can be believed")
        return
    tests = sorted({r.test for r in night.results if r.verdict is not Verdict.SKIPPED})
    contents = {test: runbook.block(_past(stack, test)) for test in tests if stack.runbook(test).exists()}
    if not contents:
        return
    if commit:
        try:
            _commit(night, stack, contents)
        except (GamedayError, OSError) as e:
            _say(night, f"no branch: {e}")
        else:
            return
    _diff(night, stack, contents)


def _commit(night: Night, stack: Stack, contents: dict[str, str]) -> None:
    root = branch.top(stack.runbook(next(iter(contents))).parent)
    change = {stack.runbook(test).relative_to(root.resolve()).as_posix(): _change(test, contents) for test in contents}
    message = f"Runbooks: evidence of {night.id}\n\nWritten by gameday between the markers of each runbook.\n"
    commit, trouble = branch.commit(root, f"gameday/{night.id}", change, message)
    for why in trouble:
        _say(night, why)
    _say(night, f"branch gameday/{night.id}, commit {commit[:12]}" if commit else "nothing new, so no branch")


def _diff(night: Night, stack: Stack, contents: dict[str, str]) -> None:
    """Write runbooks.diff. Its paths begin at the repository's root, or at the runbooks' folder without a
    repository."""
    folder = stack.runbook(next(iter(contents))).parent
    try:
        root = branch.top(folder).resolve()
    except GamedayError:
        root = folder
    parts = []
    for test in contents:
        path = stack.runbook(test)
        try:
            before = path.read_bytes()
            after = _change(test, contents)(before)
        except (OSError, GamedayError) as e:
            _say(night, str(e))
            continue
        parts.append(runbook.diff(path.relative_to(root).as_posix(), before, after))
    if not any(parts):
        return
    to = stack.state.night(night.id) / "runbooks.diff"
    try:
        to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        to.write_bytes(b"".join(parts))
    except OSError as e:
        _say(night, f"{to} can't be written: {e.strerror}. Remedy: check space and rights there")
    else:
        _say(night, f"git apply {to}")


def _change(test: str, contents: dict[str, str]) -> Callable[[bytes], bytes]:
    return lambda text: runbook.filled(text, contents[test], f"{test}.md")


def _past(stack: Stack, test: str) -> list[RunResult]:
    """Return the test's runs on this stack, newest first: from history, or from the run folders if history is away."""
    try:
        return history.runs(stack.config.history.get_secret_value(), test=test, stack=stack.name, limit=LOOKED_AT)
    except GamedayError:
        results = []
        for path in reversed(stack.state.results()):
            try:
                result = codec.decode(RunResult, codec.read_json(path), str(path))
            except GamedayError:
                continue  # history has said so in the log already
            if result.test == test and result.stack == stack.name:
                results.append(result)
        return results[:LOOKED_AT]


def _say(night: Night, text: str) -> None:
    night.tell(f"runbooks: evidence: {text}")
