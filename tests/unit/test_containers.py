"""What docker-compose.yml and its override promise, read from the files: no engine is needed."""

from __future__ import annotations

import json
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from compose.docker import env
from gameday.errors import GamedayError
from gameday.stack.config import StackConfig
from gameday.stack.reading import parse, read_env
from gameday.state import ROOT

COMPOSE = ROOT / "compose" / "docker-compose.yml"
LOCAL = ROOT / "compose" / "docker-compose.local.yml"
CONFIG = ROOT / "compose" / "docker" / "gameday.toml"
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_0-9]+)(:-[^}]*)?\}")
OPT_IN = "gameday.opt-in"
LOCK = ROOT / "requirements.lock"


class Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Compose's own tags: what they say of merging is not judged here."""


Loader.add_multi_constructor("!", lambda loader, _, node: _plain(loader, node))


def _plain(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True) if isinstance(node, yaml.MappingNode) else None


def services(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.load(path.read_text(), Loader)["services"]
    return found


SERVICES = services(COMPOSE)
LASTING = {name: one for name, one in SERVICES.items() if one.get("restart") == "unless-stopped"}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    monkeypatch.setattr(env, "free_ports", lambda count, besides=(): list(range(20000, 20000 + count)))
    return env.draw({})


@pytest.fixture
def config(drawn: Mapping[str, str]) -> StackConfig:
    return parse(tomllib.loads(CONFIG.read_text()), drawn, CONFIG)


def published() -> Iterator[tuple[str, str]]:
    for name, one in SERVICES.items():
        for port in one.get("ports", []):
            yield name, port


def test_what_is_published_is_published_on_loopback_alone() -> None:
    """Whoever can reach the machine must not reach the platform."""
    assert list(published())
    assert not [(name, port) for name, port in published() if not port.startswith("127.0.0.1:${")]


def test_images_are_pinned() -> None:
    """A tag that moves would change the platform under the tests; our own carry gameday's version."""
    for name, one in SERVICES.items():
        assert re.search(r":(v?\d+\.\d+|RELEASE\.\d{4}|\$\{GAMEDAY_VERSION:-\d)", one["image"]), name


def test_whatever_lasts_shows_its_health() -> None:
    """`up --wait` returns when the platform serves; two serve nobody."""
    assert {name for name, one in LASTING.items() if "healthcheck" not in one} == {"consumer-watch", "reconciler"}


def test_a_partition_of_the_platform_does_not_cut_gameday_off() -> None:
    """The platform's and gameday's networks have no way out and no way into each other; what is published is so on a
    third one, over which containers don't reach each other."""
    networks = yaml.load(COMPOSE.read_text(), Loader)["networks"]
    assert {name for name, one in networks.items() if one.get("internal")} == {"data", "control"}
    assert networks["watch"]["driver_opts"] == {"com.docker.network.bridge.enable_icc": "false"}
    assert all("watch" in SERVICES[name]["networks"] for name, _ in published())
    for name in ("gameday-postgres", "prefect-server", "pager"):
        assert "data" not in SERVICES[name]["networks"], name


def test_names_are_of_one_network() -> None:
    """A service's bare name is known on every network that it is on, and would lead around a partition."""
    text = "\n".join(line for line in COMPOSE.read_text().splitlines() if not line.lstrip().startswith("#"))
    for name in ("links.json", "prometheus.yml", "alertmanager.yml", "grafana/datasource.yml", "gameday.toml"):
        text += (COMPOSE.parent / "docker" / name).read_text()
    aliases = {a for one in SERVICES.values() for n in one.get("networks", {}).values() for a in n.get("aliases", [])}
    used = set(re.findall(r"(?:@|//|=|\s|,|\")([a-z][a-z0-9.-]+):\d{4,5}\b", text))
    assert used == aliases
    for one in SERVICES.values():
        for network, settings in one.get("networks", {}).items():
            assert all(alias.endswith(f".{network}") for alias in settings.get("aliases", []))


def test_components_that_opt_in_carry_the_label(config: StackConfig) -> None:
    """The toml and the containers agree on what may be broken, under the services' names."""
    named = {component.name or role: component.opt_in for role, component in config.components.items()}
    labelled = {name for name, one in SERVICES.items() if one.get("labels", {}).get(OPT_IN) == "true"}
    assert set(named) <= set(SERVICES)
    assert {name for name, opted in named.items() if opted} == labelled
    assert not labelled & {"gameday-postgres", "prefect-server"}


def test_every_link_has_its_proxy(config: StackConfig) -> None:
    """links.json is where Toxiproxy has them from, also after a restart; the broker sends each link's clients back."""
    proxies = {p["name"]: p for p in json.loads((COMPOSE.parent / "docker" / "links.json").read_text())}
    assert set(config.links) <= set(proxies)
    assert len({p["listen"] for p in proxies.values()}) == len(proxies)
    told = next(a for a in SERVICES["redpanda"]["command"] if a.startswith("--advertise-kafka-addr"))
    for name, proxy in proxies.items():
        if proxy["upstream"].startswith("broker.data"):
            assert f"//{proxy['listen']}" in told, name


def test_every_name_is_in_the_example() -> None:
    """And the example has none that nobody uses."""
    known = set(read_env(env.EXAMPLE))
    used = {name for path in (COMPOSE, CONFIG) for name, default in VARIABLE.findall(path.read_text())}
    assert used - {"GAMEDAY_VERSION", "NAME"} <= known
    assert known - used == {"GAMEDAY_CONFIG"}  # gameday reads it


@pytest.mark.parametrize("path", [COMPOSE, LOCAL], ids=["images", "local"])
def test_no_argument_tells_a_secret(path: Path) -> None:
    """Every user of the machine can read them: neither what Compose fills in nor what a shell does."""
    for name, service in services(path).items():
        passed = {k for k, v in (service.get("environment") or {}).items() if "PASSWORD}" in str(v)}
        told = [str(service.get(key) or "") for key in ("command", "entrypoint")]
        told.append(str((service.get("healthcheck") or {}).get("test") or ""))
        assert [text for text in told if "_PASSWORD}" in text] == [], name
        lines = [line for part in service.get("command") or () for line in part.splitlines()]
        script = "".join(line for line in lines if not line.startswith("echo "))  # the shell's own: no process
        assert [v for v in passed if f"${v}" in script] == [], name


@pytest.mark.parametrize("password", ["pa#ss", "pa/ss", "pa ss", "pa$ss", "pa'ss", "pa%41"])
def test_a_password_that_compose_would_take_for_something_else_is_refused(password: str) -> None:
    """It fills in an address as it stands, and so does the shell that reads compose/.env."""
    with pytest.raises(GamedayError, match=r"PLATFORM_PG_PASSWORD.*Remedy") as raised:
        env.draw({"PLATFORM_PG_PASSWORD": password})
    assert password not in str(raised.value)


def test_the_example_has_no_secret() -> None:
    """They are drawn."""
    assert not [name for name, value in read_env(env.EXAMPLE).items() if name.endswith("_PASSWORD") and value]


def test_what_is_drawn_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second draw changes nothing, what is asked for goes first; the file is private, and what containers write into
    exists before an engine would make it root's."""
    monkeypatch.setattr(env, "free_ports", lambda count, besides=(): list(range(20000, 20000 + count)))
    target = tmp_path / ".env"
    first = env.write(target, {"GAMEDAY_STATE": str(tmp_path / "state")})
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert env.write(target) == first == read_env(target)
    assert env.write(target, {"S3_PORT": "1234"})["S3_PORT"] == "1234"
    assert {p.name for p in (tmp_path / "state" / "stack").iterdir()} >= {"exchange", "handler-kraken"}
    assert (tmp_path / "state" / "points").is_dir()


def test_a_name_that_nobody_can_draw_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that starts with an empty setting would fail far from its cause."""
    example = tmp_path / "env.example"
    example.write_text(env.EXAMPLE.read_text() + "SOMETHING_NEW=\n")
    monkeypatch.setattr(env, "EXAMPLE", example)
    with pytest.raises(GamedayError, match="SOMETHING_NEW can't be drawn"):
        env.draw({})


def test_the_image_has_all_that_gameday_needs() -> None:
    """Of the locked packages the Dockerfile leaves some out: none that the core, the offload, or the pipeline needs."""
    text = (COMPOSE.parent / "docker" / "Dockerfile").read_text()
    left_out = set(re.findall(r"!~ /\^\(([^)]+)\)==/", text)[0].split("|"))
    locked = {canonicalize_name(n) for n in re.findall(r"^([A-Za-z0-9._-]+)==", LOCK.read_text(), flags=re.MULTILINE)}
    assert left_out <= locked
    needed, seen = {"aiohttp", "boto3", "setuptools"}, set[str]()
    needed |= {canonicalize_name(r.name) for r in required("gameday", {"", "iceberg", "formats"})}
    while fresh := needed - seen:
        seen |= fresh
        needed |= {canonicalize_name(r.name) for one in fresh for r in required(one, {""})}
    assert not needed & left_out
    assert "prefect" in needed


def required(package: str, extras: set[str]) -> list[Requirement]:
    found = map(Requirement, requires(package) or ())
    return [r for r in found if r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in extras)]


def test_the_override_replaces_every_image() -> None:
    """Nothing is left that would have to be pulled or built."""
    local = services(LOCAL)
    assert set(local) == set(SERVICES)
    assert {one["image"] for one in local.values() if "profiles" not in one} == {"gameday-local"}
    assert [name for name, one in local.items() if "profiles" in one] == ["grafana"]
    as_they_are = (SERVICES["exchange"]["image"], SERVICES["engine-socket"]["image"])
    for name, one in SERVICES.items():
        if "healthcheck" in one and one["image"] not in as_they_are and name != "grafana":
            assert "healthcheck" in local[name], name
