"""Evidence as a commit, with a real git: on a branch of its own, and nothing of the user's is touched."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gameday.errors import GamedayError
from gameday.runbooks import branch
from gameday.runbooks.evidence import BEGIN, END, diff, filled

PAGE = b"# Text\r\n\xff\n" + BEGIN + b"\nold\n" + END + b"\nmore"


def git(folder: Path, *arguments: str, text: bytes = b"") -> str:
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    own |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ("-c", "user.name=Somebody", "-c", "user.email=somebody@localhost")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, input=text, env=own)
    return done.stdout.decode(errors="replace").strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """With a runbook, something staged, something changed and something new."""
    root = tmp_path / "repository"
    (root / "runbooks").mkdir(parents=True)
    git(root, "init", "-q", "-b", "work")
    (root / "runbooks" / "a.md").write_bytes(PAGE)
    (root / "other.txt").write_text("one\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    (root / "other.txt").write_text("two\n")
    git(root, "add", "other.txt")
    (root / "runbooks" / "a.md").write_bytes(PAGE + b"\nmine, not committed")
    (root / "new.md").write_bytes(PAGE)
    return root


def state(root: Path) -> tuple[str, str, str, bytes]:
    """All that is the user's: branch, index and working tree."""
    index = git(root, "ls-files", "--stage")
    return (
        git(root, "status", "--porcelain", "--branch"),
        git(root, "stash", "list"),
        index,
        (root / "runbooks/a.md").read_bytes(),
    )


def change(text: bytes) -> bytes:
    return filled(text, "new", "a.md")


def test_the_commit_has_the_evidence_and_nothing_else(repository: Path) -> None:
    """On top of HEAD, from HEAD's text: neither what is staged nor what is changed is in it; and the user's own state
    is as it was, to the byte."""
    before = state(repository)
    made, trouble = branch.commit(repository, "gameday/night-1", {"runbooks/a.md": change}, "Runbooks: evidence")
    assert state(repository) == before
    assert trouble == []
    assert git(repository, "rev-parse", "gameday/night-1") == made
    assert git(repository, "rev-parse", "gameday/night-1^") == git(repository, "rev-parse", "work")
    assert git(repository, "diff", "--name-only", "work", "gameday/night-1") == "runbooks/a.md"
    assert git(repository, "log", "-1", "--format=%an %s", "gameday/night-1") == "gameday Runbooks: evidence"
    raw = subprocess.run(
        ["git", "cat-file", "blob", "gameday/night-1:runbooks/a.md"], cwd=repository, capture_output=True
    )
    assert raw.stdout == change(PAGE)


def test_the_environment_of_a_hook_does_not_lead_it_astray(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a hook, git's variables name another index, or another repository."""
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert branch.top(repository / "runbooks") == repository
    assert branch.commit(repository, "gameday/n", {"runbooks/a.md": change}, "m")[0]


def test_what_can_not_be_changed_is_told_and_the_rest_is(repository: Path) -> None:
    """A file that isn't committed, one without markers."""
    several = {"new.md": change, "other.txt": change, "runbooks/a.md": change}
    made, trouble = branch.commit(repository, "gameday/n", several, "m")
    assert made is not None
    assert ["not committed" in trouble[0], "0 times" in trouble[1], len(trouble)] == [True, True, 2]


def test_nothing_new_is_no_branch(repository: Path) -> None:
    """No empty commits."""
    assert branch.commit(repository, "gameday/n", {"runbooks/a.md": lambda text: text}, "m") == (None, [])
    assert git(repository, "branch", "--list", "gameday/*") == ""


def test_a_branch_that_exists_stays_where_it_is(repository: Path) -> None:
    """It may be somebody's."""
    git(repository, "branch", "gameday/n")
    with pytest.raises(GamedayError, match="git update-ref"):
        branch.commit(repository, "gameday/n", {"runbooks/a.md": change}, "m")
    assert git(repository, "rev-parse", "gameday/n") == git(repository, "rev-parse", "work")


def test_where_there_is_no_repository_it_says_so(tmp_path: Path) -> None:
    """With the remedy; then the diff is left."""
    with pytest.raises(GamedayError, match="leave out --commit"):
        branch.top(tmp_path)


def test_the_diff_is_one_that_git_takes(repository: Path) -> None:
    """To the byte, with line ends of both kinds and none at the end."""
    path = repository / "runbooks" / "a.md"
    path.write_bytes(PAGE)
    git(repository, "apply", "-", text=diff("runbooks/a.md", PAGE, change(PAGE)))
    assert path.read_bytes() == change(PAGE)
