"""Addresses in gameday.toml: any password works in one, what is none is told without it, and nothing shows it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg.conninfo
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose import own
from compose.trades import processes
from gameday.errors import ConfigError, DriverError, GamedayError
from gameday.stack import config, reading, variables
from gameday.stack.live import Stack
from gameday.state import ROOT, State

EMBEDDED = ROOT / "compose" / "trades" / "gameday.toml"
DOCKER = ROOT / "compose" / "docker" / "gameday.toml"
THEIRS = ROOT / "tests" / "docker" / "theirs" / "gameday.toml"

SPECIAL = ["pa#ss", "pa/ss", "pa?ss", "pa[ss", "pa]ss", "pa@ss", "pa%ss", "pa%41ss", "pa:ss", "pa ss", "12/34", "é'\\"]
SECRETS = ("CLICKHOUSE_PASSWORD", "GAMEDAY_PG_PASSWORD", "PLATFORM_PG_PASSWORD")


def state(folder: Path, path: Path, **values: str) -> State:
    """A state folder whose stack.env has a value for every name in that configuration."""
    names = sorted(set(variables.VARIABLE.findall(path.read_text())))
    drawn = {n: "http://127.0.0.1:1" if n.endswith("_URL") else f"4{k:03}" for k, n in enumerate(names)}
    folder.joinpath("stack.env").write_text("".join(f"{n}={v}\n" for n, v in {**drawn, **values}.items()))
    return State(folder)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from strings(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from strings(one)
    elif isinstance(value, str):
        yield value
    elif hasattr(value, "get_secret_value"):
        yield value.get_secret_value()


def with_passwords(loaded: config.StackConfig) -> list[str]:
    return [text for text in strings(loaded.model_dump()) if "://" in text and "@" in text.partition("://")[2]]


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Stack]:
    """The embedded stack with one text of its gameday.toml replaced by another."""

    def load(old: str, new: str, **values: str) -> Stack:
        text = EMBEDDED.read_text()
        assert old in text
        path = tmp_path / "gameday.toml"
        path.write_text(text.replace(old, new, 1))
        here = state(tmp_path, EMBEDDED, **values)
        return Stack(reading.load(path, here), here, path)

    return load


# ---- any password works ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", SPECIAL)
@pytest.mark.parametrize("path", [EMBEDDED, DOCKER], ids=["embedded", "docker"])
def test_a_password_may_hold_anything(tmp_path: Path, path: Path, password: str) -> None:
    """Every address that it is filled into has it, and its own host; it stays as it is where it is no part of one."""
    loaded = reading.load(path, state(tmp_path, path, **dict.fromkeys(SECRETS, password)))
    addresses = with_passwords(loaded)
    assert len(addresses) >= 5
    for address in addresses:
        parts = urlsplit(address)
        assert (unquote(parts.password or ""), parts.hostname) == (password, "127.0.0.1"), address
        if parts.scheme == "postgresql":
            assert psycopg.conninfo.conninfo_to_dict(address)["password"] == password


def test_the_parts_of_the_stack_are_made_with_any_password(edited: Callable[..., Stack]) -> None:
    """Hops, probes, the archive and its mirror: each driver takes its address."""
    stack = edited("[streams.trades]", "[streams.trades]", **dict.fromkeys(SECRETS, "p@ss/w?rd#[%41]: '"))
    assert stack.hops
    assert stack.archive is not None
    assert stack.mirror is not None


@pytest.mark.parametrize("name", ["GAMEDAY_HISTORY", "K2_POSTGRES", "K2_CLICKHOUSE_URL", "K2_CATALOG"])
def test_a_whole_address_in_one_name_is_checked_as_well(tmp_path: Path, name: str) -> None:
    """It is filled in as it is: who writes it encodes its password."""
    good = {"GAMEDAY_HISTORY": "postgresql://127.0.0.1:1/g", "GAMEDAY_PREFECT": "http://127.0.0.1:1/api"}
    good["GAMEDAY_PREFECT_PASSWORD"] = "p"
    good = {**good, "K2_PREFECT": "127.0.0.1:1", "DOCKER_HOST": "unix:///var/run/docker.sock"}
    assert reading.load(THEIRS, state(tmp_path, THEIRS, **{**good, name: "postgresql://u:pa%23ss@h:1/d"}))
    with pytest.raises(ConfigError, match=r"is 'postgresql://\*\*\*@h:1/d', which is no address") as raised:
        reading.load(THEIRS, state(tmp_path, THEIRS, **{**good, name: "postgresql://u:pa#ss@h:1/d"}))
    assert "pa#" not in str(raised.value)


def test_a_secret_outside_of_an_address_is_not_encoded(tmp_path: Path) -> None:
    """A store's key, a token in a header."""
    loaded = reading.load(EMBEDDED, state(tmp_path, EMBEDDED, S3_ADMIN_PASSWORD="pa#s%s", PAGER_TOKEN="to@k/en"))
    assert loaded.runbook is not None
    assert loaded.runbook.env["BUCKET_ADMIN_KEY"].get_secret_value() == "admin:pa#s%s"
    opened = variables.revealed(loaded.channels["desk"].settings, str, "channels.desk")
    assert opened["headers"]["Authorization"] == "Bearer to@k/en"


# ---- what is no address ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["pa#ss", "pa/ss", "pa?ss", "pa[ss", "pa@ss", "pa%ss", "pa ss", "12/34"])
@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("hops.bronze.url", "gameday:${CLICKHOUSE_PASSWORD}", "gameday:{}"),
        ("history", "gameday:${GAMEDAY_PG_PASSWORD}", "gameday:{}"),
        ("components.postgres.probes.query.dsn", "platform:${PLATFORM_PG_PASSWORD}", "platform:{}"),
        ("alerts.url", '"${PROMETHEUS_URL}"', '"http://monitor:{}@127.0.0.1:9090"'),
        ("alerts.alertmanager", '"${ALERTMANAGER_URL}"', '"http://monitor:{}@127.0.0.1:9090"'),
        ("hosts.toxiproxy.url", "http://127.0.0.1:${TOXIPROXY_PORT}", "http://cutter:{}@127.0.0.1:8474"),
        ("prefect.api_url", "http://127.0.0.1:${PREFECT_PORT}/api", "http://flows:{}@127.0.0.1:4200/api"),
        ("channels.desk.url", "http://127.0.0.1:${PAGER_PORT}/gameday", "http://desk:{}@127.0.0.1:1/gameday"),
        (
            "runbook.env.CLICKHOUSE_URL",
            'CLICKHOUSE_URL = "http://gameday:${CLICKHOUSE_PASSWORD}',
            'CLICKHOUSE_URL = "http://gameday:{}',
        ),
    ],
)
def test_what_is_no_address_is_told_with_its_key_and_without_its_password(
    edited: Callable[..., Stack], key: str, old: str, new: str, password: str
) -> None:
    """Exit code 2, whichever setting it is: file, key, value, remedy."""
    with pytest.raises(ConfigError) as raised:
        edited(old, new.format(password))
    told = str(raised.value)
    assert f"gameday.toml: {key} is '" in told
    assert "which is no address" in told
    assert "Remedy: percent-encode" in told
    assert password not in told
    assert all(piece not in told for piece in ("pa#", "pa/", "pa?", ":pa", ":12"))


PLATFORM = "postgresql://platform:${PLATFORM_PG_PASSWORD}@127.0.0.1:${PLATFORM_PG_PORT}/platform"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"http://127.0.0.1:${S3_PORT}/healthz"', '"127.0.0.1:1"', r"s3\.probes\.health\.url: .*http://host:port"),
        ('"${ALERTMANAGER_URL}"', '"here"', r"alerts\.driver\.alertmanager: .*http://host:port"),
        (
            'brokers = "127.0.0.1:${KAFKA_DIRECT_PORT}"\ntopics',
            'brokers = "here"\ntopics',
            r"hops\.broker\.brokers: .*host:port",
        ),
        (
            f'dsn = "{PLATFORM}"\ntable',
            'dsn = "host=x password=pa#ss"\ntable',
            r"archive\.mirror\.dsn: .*postgresql://host",
        ),
        ('"http://127.0.0.1:${EXCHANGE_PORT}"', '"ftp://127.0.0.1:1"', r"hops\.exchange\.url: .*http://host:port"),
    ],
)
def test_an_address_of_another_kind_is_refused(edited: Callable[..., Stack], old: str, new: str, said: str) -> None:
    """A probe of the web is not asked for a database."""
    stack = edited(old, new)
    with pytest.raises(ConfigError, match=said) as raised:
        all_of(stack)
    assert "pa#ss" not in str(raised.value)


def all_of(stack: Stack) -> list[object]:
    """Every part that is described."""
    return [*stack.hops, *stack.cursors, stack.archive, stack.mirror, stack.alerts, *stack.probes(archive=True)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('history = "', 'history = "host=127.0.0.1 password=pa#ss" #'),
        ('api_url = "http://127.0.0.1:${PREFECT_PORT}/api"\nui', 'api_url = "127.0.0.1:4200/api"\nui'),
        ('ui_url = "http://127.0.0.1', 'ui_url = "http://me:pass@127.0.0.1'),
    ],
)
def test_gamedays_own_addresses_are_checked_as_well(edited: Callable[..., Stack], old: str, new: str) -> None:
    """Postgres' other form has no place for a check, and a public address none for a password."""
    with pytest.raises(ConfigError) as raised:
        edited(old, new)
    assert "pa#ss" not in str(raised.value)


@pytest.mark.parametrize("form", ["${X:-default}", "${lower}", "${X-y}", "${}", "${CLICKHOUSE_PASSWORD", "${A B}"])
@pytest.mark.parametrize("where", ["hops.bronze.table", "prefect.api_url", "history"])
def test_a_form_that_is_not_filled_in_is_no_text(edited: Callable[..., Stack], form: str, where: str) -> None:
    """Taken as it stands it would be part of an address or a name: key, text and remedy are told."""
    old = {
        "hops.bronze.table": '"trades.bronze"\nfields',
        "prefect.api_url": '"http://127.0.0.1:${PREFECT_PORT}/api"\nui_url',
        "history": '"postgresql://gameday:${GAMEDAY_PG_PASSWORD}@127.0.0.1:${GAMEDAY_PG_PORT}/gameday"',
    }[where]
    first, _, rest = old[1:].partition('"')
    with pytest.raises(ConfigError) as raised:
        edited(old, f'"{first}{form}"{rest}')
    assert f"{where} has '{form}'" in str(raised.value).replace(f"has {form}", f"has '{form}'")
    assert "Remedy: ${NAME}" in str(raised.value)


def test_a_value_may_hold_what_looks_like_one(tmp_path: Path) -> None:
    """Only what gameday.toml itself says is filled in."""
    loaded = reading.load(EMBEDDED, state(tmp_path, EMBEDDED, S3_ADMIN_PASSWORD="a${X:-b}c"))
    assert loaded.runbook is not None
    assert loaded.runbook.env["BUCKET_ADMIN_KEY"].get_secret_value() == "admin:a${X:-b}c"


# ---- nothing shows a password ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [GamedayError, ConfigError, lambda text: DriverError(text, definite=True)])
@pytest.mark.parametrize(
    "text",
    [
        "GET http://user:hunter2@127.0.0.1:1/x answered 500",
        "GET http://:hunter2@h/x: refused",
        "GET http://hunter2@h/x: refused",
        "postgresql+psycopg://a:hunter2@h,h2/x and http://b:hunter2@h",
        "at http://a:hun@ter2@h/x",
        "host=x password=hunter2 dbname=y",
        "host=x password='hun ter2' dbname=y",
        "postgresql://h/db?password=hunter2&sslmode=disable",
    ],
)
def test_an_error_shows_no_password(kind: Callable[[str], GamedayError], text: str) -> None:
    """Whoever words it: errors end in results, reports, logs, messages and on terminals."""
    told = str(kind(text))
    assert "hunter2" not in told
    assert "ter2" not in told
    assert "***" in told


@pytest.mark.parametrize("text", ["mail me@example.com", "http://h:1/x", "http://h/x and me@example.com", "a @ b"])
def test_what_is_no_login_stays(text: str) -> None:
    """Nothing is hidden that is none."""
    assert str(GamedayError(text)) == text


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("check", "monitor:***@127.0.0.1"),
        ("status --json", "monitor:***@127.0.0.1"),
        ("status", "stack trades is down: none of its 11 components runs or answers"),
    ],
)
def test_no_command_prints_a_password(tmp_path: Path, command: str, told: str) -> None:
    """No part of the platform answers: each error names an address; `status` alone is one line."""
    text = EMBEDDED.read_text().replace("http://127.0.0.1:", "http://monitor:hunter2@127.0.0.1:")
    text = text.replace("ui_url = ", "# ").replace("auth_string = ", "# ")  # who asks stands in the address
    text = text.replace("hunter2@127.0.0.1:${PREFECT", "hunter2@127.0.0.1:1${PREFECT")
    path = tmp_path / "gameday.toml"
    path.write_text(text)
    alerts = dict.fromkeys(("PROMETHEUS_URL", "ALERTMANAGER_URL"), "http://monitor:hunter2@127.0.0.1:1")
    here = state(tmp_path, EMBEDDED, **dict.fromkeys(SECRETS, "hunter2"), **alerts)
    env = {**os.environ, "GAMEDAY_STATE": str(here.root), "GAMEDAY_CONFIG": str(path)}
    program = f"import sys; sys.argv = ['gameday', *{command.split()!r}]; from gameday.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert told in done.stdout + done.stderr
    assert command != "status" or done.stdout.count("\n") == 1
    assert "hunter2" not in done.stdout + done.stderr


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_user_and_password_come_back_from_an_address(user: str, password: str) -> None:
    """Written into an address and read from it again; and hidden in any text, up to its last sign."""
    from gameday.errors import masked
    from gameday.system.address import encoded, of

    address = of(f"http://{encoded(user)}:{encoded(password)}@127.0.0.1:1/x")
    assert (address.user, address.password, address.host, address.port) == (user, password, "127.0.0.1", 1)
    shown = masked(f"GET http://{encoded(user)}:{encoded(password)}@127.0.0.1:1/x: refused")
    assert shown.endswith(":***@127.0.0.1:1/x: refused") or (not user and "//***@" in shown)


@given(st.text(alphabet="http:/@#?[]%4 a:.,5", max_size=40))
def test_any_text_is_an_address_or_none(text: str) -> None:
    """Never another exception, and what is one can be taken apart by whoever asks its server; several hosts are only
    for who takes them as they stand."""
    from gameday.system.address import of

    try:
        found = of(f"http://{text}")
    except ValueError:
        return
    if "," not in found.host:
        port = urlsplit(f"http://{text}").port
        assert port is None or port <= 65_535


def test_what_the_stack_starts_has_no_password_among_its_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The consumer watch, the exporter, and all that is run once to prepare a server."""
    started: list[tuple[str, ...]] = []
    for module in (own, processes):
        monkeypatch.setattr(module, "run", lambda *arguments, env: started.append(arguments))
    drawn = dict.fromkeys((*own.PORTS, *processes.PORTS), "1")
    drawn |= dict.fromkeys((*own.SECRETS, *processes.SECRETS), "hunter2")
    for name in ("clickhouse", "seaweedfs", "prefect-worker", "offload-worker"):
        own.preparations(own.platform("trades"), State(tmp_path), drawn)[name]()
    started.append(processes._consumer_watch(tmp_path, drawn).argv)
    started.append(processes._exporter(tmp_path, State(tmp_path), drawn).argv)
    assert len(started) == 6
    assert [line for line in started if "hunter2" in " ".join(line)] == []
