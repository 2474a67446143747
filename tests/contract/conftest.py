"""Real servers for contract tests, each started once a session and only when a test asks for it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

from compose.ports import free_ports
from compose.servers import clickhouse, kafka, nats, postgres, prefect, valkey
from compose.service import Service, answers
from gameday.stack.config import PrefectConfig
from gameday.state import State
from gameday.system.address import encoded
from gameday.system.polling import until
from gameday.system.process import STOPPED

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from tests.offloadrig import Offload, Servers

START_WITHIN_S = 60.0
PASSWORD = "for tests: p@ss'w/rd?#[%41]"
"""Whatever is special in an address is in it."""
NUMBERS = count()


@contextmanager
def serving(service: Service) -> Iterator[subprocess.Popen[bytes]]:
    """The service's process once it is ready; it is stopped when the block ends."""
    user = service.user if os.geteuid() == 0 else None
    with service.log.open("ab") as log:
        process = subprocess.Popen(
            service.argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=service.cwd or service.folder,
            env={**os.environ, **service.env},
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
    try:

        def ready() -> bool:
            assert process.poll() is None, f"{service.name} ended: {service.log.read_text()[-2000:]}"
            return answers(service.ready, 2.0)

        until(ready, within_s=START_WITHIN_S, every_s=0.1, what=service.name)
        yield process
    finally:
        process.send_signal(service.stop_signal)
        try:
            process.wait(service.grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def freeze(pid: int) -> None:
    """Freeze a process, and return once each of its threads stands: the kernel stops one after the other, and a server
    with several answers meanwhile."""
    os.kill(pid, signal.SIGSTOP)

    def stands() -> bool:
        try:
            tasks = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        except OSError:  # a thread has just ended
            return False
        return all(told.rpartition(")")[2].split()[0] in STOPPED for told in tasks)

    until(stands, within_s=10, what=f"every thread of process {pid} to stand")


def new_broker(folder: Path) -> Service:
    """An Apache Kafka that is not started."""
    kafka.get(lambda _: None)
    port, controller = free_ports(2)
    listener = kafka.Listener("DIRECT", port, port)
    return kafka.process(folder, (listener,), controller, cluster="tests")


@pytest.fixture(scope="session")
def broker_service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """The Kafka that all tests share, as long as nobody has asked for it."""
    return new_broker(tmp_path_factory.mktemp("kafka"))


@pytest.fixture(scope="session")
def broker(broker_service: Service) -> Iterator[str]:
    """host:port of a running Kafka without topics."""
    with serving(broker_service):
        yield str(broker_service.ready).removeprefix("kafka://")


def new_nats(folder: Path) -> tuple[Service, str]:
    """A NATS server with JetStream that is not started, and its URL with user and password."""
    port, monitoring = free_ports(2)
    return nats.process(folder, port, monitoring, PASSWORD, name="tests"), nats.url(port, PASSWORD)


@pytest.fixture(scope="session")
def jetstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL, with user and password, of a running NATS server without streams."""
    service, url = new_nats(tmp_path_factory.mktemp("nats"))
    with serving(service):
        yield url


def new_valkey(folder: Path) -> tuple[Service, str]:
    """The same of a Valkey."""
    (port,) = free_ports(1)
    return valkey.process(folder, port, PASSWORD), valkey.url(port, PASSWORD)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL, with user and password, of a running, empty Valkey."""
    service, url = new_valkey(tmp_path_factory.mktemp("valkey"))
    with serving(service):
        yield url


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL, with user and password, of a running ClickHouse without tables."""
    (port,) = free_ports(1)
    with serving(clickhouse.process(tmp_path_factory.mktemp("clickhouse"), port, PASSWORD)):
        yield clickhouse.url(port, PASSWORD)


@pytest.fixture(scope="session")
def client(warehouse: str) -> Iterator[Client]:
    """ClickHouse's own client, to make tables and fill them."""
    made = connect(warehouse)
    yield made
    made.close()


def connect(warehouse: str) -> Client:
    import clickhouse_connect  # half a second: only where it is asked for

    parts = urlsplit(warehouse)
    return clickhouse_connect.get_client(
        host=parts.hostname, port=parts.port or 0, username=parts.username, password=unquote(parts.password or "")
    )


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a running, empty Postgres database."""
    state = State(tmp_path_factory.mktemp("postgres")).ensure()
    (port,) = free_ports(1)
    postgres.get(state, lambda _: None)
    try:
        with serving(postgres.process(state, "test-postgres", port, "tester", PASSWORD)):
            yield postgres.url(port, "tester", PASSWORD, "postgres")
    finally:
        postgres.remove(state)


@pytest.fixture
def dsn(database: str) -> str:
    """An empty database of the test's own."""
    name = f"own{next(NUMBERS)}"
    postgres.create_database(database, name)
    return f"{database.rpartition('/')[0]}/{name}"


@pytest.fixture(scope="session")
def prefect_api_url(tmp_path_factory: pytest.TempPathFactory, database: str) -> Iterator[str]:
    """API URL, with user and password, of a running Prefect server on Postgres."""
    postgres.create_database(database, "prefect")
    folder: Path = tmp_path_factory.mktemp("prefect")
    (port,) = free_ports(1)
    with serving(prefect.server(folder, port, database.rpartition("/")[0] + "/prefect", PASSWORD, after=())):
        yield f"http://{prefect.USER}:{encoded(PASSWORD)}@127.0.0.1:{port}/api"


def prefect_environment(api_url: str) -> dict[str, str]:
    """What Prefect's own clients read of that address."""
    return dict(PrefectConfig(api_url=api_url).environment)


@pytest.fixture(scope="session")
def around(tmp_path_factory: pytest.TempPathFactory, broker: str, database: str) -> Iterator[Servers]:
    """What an offload needs: Kafka and Postgres as all have them, a ClickHouse with its tables, and S3. Who freezes or
    fills one of them leaves it as it was."""
    from tests.offloadrig import servers  # seconds of imports: only where they are asked for

    postgres.create_database(database, "offload")
    with servers(tmp_path_factory.mktemp("around"), broker, f"{database.rpartition('/')[0]}/offload") as running:
        yield running


@pytest.fixture
def offload(around: Servers) -> Offload:
    """An empty stream and an empty table."""
    from tests.offloadrig import Offload, names

    return Offload(around, next(names))
