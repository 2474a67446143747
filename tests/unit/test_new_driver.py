"""`gameday new driver NAME` writes what docs/drivers.md explains, and it works as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments import scaffold
from gameday.errors import ConfigError
from gameday.stack.live import open_stack
from gameday.state import ROOT, State
from tests.fakes import write_config


def test_its_tests_pass_and_the_stack_takes_it(tmp_path: Path) -> None:
    """Beside a gameday.toml, under the names that were asked for, with the lines that it says."""
    config = write_config(tmp_path)
    (path, test), lines = scaffold.driver("shop-db", tmp_path)
    assert (path, test) == (tmp_path / "shop_db.py", tmp_path / "test_shop_db.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", str(test)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    config.write_text(
        config.read_text().replace('[hops.two]\ndriver = "clickhouse"\n', lines.replace("orders]", "two]"))
    )
    assert type(open_stack(config, State(tmp_path)).hop("two")).__name__ == "ShopDb"


def test_a_change_of_the_driver_is_seen_by_its_tests(tmp_path: Path) -> None:
    """One that leaves out the lower end of a window."""
    (path, test), _ = scaffold.driver("orders_db", tmp_path)
    text = path.read_text()
    assert "lo.get(g, 0)" in text
    path.write_text(text.replace("lo.get(g, 0)", "0"))
    argv = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", str(test)]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "1 failed" in done.stdout


def test_in_a_package_it_is_named_with_it(tmp_path: Path) -> None:
    """As the drivers of the reference platform are, whose gameday.toml lies in one."""
    folder = tmp_path / "shop" / "ops"
    folder.mkdir(parents=True)
    for one in (folder, folder.parent):
        (one / "__init__.py").touch()
    (_, test), lines = scaffold.driver("orders", folder)
    assert 'driver = "shop.ops.orders:Orders"' in lines
    assert "from shop.ops.orders import Orders\n" in test.read_text()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Orders", r"'Orders' is no name for a driver\. Remedy: lower case words"),
        ("../orders", "is no name"),
        ("class", "is no name"),
        ("", "is no name"),
        ("json", r"'json' is the name of a module that is installed.*Remedy: another"),
        ("gameday", "is installed"),
    ],
)
def test_a_name_that_is_none_writes_nothing(tmp_path: Path, name: str, told: str) -> None:
    """With what is wrong, and what would be right."""
    with pytest.raises(ConfigError, match=told):
        scaffold.driver(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["orders_db.py", "test_orders_db.py"])
def test_nothing_is_written_over(tmp_path: Path, there: str) -> None:
    """Neither of both is written then."""
    (tmp_path / there).write_text("mine")
    with pytest.raises(ConfigError, match=rf"{there} exists already\. Remedy: "):
        scaffold.driver("orders_db", tmp_path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(there, "mine")]


def test_the_command_says_what_it_wrote_and_what_to_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other forms of `gameday new` are told apart."""
    monkeypatch.setenv("GAMEDAY_CONFIG", str(write_config(tmp_path)))
    argv = [sys.executable, "-c", "from gameday.cli import main; main()"]

    def new(*words: str) -> tuple[int, str]:
        code = f"import sys; sys.argv = ['gameday', 'new', *{list(words)!r}]; {argv[2]}"
        env = {**os.environ, "COLUMNS": "200"}
        done = subprocess.run([*argv[:2], code], env=env, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    code, words = new("driver", "orders_db")
    assert code == 0, words
    for told in (str(tmp_path / "orders_db.py"), str(tmp_path / "test_orders_db.py"), "[hops.orders]\ndriver = "):
        assert told in words
    for wrong in (("driver",), ("check", "orders")):
        code, words = new(*wrong)
        assert code == 2, words
        assert "gameday new driver NAME for a driver" in words
