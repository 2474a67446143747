"""What an installed package offers under gameday's entry points is found by its name."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import definitions
from gameday.errors import ConfigError, GamedayError
from gameday.model import Verdict
from gameday.stack.live import Stack, open_stack
from gameday.stack.registry import fault_from, fault_kind
from tests.fakes import OWN_TEST, write_config
from tests.unit.evidence import feed_handler_crash

SHOP = '''
"""A driver module as gameday's own ones are: a class for each table that may name it."""

from dataclasses import dataclass, field


@dataclass
class Hop:
    name: str
    stream: object
    file: str


@dataclass
class Channel:
    url: str
    takes = frozenset({"verdict"})


@dataclass
class Host:
    names: dict
    region: str = "eu"


@dataclass(frozen=True)
class Freeze:
    component: str
    seconds: int = 5
    needs = ()


@dataclass(frozen=True)
class Hidden:
    component: str
'''

CHECKS = """
from gameday.model import Evidence, Finding, Verdict


def quick(evidence: Evidence) -> Finding:
    return Finding("quick", Verdict.PASS, "it was")
"""

OFFERS = """
[gameday.drivers]
shop = shop.drivers
shop-table = shop.drivers:Hop
broken = shop.nowhere

[gameday.hosts]
nomad = shop.drivers:Host

[gameday.faults]
freeze = shop.drivers
pause = shop.drivers:Freeze
"""


def install(folder: Path, name: str, offers: str) -> None:
    """What pip leaves of a package: its folder is on the path, and beside it what it offers."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(offers)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """site-packages with the package `shop`."""
    site = tmp_path / "site"
    install(site, "shop", OFFERS)
    (site / "shop").mkdir()
    (site / "shop" / "__init__.py").write_text("")
    (site / "shop" / "drivers.py").write_text(SHOP)
    (site / "shop" / "checks.py").write_text(CHECKS)
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    yield site
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[name]


def opened(folder: Path, driver: str = "shop", more: str = "") -> Stack:
    path = write_config(folder)
    text = path.read_text().replace('driver = "clickhouse"', f'driver = "{driver}"\nfile = "/x"')
    path.write_text(text + more)
    return open_stack(path)


@pytest.mark.parametrize("driver", ["shop", "shop.Hop", "shop-table"])
def test_a_driver_of_a_package_has_its_settings(installed: Path, tmp_path: Path, driver: str) -> None:
    """A module offers a class for each table, as gameday's own do; or an entry point is one class."""
    hop: Any = opened(tmp_path, driver).hop("two")
    assert (type(hop).__module__, type(hop).__name__, hop.file, hop.name) == ("shop.drivers", "Hop", "/x", "two")


def test_channels_and_hosts_come_from_packages_too(installed: Path, tmp_path: Path) -> None:
    """By the name of a table's driver, or of the host's table."""
    host = '[hosts.nomad]\nregion = "us"\n'
    stack = opened(tmp_path, more=f'\n[channels.ops]\ndriver = "shop"\nurl = "http://127.0.0.1:1"\n\n{host}')
    assert stack.channel_takes("ops") == {"verdict"}
    made: Any = stack.named_host("nomad")
    assert (type(made).__name__, made.region, made.names) == ("Host", "us", {})


@pytest.mark.parametrize("driver", ["nomad", "shop.drivers:Host"])
def test_a_host_may_say_what_it_is(installed: Path, tmp_path: Path, driver: str) -> None:
    """So there can be two of one kind, and one of a module that offers no entry point."""
    tables = f'[hosts.far]\ndriver = "{driver}"\nregion = "us"\n[hosts.near]\ndriver = "{driver}"\n'
    stack = opened(tmp_path, more=f"\n{tables}")
    far, near = stack.named_host("far"), stack.named_host("near")
    assert [(type(one).__module__, getattr(one, "region", "")) for one in (far, near)] == [
        ("shop.drivers", "us"),
        ("shop.drivers", "eu"),
    ]


def test_a_host_that_is_not_there_is_told(installed: Path, tmp_path: Path) -> None:
    """With where it was said."""
    stack = opened(tmp_path, more='\n[hosts.far]\ndriver = "shop.drivers:Hots"\n[hosts.other]\ndriver = "nomat"\n')
    with pytest.raises(ConfigError, match=r"'shop\.drivers:Hots' can't be imported"):
        stack.named_host("far")
    with pytest.raises(ConfigError, match=r"hosts\.other: there is no 'nomat'.*Did you mean nomad"):
        stack.named_host("other")


def test_a_check_of_a_package_is_asked_like_one_of_gamedays_own(installed: Path, tmp_path: Path) -> None:
    """A failure test of one's own imports it; its word goes into the verdict."""
    (tmp_path / "failures").mkdir()
    (tmp_path / "failures" / "ours.py").write_text(
        OWN_TEST.replace("checks=(", "checks=(quick, ").replace(
            "from gameday.plan", "from shop.checks import quick\nfrom gameday.plan"
        )
    )
    (tmp_path / "gameday.toml").write_text('[tests]\nfolder = "failures"\n')
    quick = importlib.import_module("shop.checks").quick
    test: Any = definitions(tmp_path / "gameday.toml")["ours"]
    assert quick in test().checks
    _, evidence = feed_handler_crash()
    assert quick(evidence).verdict is Verdict.PASS


def test_a_fault_of_a_package_is_found_again_by_the_process_that_mends_it(installed: Path) -> None:
    """The journal has its name alone."""
    drivers = importlib.import_module("shop.drivers")
    fault = drivers.Freeze("web", 7)
    assert fault_kind(fault) == "freeze"
    assert fault_from("freeze", dataclasses.asdict(fault)) == fault


def test_a_fault_that_only_this_process_knows_is_not_done(installed: Path) -> None:
    """Nor is it taken for one of gameday's own of the same name."""
    drivers = importlib.import_module("shop.drivers")
    with pytest.raises(ConfigError, match=r"knows the fault Hidden of shop\.drivers.*Remedy: .*gameday\.faults"):
        fault_kind(drivers.Hidden("web"))
    assert type(fault_from("pause", {"component": "web"})).__module__ == "gameday.faults.pause"


@pytest.mark.parametrize(
    ("driver", "error", "told"),
    [
        (
            "shpo",
            ConfigError,
            r"there is no 'shpo' in gameday/drivers. Did you mean shop.* Installed packages offer broken, shop",
        ),
        ("shop.Cursor", ConfigError, r"hops\.two: shop\.drivers offers no Cursor. It has "),
        ("shop-table.Cursor", ConfigError, r"hops\.two: driver 'shop-table' is Hop, not Cursor"),
        (
            "broken",
            GamedayError,
            r"package shop offers 'broken' under gameday\.drivers, and shop\.nowhere can't be imported",
        ),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    installed: Path, tmp_path: Path, driver: str, error: type[Exception], told: str
) -> None:
    """The names that packages offer are among those that are known."""
    with pytest.raises(error, match=told):
        opened(tmp_path, driver).hop("two")


def test_two_packages_under_one_name_are_a_mistake(installed: Path, tmp_path: Path) -> None:
    """Which of them is meant can't be told; the same thing offered twice is one."""
    install(installed, "twin", "[gameday.drivers]\nshop = shop.drivers\n")
    opened(tmp_path).hop("two")
    install(installed, "other", "[gameday.drivers]\nshop = elsewhere\n")
    with pytest.raises(ConfigError, match=r"package \w+ and package \w+ both offer 'shop' under gameday\.drivers"):
        opened(tmp_path).hop("two")
