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
from gameday.state import ROOT, State

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


def test_each_platform_has_a_state_folder_of_its_own() -> None:
    """The default one's is where it always was."""
    assert State.of("trades") == State(ROOT / ".gameday")
    assert State.of("cdc") == State(ROOT / ".gameday" / "cdc")


def test_a_state_folder_of_another_platform_is_refused(tmp_path: Path) -> None:
    """Its servers have that platform's data. One from before platforms had names is of the default one."""
    state = State(tmp_path)
    for text, theirs in (("PLATFORM=other\nPREFECT_PORT=1\n", "other"), ("PREFECT_PORT=1\n", "trades")):
        state.env.write_text(text)
        wanted = "trades" if theirs == "other" else "other"
        with pytest.raises(ConfigError, match=f"is of the platform {theirs}, not of {wanted}. Remedy: gameday --plat"):
            up._same(state, wanted)


def test_a_platform_that_is_none_is_refused() -> None:
    """With those that there are."""
    done = CliRunner().invoke(app, ["--platform", "docker", "list"])
    assert isinstance(done.exception, ConfigError), done.output
    assert str(done.exception).startswith("there is no platform 'docker'. Known: ")
    assert "trades" in str(done.exception)


def test_a_platform_and_a_configuration_are_two_stacks(tmp_path: Path) -> None:
    """Which of the two is meant nobody can tell."""
    done = CliRunner().invoke(app, ["--platform", "trades", "--config", str(tmp_path / "mine.toml"), "list"])
    assert isinstance(done.exception, ConfigError), done.output
    assert "Remedy: one of them" in str(done.exception)


def test_a_platform_is_its_configuration_and_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says, and processes that are started inherit both."""
    monkeypatch.setenv("GAMEDAY_CONFIG", "/elsewhere/gameday.toml")
    monkeypatch.setenv("GAMEDAY_STATE", "/elsewhere")
    done = CliRunner().invoke(app, ["--platform", "trades", "hold", "--until", "never"])
    assert "--until 'never'" in str(done.exception)
    assert State.default() == State.of("trades")
    assert reading.platform_of(reading.default_path()) == "trades"


@pytest.mark.parametrize("path", ["/elsewhere/trades/gameday.toml", str(ROOT / "compose" / "docker" / "gameday.toml")])
def test_any_other_configuration_is_of_the_default_platform(path: str) -> None:
    """`gameday up` starts no processes for it but these."""
    assert reading.platform_of(Path(path)) == "trades"
