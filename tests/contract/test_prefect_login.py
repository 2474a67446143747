"""A Prefect server that asks who somebody is: gameday's own one, and one of a user's. Nobody else may have it run a
command, whether a process of this machine or a web page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from pydantic import SecretStr

import tasks.init
from compose.ports import free_ports
from compose.servers import prefect
from gameday.drivers.prefect_api import Api, Job, Refused
from gameday.errors import GamedayError
from gameday.stack.config import PrefectConfig
from gameday.stack.init.seen import Seen
from gameday.stack.init.written import written
from gameday.state import ROOT
from gameday.system.address import encoded
from gameday.system.polling import until
from gameday.system.tls import PLAIN, Tls
from tests.contract.certificates import Authority, secured
from tests.contract.conftest import PASSWORD, prefect_environment, serving
from tests.fakes import write_config

LOOK = ("POST", "/flows/filter", {"limit": 1})
GAMEDAY = str(Path(sys.executable).with_name("gameday"))
ENDS_WITHIN_S = 90.0


@pytest.fixture
def bare(prefect_api_url: str) -> str:
    """The server's address without user and password."""
    parts = urlsplit(prefect_api_url)
    return f"http://{parts.hostname}:{parts.port}{parts.path}"


LOGINS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "none": ({}, r"it wants to know who asks\. Remedy: .*auth_string.*PREFECT_SERVER_API_AUTH_STRING.*api_key"),
    "a wrong string": ({"auth_string": "gameday:hunter2"}, r"does not take this auth_string\. Remedy: auth_string, "),
    "a key": ({"api_key": "pnu_hunter2"}, r"does not take this api_key.*Remedy: api_key, "),
}


@pytest.mark.parametrize("login", LOGINS)
def test_who_does_not_know_the_string_is_turned_away(bare: str, login: str) -> None:
    """With the key to set and where its value is from, and without what was tried."""
    given, words = LOGINS[login]
    with pytest.raises(Refused, match=rf"answered 401: .*{words}") as raised:
        Api(bare, **given).ask(*LOOK)
    assert raised.value.definite
    assert "hunter2" not in f"{raised.value}{Api(bare, **given)!r}"


def test_a_wrong_user_in_an_address_is_turned_away(bare: str) -> None:
    """The address is named, its password isn't."""
    with pytest.raises(Refused, match=r"does not take the user and password in this address") as raised:
        Api(bare.replace("//", "//gameday:hunter2@")).ask(*LOOK)
    assert "hunter2" not in str(raised.value)


def test_who_knows_it_is_let_in(bare: str, prefect_api_url: str) -> None:
    """Told as a key of its own, or in the address; a job asks the same way."""
    known = prefect.auth_string(PASSWORD)
    assert isinstance(Api(bare, auth_string=known).ask(*LOOK), list)
    assert isinstance(Api(prefect_api_url).ask(*LOOK), list)
    assert Job(bare, "no such/flow", auth_string=known).find("nobody asked") is None
    with pytest.raises(Refused):
        Job(bare, "no such/flow").find("nobody asked")


def command(bare: str, tmp_path: Path, login: str, **env: str) -> tuple[int, str]:
    """The exit code and the words of `gameday run` with this in [prefect]."""
    path = write_config(tmp_path)
    path.write_text(path.read_text().replace('api_url = "http://127.0.0.1:1/api"', f'api_url = "{bare}"\n{login}', 1))
    done = subprocess.run(
        [GAMEDAY, "--config", str(path), "--state", str(tmp_path / "state"), "run", "--all"],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=ENDS_WITHIN_S,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize("login", ["", 'auth_string = "gameday:hunter2"'])
def test_a_run_that_may_not_report_there_does_not_begin(bare: str, tmp_path: Path, login: str) -> None:
    """Bad configuration, whatever the environment has for another server."""
    code, words = command(bare, tmp_path, login, PREFECT_API_AUTH_STRING=prefect.auth_string(PASSWORD))
    assert code == 2, words
    assert "[prefect]: POST http://127.0.0.1" in words
    assert "Remedy: " in words
    assert "auth_string" in words
    assert "hunter2" not in words


def test_init_sees_that_it_asks(bare: str, prefect_api_url: str) -> None:
    """And then asks the user for it; not where user and password are known."""
    assert tasks.init._asks(bare)
    assert not tasks.init._asks(prefect_api_url)
    seen = Seen("shop", prefect_url=bare, prefect_given=True, prefect_answers=True, prefect_asks=True)
    text = written(seen, (), ()).text
    assert re.search(r"# QUESTION: who asks\? [^\n]*PREFECT_SERVER_API_AUTH_STRING(.|\n)*\nauth_string = \"\"", text)
    assert "auth_string" not in written(replace(seen, prefect_asks=False), (), ()).text


# ---- Prefect's own clients -------------------------------------------------------------------------------------------

HELLO = """
from prefect import flow

@flow(log_prints=True)
def hello(): print("let in")

hello()
"""
LOOK_BY_CLIENT = """
from prefect.client.orchestration import get_client

print(get_client(sync_client=True).read_flow_runs(limit=1))
"""


def by_prefect(program: str, environment: Mapping[str, str], home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment, "PREFECT_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=ENDS_WITHIN_S,
    )


def test_a_flow_reports_to_it_with_nothing_but_its_environment(prefect_api_url: str, tmp_path: Path) -> None:
    """And its address in Prefect's logs has no password."""
    done = by_prefect(HELLO, prefect_environment(prefect_api_url), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "let in" in done.stderr
    assert not [word for word in (PASSWORD, encoded(PASSWORD)) if word in done.stdout + done.stderr]
    known = {"flows": {"name": {"any_": ["hello"]}}, "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    assert Api(prefect_api_url).ask("POST", "/flow_runs/count", known) == 1


def test_a_flow_that_does_not_know_the_string_does_not_run(bare: str, tmp_path: Path) -> None:
    """Prefect's own client is told 401."""
    done = by_prefect(HELLO, {"PREFECT_API_URL": bare}, tmp_path)
    assert done.returncode != 0
    assert "401" in done.stderr
    assert "let in" not in done.stdout + done.stderr


# ---- a work pool of the user's own -----------------------------------------------------------------------------------


def test_a_work_pool_of_the_users_own_stays_as_it_is_and_runs_the_tests(bare: str, tmp_path: Path) -> None:
    """Registering changes nothing of it; a worker that has the string by its environment takes its runs."""
    api = Api(bare, auth_string=prefect.auth_string(PASSWORD))
    api.ask("POST", "/work_pools/", {"name": "theirs", "type": "process", "concurrency_limit": 3, "description": "d"})
    before = api.ask("GET", "/work_pools/theirs")
    (tmp_path / "stack").mkdir()
    path = write_config(tmp_path / "stack")
    told = f'api_url = "{bare}"\nwork_pool = "theirs"\nauth_string = "gameday:${{PREFECT_PASSWORD}}"'
    text = path.read_text().replace('api_url = "http://127.0.0.1:1/api"', told, 1).replace('"toy"', '"theirs"', 1)
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "deployments.register"],
        env={**os.environ, "GAMEDAY_CONFIG": str(path), "PREFECT_PASSWORD": PASSWORD, "PREFECT_HOME": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=ENDS_WITHIN_S,
    )
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    after = api.ask("GET", "/work_pools/theirs")
    assert {k: v for k, v in after.items() if k != "updated"} == {k: v for k, v in before.items() if k != "updated"}
    (health,) = free_ports(1)
    argv = ("-m", "prefect", "worker", "start", "--pool", "theirs", "--type", "process", "--with-healthcheck")
    port = urlsplit(bare).port or 0
    worker = prefect.worker("theirs", tmp_path / "worker", tmp_path / "home", port, PASSWORD, health, {}, argv)
    assert PASSWORD not in " ".join(worker.argv)
    with serving(worker):
        made = api.ask("GET", "/deployments/name/crash/theirs")["id"]
        wanted = {"parameters": {"stack": "/no/such.toml", "component": "broker"}}
        run = api.ask("POST", f"/deployments/{made}/create_flow_run", wanted)["id"]

        def ended() -> Any:
            found = api.ask("GET", f"/flow_runs/{run}")
            return found if found["end_time"] else None

        found = until(ended, ENDS_WITHIN_S, every_s=0.5, what="the run's end")
        assert found["start_time"], found
        logs = api.ask("POST", "/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}})
    assert logs
    assert PASSWORD not in json.dumps([logs, found]) + worker.log.read_text()


# ---- web pages -------------------------------------------------------------------------------------------------------


def headers(method: str, url: str, origin: str) -> Mapping[str, str]:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    try:
        with urlopen(Request(url, headers=asked, method=method), timeout=10) as answer:
            return dict(answer.headers)
    except OSError as e:
        return dict(getattr(e, "headers", {}) or {})


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost", "null"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_no_foreign_page_may_read_its_answers(bare: str, method: str, origin: str) -> None:
    """Not even what needs no password; its own page may."""
    url, own = f"{bare}/health", bare.removesuffix("/api")
    assert "access-control-allow-origin" not in {name.lower() for name in headers(method, url, origin)}
    assert {name.lower(): v for name, v in headers(method, url, own).items()}["access-control-allow-origin"] == own


def test_its_page_asks_for_the_string(bare: str) -> None:
    """So a person is let in too."""
    with urlopen(f"{bare.removesuffix('/api')}/ui-settings", timeout=10) as answer:
        assert json.load(answer)["auth"] == "BASIC"


# ---- TLS, and a key --------------------------------------------------------------------------------------------------


class Forwarding(BaseHTTPRequestHandler):
    """Passes each request on to `server`, once whoever asks has shown the key; who asked how is in `seen`."""

    server_url = ""
    key = ""
    seen: list[str]

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        login = self.headers.get("Authorization", "")
        self.seen.append(login)
        status, data = 401, b"{}"
        if not self.key or login == f"Bearer {self.key}":
            if self.key:
                login = f"Basic {b64encode(prefect.auth_string(PASSWORD).encode()).decode()}"
            sent = {"Content-Type": "application/json", **({"Authorization": login} if login else {})}
            request = Request(self.server_url + self.path, body or None, sent, method=self.command)
            try:
                with urlopen(request, timeout=10) as answer:
                    status, data = answer.status, answer.read()
            except HTTPError as e:
                status, data = e.code, e.read()
            except OSError:
                status = 502
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_PATCH = do_GET

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("trusted"), "trusted")


@pytest.fixture
def before(bare: str, authority: Authority) -> Iterator[tuple[type[Forwarding], str]]:
    """A proxy that speaks TLS before the server, and its address."""
    made = type("Before", (Forwarding,), {"server_url": bare.removesuffix("/api"), "seen": []})
    with secured(made, authority.certificate("proxy")) as port:
        yield made, f"https://127.0.0.1:{port}/api"


def elsewhere(server: PrefectConfig) -> dict[str, str]:
    """What Prefect reads where somebody had exported the string of another server."""
    environment = {"PREFECT_API_AUTH_STRING": "for:another server"}
    server.applied(environment)
    return environment


def test_a_server_with_an_own_authority_is_asked(
    before: tuple[type[Forwarding], str], authority: Authority, tmp_path: Path
) -> None:
    """By gameday and, with what `[prefect]` makes of the environment, by Prefect's client; by nobody without the CA."""
    _, url = before
    known = prefect.auth_string(PASSWORD)
    server = PrefectConfig(api_url=url, ca=str(authority.ca), auth_string=SecretStr(known))
    assert isinstance(Api.of(server).ask(*LOOK), list)
    with pytest.raises(GamedayError, match=r"certificate is not trusted .*Remedy: ca = "):
        Api(url, PLAIN, known).ask(*LOOK)
    with pytest.raises(Refused):
        Api(url, Tls(str(authority.ca))).ask(*LOOK)
    done = by_prefect(LOOK_BY_CLIENT, elsewhere(server), tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_key_is_shown_as_prefect_cloud_wants_it(
    before: tuple[type[Forwarding], str], authority: Authority, tmp_path: Path
) -> None:
    """By gameday and by Prefect's client alike, even where the environment has a string for another server."""
    made, url = before
    made.key = "pnu_0123456789"
    server = PrefectConfig(api_url=url, ca=str(authority.ca), api_key=SecretStr(made.key))
    assert isinstance(Api.of(server).ask(*LOOK), list)
    done = by_prefect(LOOK_BY_CLIENT, elsewhere(server), tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(made.seen) == {f"Bearer {made.key}"}
    with pytest.raises(Refused, match="does not take this api_key"):
        Api(url, Tls(str(authority.ca)), api_key="pnu_another").ask(*LOOK)
