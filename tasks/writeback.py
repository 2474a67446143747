"""The end of a night: the evidence of its tests goes back into their runbooks' evidence blocks, as a diff in the
night's folder, or as a commit on a branch of its own. No file of the user's is written.
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
"""Of one test's runs: as many as all its parameter sets have together in a month."""


def write_back(here: Night, stack: Stack, commit: bool) -> None:
    """runbooks.diff in the night's folder; with `commit` the branch gameday/<night> instead, where that can be made.
    What keeps a runbook from its evidence is told, and changes no verdict.
    """
    if not here.trusted:
        _tell(here, "none, for no verdict of this night can be believed")
        return
    tests = sorted({r.test for r in here.results if r.verdict is not Verdict.SKIPPED})
    contents = {test: runbook.block(_past(stack, test)) for test in tests if stack.runbook(test).exists()}
    if not contents:
        return
    if commit:
        try:
            _commit(here, stack, contents)
        except (GamedayError, OSError) as e:
            _tell(here, f"no branch: {e}")
        else:
            return
    _diff(here, stack, contents)


def _commit(here: Night, stack: Stack, contents: dict[str, str]) -> None:
    root = branch.top(stack.runbook(next(iter(contents))).parent)
    change = {stack.runbook(test).relative_to(root.resolve()).as_posix(): _change(test, contents) for test in contents}
    message = f"Runbooks: evidence of {here.id}\n\nWritten by gameday between the markers of each runbook.\n"
    made, trouble = branch.commit(root, f"gameday/{here.id}", change, message)
    for why in trouble:
        _tell(here, why)
    _tell(here, f"branch gameday/{here.id}, commit {made[:12]}" if made else "nothing new, so no branch")


def _diff(here: Night, stack: Stack, contents: dict[str, str]) -> None:
    """Paths in it begin at the root of the repository, or, where there is none, at the runbooks' folder."""
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
            _tell(here, str(e))
            continue
        parts.append(runbook.diff(path.relative_to(root).as_posix(), before, after))
    if not any(parts):
        return
    to = stack.state.night(here.id) / "runbooks.diff"
    try:
        to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        to.write_bytes(b"".join(parts))
    except OSError as e:
        _tell(here, f"{to} can't be written: {e.strerror}. Remedy: check space and rights there")
    else:
        _tell(here, f"git apply {to}")


def _change(test: str, contents: dict[str, str]) -> Callable[[bytes], bytes]:
    return lambda text: runbook.filled(text, contents[test], f"{test}.md")


def _past(stack: Stack, test: str) -> list[RunResult]:
    """The test's runs on this stack, newest first: from history, or, while that is away, from the run folders."""
    try:
        return history.runs(stack.config.history.get_secret_value(), test=test, stack=stack.name, limit=LOOKED_AT)
    except GamedayError:
        found = []
        for path in reversed(stack.state.results()):
            try:
                result = codec.decode(RunResult, codec.read_json(path), str(path))
            except GamedayError:
                continue  # history has said so in the log already
            if result.test == test and result.stack == stack.name:
                found.append(result)
        return found[:LOOKED_AT]


def _tell(here: Night, text: str) -> None:
    here.tell(f"runbooks: evidence: {text}")
