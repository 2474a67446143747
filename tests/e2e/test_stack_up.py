"""`up` and `down` on real servers: what is up, what another `up` does, and how both behave on bad days."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest

from compose import own, supervisor
from compose.ports import HIGHEST, RANGE, free, free_ports
from compose.servers import alertmanager, kafka, postgres, prefect, prometheus, toxiproxy
from compose.service import Service, answers
from compose.trades import processes as trades
from compose.up import clean, down, up
from gameday.drivers.prefect_api import Api
from gameday.errors import Busy, GamedayError
from gameday.stack.reading import read_env
from gameday.state import State
from gameday.system.polling import until
from gameday.system.process import Process, boot_id
from tests.contract.conftest import serving
from tests.stackfixture import drawn
from tests.suites import only_in

WITHIN_S = 90.0
PORTS = (*own.PORTS, *trades.PORTS)
SECRETS = (*own.SECRETS, *trades.SECRETS)
ALWAYS = {
    "gameday-postgres",
    "platform-postgres",
    "toxiproxy",
    "prefect-server",
    "prefect-worker",
    "reconciler",
    "consumer-watch",
    "exchange",
    "kafka",
    "clickhouse",
    "handler-binance",
    "handler-kraken",
    "handler-coinbase",
    "seaweedfs",
    "offload-worker",
    "pager",
    "exporter",
}


def names() -> set[str]:
    """The processes of a stack that is up: some programs can't be had everywhere."""
    optional = {"prometheus": prometheus.found(), "alertmanager": prometheus.found() and alertmanager.found()}
    return ALWAYS | {name for name, here in optional.items() if here}


def processes(state: State) -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = supervisor.ask(state, op="status")["processes"]
    return found


def identities(state: State) -> dict[str, tuple[int, int]]:
    return {name: (p["pid"], p["start_ticks"]) for name, p in processes(state).items()}


def await_ready(state: State, name: str, other_than: int | None = None) -> None:
    until(
        lambda: (p := processes(state)[name])["ready"] and p["pid"] != other_than,
        WITHIN_S,
        what=f"{name} serving again",
    )


def marked(state: State) -> list[int]:
    """Live processes with the stack's mark."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"{supervisor.MARK}={state.root}".encode() in environ:
            found.append(int(pid))
    return found


def assert_nothing_left(state: State) -> None:
    assert marked(state) == []
    assert supervisor.pid_of(state) is None
    assert not state.supervisor_socket.exists()
    env = read_env(state.env)
    assert [name for name in PORTS if name in env and not free(int(env[name]))] == []


def query(env: Mapping[str, str], sql: str, user: str = "gameday", password: str | None = None) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{env['CLICKHOUSE_PORT']}/", data=sql.encode())
    request.add_header("X-ClickHouse-User", user)
    request.add_header("X-ClickHouse-Key", env["CLICKHOUSE_PASSWORD"] if password is None else password)
    with urllib.request.urlopen(request, timeout=10) as answer:
        text: str = answer.read().decode()
    return text.strip()


def links(env: Mapping[str, str]) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{env['TOXIPROXY_PORT']}/proxies", timeout=5) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


@pytest.fixture
def env(stack_state: State) -> dict[str, str]:
    return read_env(stack_state.env)


@pytest.fixture
def second(tmp_path: Path) -> Iterator[State]:
    """Another stack's state folder; whatever the test leaves is removed."""
    state = State(tmp_path / "second")
    yield state
    clean(state)


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """A second whole stack, shared because its first start is dear: who uses it brings it up (which may do nothing)."""
    state = State(tmp_path_factory.mktemp("neighbour"))
    yield state
    clean(state)


# ---- what is up ------------------------------------------------------------------------------------------------------


def test_up_means_that_every_process_serves(stack_state: State) -> None:
    """All processes of the platform are there, wanted, alive and answering their protocol."""
    found = processes(stack_state)
    assert set(found) == names()
    assert all(
        p["want"] and p["ready"] and Process(p["pid"], p["start_ticks"], boot_id()).alive for p in found.values()
    )


def test_a_second_up_does_nothing_and_says_so(stack_state: State) -> None:
    """No process is replaced, and the report is one line."""
    before, said = identities(stack_state), list[str]()
    up(stack_state, said.append)
    assert identities(stack_state) == before
    assert said == [f"already up: {len(names())} processes serve"]


def test_ports_lie_below_the_ephemeral_range_and_secrets_are_private(
    stack_state: State, env: Mapping[str, str]
) -> None:
    """stack.env is 0600; its ports are all different, and none can be taken by an outgoing connection."""
    ports = [int(env[name]) for name in PORTS]
    assert stack_state.env.stat().st_mode & 0o777 == 0o600
    assert len(set(ports)) == len(ports)
    assert max(ports) < min(int(RANGE.read_text().split()[0]), HIGHEST + 1)
    assert all(len(env[name]) >= 20 for name in SECRETS)
    assert env["SUPERVISOR_SOCKET"] == str(stack_state.supervisor_socket)


def test_every_server_listens_on_loopback_alone(stack_state: State) -> None:
    """Nothing of the stack can be reached from another machine."""
    pids = set(marked(stack_state))
    inodes = set()
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(os.readlink(fd))
            except FileNotFoundError:
                continue
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                addresses.add(fields[1].partition(":")[0])
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert addresses


def test_topics_exist_with_their_partitions(env: Mapping[str, str]) -> None:
    """Each venue's topic has four partitions; creating them again is fine."""
    from confluent_kafka.admin import AdminClient

    address = f"127.0.0.1:{env['KAFKA_DIRECT_PORT']}"
    kafka.create_topics(address, trades.TOPICS)
    found = AdminClient({"bootstrap.servers": address}).list_topics(timeout=10).topics
    assert {name: len(found[name].partitions) for name in trades.TOPICS} == trades.TOPICS


@pytest.mark.parametrize("link", ["HANDLER_BINANCE_BROKER", "HANDLER_KRAKEN_BROKER", "BROKER_CLICKHOUSE"])
def test_clients_behind_a_link_are_sent_back_through_it(env: Mapping[str, str], link: str) -> None:
    """The broker tells who bootstraps over a link's proxy to come through that proxy: a cut is real."""
    from confluent_kafka.admin import AdminClient

    port = int(env[f"LINK_{link}_PORT"])
    client = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "broker.address.family": "v4"})
    assert {b.port for b in client.list_topics(timeout=10).brokers.values()} == {port}


@pytest.mark.suite("stack")
def test_links_survive_a_restart_of_toxiproxy(stack_state: State, env: Mapping[str, str]) -> None:
    """One proxy for each pair of neighbours; a killed Toxiproxy has them all again, enabled and without toxics."""
    venues = ("binance", "kraken", "coinbase")
    wanted = {"broker-clickhouse", "clickhouse-offload", "offload-s3"}
    wanted |= {f"exchange-handler-{v}" for v in venues} | {f"handler-{v}-broker" for v in venues}
    assert set(links(env)) == wanted
    pid = processes(stack_state)["toxiproxy"]["pid"]
    os.kill(pid, signal.SIGKILL)
    await_ready(stack_state, "toxiproxy", other_than=pid)
    assert set(links(env)) == wanted
    assert all(link["enabled"] and not link["toxics"] for link in links(env).values())


def test_clickhouse_gives_nothing_to_who_has_no_password(env: Mapping[str, str]) -> None:
    """The engine's own user can neither create, read tables nor read files; the platform's user needs its password."""
    for sql in (
        "CREATE DATABASE x",
        "SELECT count() FROM trades.bronze",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            query(env, sql, user="default", password="")
        assert b"ACCESS_DENIED" in refused.value.read()
    with pytest.raises(urllib.error.HTTPError):
        query(env, "SELECT 1", password="wrong")
    assert query(env, "SELECT 1") == "1"


def test_clickhouse_has_a_metrics_endpoint(env: Mapping[str, str]) -> None:
    """/metrics answers in Prometheus's text format."""
    with urllib.request.urlopen(f"http://127.0.0.1:{env['CLICKHOUSE_PORT']}/metrics", timeout=10) as answer:
        assert b"\nClickHouseMetrics_Query " in answer.read()


@pytest.mark.parametrize(
    ("name", "database"), [("GAMEDAY", "gameday"), ("GAMEDAY", "prefect"), ("PLATFORM", "platform")]
)
def test_postgres_takes_its_password_and_no_other(env: Mapping[str, str], name: str, database: str) -> None:
    """Every database is there; logical decoding is possible; a wrong password is refused."""
    url = f"postgresql://{name.lower()}:{{}}@127.0.0.1:{env[f'{name}_PG_PORT']}/{database}"
    with psycopg.connect(url.format(env[f"{name}_PG_PASSWORD"]), connect_timeout=10) as connection:
        assert connection.execute("SHOW wal_level").fetchone() == ("logical",)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url.format("wrong"), connect_timeout=10)


def test_prefect_has_the_work_pool_and_serves_its_page_from_anywhere(env: Mapping[str, str]) -> None:
    """The pool exists and is of type process; the UI asks for the API by a relative path."""
    base = f"http://127.0.0.1:{env['PREFECT_PORT']}"
    api = Api(f"{base}/api", auth_string=prefect.auth_string(env["PREFECT_PASSWORD"]))
    assert api.ask("GET", "/work_pools/gameday")["type"] == "process"
    with urllib.request.urlopen(f"{base}/ui-settings", timeout=10) as answer:
        assert json.load(answer)["api_url"] == "/api"


def test_the_next_nights_are_scheduled(env: Mapping[str, str]) -> None:
    """Prefect's scheduler has made runs of the nightly deployment for the nights to come."""
    api = Api(f"http://127.0.0.1:{env['PREFECT_PORT']}/api", auth_string=prefect.auth_string(env["PREFECT_PASSWORD"]))
    wanted = {"flows": {"name": {"any_": ["nightly"]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    assert until(lambda: api.ask("POST", "/flow_runs/filter", wanted), WITHIN_S, every_s=0.5, what="a scheduled night")


def test_the_offload_runs_by_its_schedule(stack_state: State, env: Mapping[str, str]) -> None:
    """Rows reach the table without anybody's asking, and go on doing so."""

    def rows() -> int:
        url = f"postgresql://platform:{env['PLATFORM_PG_PASSWORD']}@127.0.0.1:{env['PLATFORM_PG_PORT']}/platform"
        with psycopg.connect(url) as connection:
            found = connection.execute("SELECT rows FROM offload_watermarks").fetchone()
        return int(found[0]) if found else 0

    first = until(rows, WITHIN_S, every_s=0.5, what="a first commit of the offload")
    until(lambda: rows() > first, WITHIN_S, every_s=0.5, what="the next one")


# ---- every server's start and stop -----------------------------------------------------------------------------------

HASTY = ("toxiproxy", "prefect-server", "prefect-worker", "offload-worker", "seaweedfs")
"""They may wait for their clients when told to end, and lose nothing when killed."""

SERVERS = ("gameday-postgres", "platform-postgres", "toxiproxy", "kafka", "clickhouse", "seaweedfs", "prefect-server")


@pytest.mark.parametrize("name", ["clickhouse", *only_in("stack", *(name for name in SERVERS if name != "clickhouse"))])
def test_a_killed_server_comes_back_by_itself(stack_state: State, name: str) -> None:
    """SIGKILL: the supervisor revives it, and it serves again under another identity."""
    pid = processes(stack_state)[name]["pid"]
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    await_ready(stack_state, name, other_than=pid)
    print(f"{name}: serves {time.monotonic() - began:.2f} s after SIGKILL")


@pytest.mark.suite("stack")
@pytest.mark.parametrize("name", [*SERVERS, "prefect-worker", "offload-worker"])
def test_a_server_stops_in_good_order_and_starts_again(stack_state: State, name: str) -> None:
    """stop returns when the port is silent, start brings it back; what keeps data ends by itself, without SIGKILL."""
    log = stack_state.servers / "supervisor.log"
    before, specs = len(log.read_text()), json.loads(supervisor.specification(stack_state).read_text())
    ready = next(s["ready"] for s in specs if s["name"] == name)
    began = time.monotonic()
    supervisor.ask(stack_state, op="stop", name=name)
    stopped = time.monotonic()
    assert not answers(ready, 1.0)
    supervisor.ask(stack_state, op="start", name=name)
    await_ready(stack_state, name)
    assert name in HASTY or "killed after its grace" not in log.read_text()[before:]
    print(f"{name}: stopped in {stopped - began:.2f} s, serves {time.monotonic() - stopped:.2f} s after start")


@pytest.mark.suite("stack")
def test_postgres_comes_back_although_clients_hold_connections(stack_state: State, env: Mapping[str, str]) -> None:
    """SIGKILL with open sessions: spawns refused for a "pre-existing shared memory block" are retried."""
    url = f"postgresql://platform:{env['PLATFORM_PG_PASSWORD']}@127.0.0.1:{env['PLATFORM_PG_PORT']}/platform"
    sessions = [psycopg.connect(url, connect_timeout=10) for _ in range(8)]
    pid = processes(stack_state)["platform-postgres"]["pid"]
    os.kill(pid, signal.SIGKILL)
    await_ready(stack_state, "platform-postgres", other_than=pid)
    for session in sessions:
        session.close()
    with psycopg.connect(url, connect_timeout=10) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_up_mends_a_stack_of_which_a_part_was_stopped(stack_state: State) -> None:
    """A component that somebody left stopped is started again; the others aren't touched."""
    before = identities(stack_state)
    supervisor.ask(stack_state, op="stop", name="toxiproxy")
    up(stack_state, print)
    after = identities(stack_state)
    assert {n for n in names() if after[n] != before[n]} == {"toxiproxy"}
    assert all(p["ready"] for p in processes(stack_state).values())


def test_up_does_not_mend_what_a_run_holds_down(stack_state: State) -> None:
    """While a run holds the stack, its stopped component is its fault at work: `up` refuses instead of healing it."""
    import fcntl

    supervisor.ask(stack_state, op="stop", name="toxiproxy")
    try:
        with stack_state.lock.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(Busy, match="a run holds the stack"):
                up(stack_state, print)
        assert processes(stack_state)["toxiproxy"]["pid"] is None
    finally:
        supervisor.ask(stack_state, op="start", name="toxiproxy")
        await_ready(stack_state, "toxiproxy")


# ---- other stacks, bad days ------------------------------------------------------------------------------------------


@pytest.mark.suite("stack")
def test_two_stacks_run_side_by_side(stack_state: State, neighbour: State) -> None:
    """Another state folder is another stack: nothing in common, and the first one doesn't notice."""
    first = identities(stack_state)
    up(neighbour, print)
    one, two = read_env(stack_state.env), read_env(neighbour.env)
    assert {one[n] for n in PORTS}.isdisjoint({two[n] for n in PORTS})
    assert {one[n] for n in SECRETS}.isdisjoint({two[n] for n in SECRETS})
    assert all(p["ready"] for state in (stack_state, neighbour) for p in processes(state).values())
    assert identities(stack_state) == first


@pytest.mark.suite("stack")
def test_down_leaves_nothing_even_when_the_supervisor_hangs(stack_state: State, neighbour: State) -> None:
    """No process, port or socket stays; data do, until `clean`; the other stack goes on."""
    first = identities(stack_state)
    up(neighbour, print)
    frozen = supervisor.pid_of(neighbour)
    assert frozen is not None
    os.kill(frozen, signal.SIGSTOP)
    down(neighbour)
    assert_nothing_left(neighbour)
    assert neighbour.env.exists()
    clean(neighbour)
    assert not neighbour.root.exists()
    assert not postgres.home(neighbour).exists()
    assert identities(stack_state) == first


@pytest.mark.suite("stack")
def test_up_after_the_supervisor_was_killed(stack_state: State, env: Mapping[str, str]) -> None:
    """SIGKILL of the supervisor takes the stack down; the next `up` starts all of it, with the same ports and data."""
    pid = supervisor.pid_of(stack_state)
    assert pid is not None
    with psycopg.connect(_history(env), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS x")
    os.kill(pid, signal.SIGKILL)
    up(stack_state, print)
    assert all(p["ready"] for p in processes(stack_state).values())
    assert read_env(stack_state.env) == env
    with psycopg.connect(_history(env)) as connection:
        assert connection.execute("SELECT x FROM kept").fetchone() == (1,)


def test_down_of_what_is_not_up_says_so(second: State) -> None:
    """Nothing to stop is no error, and creates nothing."""
    said: list[str] = []
    down(second, said.append)
    assert said == ["nothing is up"]
    assert not second.root.exists()


@pytest.mark.suite("stack")
def test_a_component_that_will_not_start_is_named_with_its_log(second: State) -> None:
    """`up` fails soon, shows the end of that component's log, and leaves nothing running."""
    broken = [sys.executable, "-c", "print('no space on moon'); raise SystemExit(3)"]
    with pytest.raises(GamedayError, match=r"(?s)kafka does not come up: it died .*no space on moon"):
        up(second, print, replace={"kafka": broken})
    assert_nothing_left(second)


def test_a_component_with_other_commands(second: State) -> None:
    """`replace` names a process of the stack; another name is refused before anything starts."""
    with pytest.raises(GamedayError, match=r"no process zookeeper. Known: .*kafka"):
        up(second, print, replace={"zookeeper": ["/bin/true"]})
    assert supervisor.pid_of(second) is None


@pytest.mark.parametrize("listening", [True, False], ids=["answers", "silent"])
def test_a_taken_port_is_named_with_its_holder(second: State, listening: bool) -> None:
    """`up` with a port that somebody else has, answering or not, names port, use and holder, and starts nothing."""
    up_env = drawn(second)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", int(up_env["KAFKA_DIRECT_PORT"])))
        taken.listen(8 if listening else 0)
        fillers = []
        if not listening:  # a full backlog answers nobody
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(taken.getsockname())
                fillers.append(filler)
        wanted = rf"port {up_env['KAFKA_DIRECT_PORT']}, drawn as KAFKA_DIRECT_PORT, is taken by process {os.getpid()} "
        with pytest.raises(GamedayError, match=wanted):
            up(second, print)
        for filler in fillers:
            filler.close()
    assert supervisor.pid_of(second) is None


def test_lost_passwords_are_an_error_with_a_remedy(second: State) -> None:
    """Without stack.env the servers' data can't be opened: `up` says so instead of drawing other passwords."""
    drawn(second)
    supervisor.specification(second).parent.mkdir(parents=True, exist_ok=True)
    supervisor.specification(second).write_text("[]")
    second.env.unlink()
    with pytest.raises(GamedayError, match=r"stack\.env.*gone.*make clean"):
        up(second, print)


def test_toxiproxy_is_the_version_that_was_asked_for(env: Mapping[str, str]) -> None:
    """The binary says the version that its source was fetched as."""
    connection = http.client.HTTPConnection("127.0.0.1", int(env["TOXIPROXY_PORT"]), timeout=5)
    connection.request("GET", "/version")
    assert toxiproxy.VERSION in connection.getresponse().read().decode()
    connection.close()


def test_specifications_survive_json(tmp_path: Path) -> None:
    """What up writes is what the supervisor reads."""
    import dataclasses

    spec = Service("a", ("b", "c"), str(tmp_path), ready="http://x:1/", env={"E": "1"}, after=("z",), user=61184)
    assert Service.from_json(json.loads(json.dumps(dataclasses.asdict(spec)))) == spec


def _history(env: Mapping[str, str]) -> str:
    return f"postgresql://gameday:{env['GAMEDAY_PG_PASSWORD']}@127.0.0.1:{env['GAMEDAY_PG_PORT']}/gameday"


@pytest.mark.suite("stack")
def test_a_state_folder_removed_by_hand_leaves_no_password_behind(tmp_path: Path) -> None:
    """As root, Postgres's data lie elsewhere: another clone at the same place begins with empty servers."""
    state = State(tmp_path / "state").ensure()
    (port,) = free_ports(1)
    try:
        for password in ("first", "second"):
            postgres.get(state, lambda _: None)
            with serving(postgres.process(state, "test-postgres", port, "tester", password)):
                postgres.create_database(postgres.url(port, "tester", password, "postgres"), "some")
            shutil.rmtree(state.root)
            state.ensure()
        assert os.geteuid() != 0 or len(list((postgres.home(state) / "test-postgres").glob("data.*"))) == 1
    finally:
        postgres.remove(state)
