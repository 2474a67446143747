"""A commit on a branch of its own in the repository that holds the files: working tree, index and the branch that is
checked out stay as they are. Nothing is fetched, pushed or merged.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from gameday.errors import GamedayError

__all__ = ["commit", "top"]

GIT_S = 30.0
AUTHOR = {"NAME": "gameday", "EMAIL": "gameday@localhost"}


def top(folder: Path) -> Path:
    """The root of the working tree that the folder is in. Raises GamedayError: it is in none, or there is no git."""
    return Path(_git(folder, "rev-parse", "--show-toplevel").decode().rstrip("\n"))


def commit(
    root: Path, branch: str, change: Mapping[str, Callable[[bytes], bytes]], message: str
) -> tuple[str | None, list[str]]:
    """Make the branch with one commit on top of HEAD: each of these files (relative to root) as HEAD has it, changed.

    Returns the commit's name, or None when nothing would change, and what kept a file from being changed. Raises
    GamedayError when git refuses.
    """
    trouble: list[str] = []
    head = _git(root, "rev-parse", "--verify", "HEAD^{commit}").decode().strip()
    with tempfile.TemporaryDirectory(prefix="gameday-") as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        _git(root, "read-tree", head, env=index)
        for path, changed in change.items():
            try:
                listed = _git(root, "ls-tree", "-z", "--full-tree", head, "--", path).decode()
                if not listed:
                    raise GamedayError(f"{path} is not committed yet. Remedy: commit it first")
                mode, _, blob = listed.partition("\t")[0].split(" ")
                text = changed(_git(root, "cat-file", "blob", blob))
            except GamedayError as e:
                trouble.append(str(e))
                continue
            new = _git(root, "hash-object", "-w", "--stdin", "--no-filters", given=text).decode().strip()
            _git(root, "update-index", "--cacheinfo", f"{mode},{new},{path}", env=index)
        tree = _git(root, "write-tree", env=index).decode().strip()
    if tree == _git(root, "rev-parse", f"{head}^{{tree}}").decode().strip():
        return None, trouble
    made = _git(root, "commit-tree", tree, "-p", head, "-F", "-", given=message.encode()).decode().strip()
    _git(root, "update-ref", "-m", "gameday", f"refs/heads/{branch}", made, "0" * len(made))  # it must be new
    return made, trouble


def _git(folder: Path, *arguments: str, given: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
    """One command's output. What the caller's environment says of another repository is left out."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    who = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in AUTHOR.items()}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            input=given,
            capture_output=True,
            timeout=GIT_S,
            env={**own, **who, "GIT_TERMINAL_PROMPT": "0", **(env or {})},
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise GamedayError(f"git {arguments[0]} in {folder}: {e}. Remedy: install git, or leave out --commit") from e
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip()[-300:]
        raise GamedayError(f"git {arguments[0]} in {folder}: {why}. Remedy: mend that, or leave out --commit")
    return done.stdout
