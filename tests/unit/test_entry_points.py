"""What an installed package offers under gameday's entry points is found by its name."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flows import definitions
from gameday import drivers
from gameday.errors import ConfigError, GamedayError
from gameday.faults.noop import Noop
from gameday.model import Verdict
from gameday.plan import FailureTest, Inject
from gameday.stack.live import Stack, open_stack
from gameday.stack.registry import driver_class, fault_from, fault_kind
from gameday.verdict import checks
from gameday.verdict.streams import judged
from tests.fakes import OWN_TEST, write_config
from tests.unit.evidence import feed_handler_crash

SHOP = '''
"""A driver module as gameday's own ones are: a class for each table that may name it."""

from dataclasses import dataclass


@dataclass
class Hop:
    name: str
    stream: object
    file: str

    def heads(self):
        return {}

    def digest(self, window):
        return []

    def rows(self, group, lo, hi):
        return {}


@dataclass
class Channel:
    url: str
    takes = frozenset({"verdict"})

    def send(self, message, below, within_s):
        return None


@dataclass
class Host:
    names: dict
    region: str = "eu"

    def identity(self, component):
        return None

    def start(self, component):
        return None

    def stop(self, component, grace_s):
        return None


class Harm:
    needs = ()
    undo = "thaw it"

    def before(self, stack):
        return {}

    def act(self, stack, before, act_id):
        return None

    def proof(self, stack, before):
        return "it froze"

    def heal(self, stack, before):
        return None


@dataclass(frozen=True)
class Freeze(Harm):
    component: str
    seconds: int = 5


@dataclass(frozen=True)
class Chill(Harm):
    component: str


@dataclass
class Half:
    name: str

    def heads(self):
        return {}


def shelf(file):
    return Hop
'''

CHECKS = """
from gameday.model import Evidence, Finding, Verdict


def quick(evidence: Evidence) -> Finding:
    return Finding("quick", Verdict.PASS, "it was")


def tired(evidence: Evidence) -> Finding:
    return 1 / 0


def silent(evidence: Evidence):
    return None


def greedy(evidence: Evidence, more: int) -> Finding:
    return quick(evidence)
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

[gameday.checks]
quick = shop.checks
swift = shop.checks:quick
"""


OFFERED = ("Alerts", "Archive", "Canary", "Channel", "Cursor", "Hop", "Job", "Mirror", "Points", "Probe", "Rights")
"""The Protocols that a table of gameday.toml may ask of a driver."""


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
    with pytest.raises(ConfigError, match=r"hosts\.far: shop\.drivers offers no Hots\. Remedy: .*Host"):
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


def test_a_fault_without_an_entry_point_goes_by_its_module(installed: Path) -> None:
    """Another process finds it there, installed or beside gameday.toml."""
    drivers = importlib.import_module("shop.drivers")
    fault = drivers.Chill("web")
    assert fault_kind(fault) == "shop.drivers:Chill"
    assert fault_from("shop.drivers:Chill", dataclasses.asdict(fault)) == fault


def test_a_fault_that_only_this_process_knows_is_not_done(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a failure test's own file defines, or that is inside of something; nor is an entry point taken for one
    of gameday's own of the same name."""
    harm = importlib.import_module("shop.drivers").Harm

    @dataclasses.dataclass(frozen=True)
    class Hidden(harm):  # type: ignore[misc, valid-type]
        component: str

    with pytest.raises(ConfigError, match=r"knows the fault Hidden of tests\..*Remedy: a module of its own, beside"):
        fault_kind(Hidden("web"))
    loaded = ModuleType("failure_tests_1_ours")
    loaded.Hidden = Hidden  # type: ignore[attr-defined]
    Hidden.__module__, Hidden.__qualname__ = loaded.__name__, "Hidden"
    monkeypatch.setitem(sys.modules, loaded.__name__, loaded)
    with pytest.raises(ConfigError, match=r"nobody but this process knows the fault Hidden of failure_tests_1_ours"):
        fault_kind(Hidden("web"))
    assert type(fault_from("pause", {"component": "web"})).__module__ == "gameday.faults.pause"


def test_a_failure_test_imports_what_lies_beside_its_gameday_toml(tmp_path: Path) -> None:
    """Also for `gameday list`, which opens no stack."""
    own = f"own_{tmp_path.name}"
    (tmp_path / f"{own}.py").write_text(CHECKS)
    (tmp_path / "failures").mkdir()
    (tmp_path / "failures" / "ours.py").write_text(
        OWN_TEST.replace("checks=(", "checks=(quick, ").replace(
            "from gameday.plan", f"from {own} import quick\nfrom gameday.plan"
        )
    )
    (tmp_path / "gameday.toml").write_text('[tests]\nfolder = "failures"\n')
    test: Any = definitions(tmp_path / "gameday.toml")["ours"]
    assert test().checks[0].__module__ == own


# ---- checks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["quick", "swift", "shop.checks:quick"])
def test_the_checks_that_gameday_toml_names_are_asked_after_every_test(
    installed: Path, tmp_path: Path, name: str
) -> None:
    """Once each, behind those of the test."""
    stack = opened(tmp_path, more=f'\n[tests]\nchecks = ["{name}", "no_loss", "resumed"]\n')
    quick: Any = importlib.import_module("shop.checks").quick
    asked = stack.resolved(FailureTest(plan=(Inject(Noop("web")),), mttr_max_s=60, checks=(checks.no_loss,))).checks
    assert asked == (checks.no_loss, quick, checks.resumed)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("tired", r"^the check failed: ZeroDivisionError: division by zero\. Remedy: mend the check$"),
        ("silent", r"^the check returned None, no Finding\. Remedy: mend the check$"),
    ],
)
def test_a_check_that_breaks_is_unknown(installed: Path, name: str, why: str) -> None:
    """It is no pass, and the verdict of the others is not lost."""
    check: Any = getattr(importlib.import_module("shop.checks"), name)
    _, evidence = feed_handler_crash()
    found = judged(check, evidence, lambda stream: {})
    assert (found.check, found.verdict) == (name, Verdict.UNKNOWN)
    assert re.search(why, found.why)


# ---- bad names -------------------------------------------------------------------------------------------------------

NOWHERE = r"'nowhere:Thing' can't be imported: No module named 'nowhere'\. Remedy: 'module:name' of a module beside "
TABLES = {
    "drivers": ('[cursors.c]\ndriver = "{}"\n', "cursors.c", "Cursor"),
    "hosts": ('[hosts.far]\ndriver = "{}"\n', "hosts.far", "Host"),
    "channels": ('[channels.ops]\ndriver = "{}"\n', "channels.ops", "Channel"),
    "checks": ('[tests]\nchecks = ["{}"]\n', "tests.checks", "check"),
}


def mistake_at(where: str, stack: Stack) -> str:
    """What is wrong with this key of gameday.toml."""
    (told,) = [mistake for mistake in stack.mistakes() if mistake.startswith(f"{where}: ")]
    return told.removeprefix(f"{where}: ")


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere:Thing", NOWHERE),
        ("shop.drivers:Thing", r"shop\.drivers offers no Thing\. Remedy: one that it has: Hop, Channel"),
        ("thing", r"there is no 'thing' in gameday/[a-z/]+\. "),
        ("shop.drivers:Half", r"'shop\.drivers:Half' is no {}: it .*Remedy: "),
    ],
)
def test_a_bad_name_is_told_with_its_key_and_what_would_be_right(
    installed: Path, tmp_path: Path, kind: str, name: str, told: str
) -> None:
    """By `gameday check`, before anything is broken: no module, no such name in it, nothing of the kind."""
    table, where, what = TABLES[kind]
    assert re.match(told.format(what), mistake_at(where, opened(tmp_path, more=f"\n{table.format(name)}")))


@pytest.mark.parametrize("name", ["nowhere:Thing", "shop.drivers:Thing", "thing", "shop.drivers:Half"])
def test_a_fault_that_is_none_is_told_with_the_journals_name(installed: Path, name: str) -> None:
    """Whoever mends says what is missing."""
    with pytest.raises(ConfigError, match=rf"^fault {name}: "):
        fault_from(name, {"component": "web"})


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "shop.drivers:Half",
            r"it has no digest, rows\. Remedy: all that gameday\.ports\.Hop has \(docs",
        ),
        ("shop.drivers:shelf", r"it is no class\. Remedy: the name of a class"),
        ("shop.drivers:Harm", r"it is no dataclass, whose fields are what it is told\. Remedy: @dataclass before it"),
    ],
)
def test_a_class_that_is_no_hop_is_told_what_it_lacks(installed: Path, tmp_path: Path, name: str, told: str) -> None:
    """Not by an error in the middle of a run."""
    with pytest.raises(ConfigError, match=rf"^hops\.two: '{name}' is no Hop: {told}"):
        opened(tmp_path, name).hop("two")


def test_a_check_takes_the_evidence_alone(installed: Path, tmp_path: Path) -> None:
    """One that wants more could not be asked."""
    stack = opened(tmp_path, more='\n[tests]\nchecks = ["shop.checks:greedy"]\n')
    told = "'shop.checks:greedy' is no check: it can't be called with the evidence alone. Remedy: "
    assert mistake_at("tests.checks", stack).startswith(told)


def test_a_module_that_breaks_is_told(installed: Path, tmp_path: Path) -> None:
    """Whatever it raises as it is imported."""
    (installed / "shop" / "broken.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=r"hops\.two: 'shop\.broken:Hop' can't be imported: ZeroDivisionError: "):
        opened(tmp_path, "shop.broken:Hop").hop("two")


def test_gamedays_own_are_what_they_must_be() -> None:
    """Each driver that a table may name, by its class's Protocol."""
    found = 0
    for module in pkgutil.iter_modules(drivers.__path__):
        made = importlib.import_module(f"gameday.drivers.{module.name}")
        for offers in set(getattr(made, "__all__", ())) & set(OFFERED):
            driver_class(f"{module.name}.{offers}", offers, "x")
            found += 1
    assert found > 20


@pytest.mark.parametrize(
    ("driver", "error", "told"),
    [
        (
            "shpo",
            ConfigError,
            r"there is no 'shpo' in gameday/drivers. Did you mean shop.* Installed packages offer broken, shop",
        ),
        ("shop.Cursor", ConfigError, r"hops\.two: shop\.drivers offers no Cursor. Remedy: one that it has: Hop"),
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
