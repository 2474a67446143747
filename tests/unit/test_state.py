"""The state folder: whose it is, and who may write in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compose import up
from compose.trades import processes
from gameday.cli import app
from gameday.errors import ConfigError
from gameday.stack import reading
from gameday.state import State

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")

DOORS: dict[str, Callable[[State], object]] = {
    "ensure": lambda state: state.ensure(),
    "configuration": lambda state: reading.load(state=state),
    "up": lambda state: up.up(state, print),
    "down": lambda state: up.down(state),
    "clean": lambda state: up.clean(state),
}
COMMANDS = [["status"], ["abort"], ["hold"], ["release"], ["report"], ["up"], ["down"], ["heal"], ["history"]]


@pytest.fixture(autouse=True)
def _no_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A door that lets in starts nothing here."""

    def begun(*_: object) -> None:
        raise AssertionError("a stack is being started")

    monkeypatch.setattr(processes, "get", begun)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o707, 0o1777])
def test_a_folder_that_others_may_write_in_is_refused(tmp_path: Path, door: str, mode: int) -> None:
    """Whoever may put files there chooses what is started: folder, owner, mode and remedy are told."""
    root = tmp_path / "state"
    root.mkdir()
    root.chmod(mode)
    with pytest.raises(ConfigError) as raised:
        DOORS[door](State(root))
    told = str(raised.value)
    assert f"{root} (mode {mode:04o})" in told
    assert f"(user id {os.geteuid()})" in told
    assert f"chmod go-w {root}" in told
    assert list(root.iterdir()) == []


@AS_ROOT
@pytest.mark.parametrize("door", DOORS)
def test_another_user_s_folder_is_refused(tmp_path: Path, door: str) -> None:
    """By root too: what it leaves there the owner can't change, and a link there leads it anywhere."""
    root = tmp_path / "state"
    root.mkdir(mode=0o700)
    os.chown(root, 12_345, 12_345)
    with pytest.raises(ConfigError) as raised:
        DOORS[door](State(root))
    told = str(raised.value)
    assert f"{root} (mode 0700) belongs to user id 12345, and this is root (user id 0)" in told
    assert "Remedy: run it as user id 12345, or set GAMEDAY_STATE" in told


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_looks_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    """Also one that only looks."""
    root = tmp_path / "state"
    root.mkdir()
    root.chmod(0o777)
    monkeypatch.setenv("GAMEDAY_STATE", str(root))
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, ConfigError), done.output
    assert done.exception.exit_code == 2
    assert f"{root} (mode 0777)" in str(done.exception)


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755])
def test_one_that_others_may_only_read_is_fine(tmp_path: Path, mode: int) -> None:
    """A web server may serve nights/; what holds a secret has its own mode."""
    tmp_path.chmod(mode)
    assert State(tmp_path).ensure().root.stat().st_mode & 0o777 == mode


def test_a_new_one_is_private(tmp_path: Path) -> None:
    """Whatever the umask."""
    before = os.umask(0)
    try:
        assert State(tmp_path / "a" / "b").ensure().root.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


def test_what_can_be_no_folder_is_told(tmp_path: Path) -> None:
    """A file, and a place below one."""
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=f"{root}.*Remedy: set GAMEDAY_STATE"):
            State(root).ensure()
