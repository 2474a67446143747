"""What runs of the platform of web events, and of gameday beside it; and its life for a test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from compose import supervisor
from compose.ports import free_ports
from compose.servers import kafka, postgres, prefect
from compose.service import Service, python
from gameday.stack.reading import read_env
from gameday.state import State
from gameday.system.polling import until
from tests.e2e.events import applier, consumer, orders

CONFIG = Path(__file__).with_name("gameday.toml")
ORDERS = Path(__file__).with_name("orders.toml")
"""Of the orders beside the events, on the same servers."""

OWN: Mapping[Path, tuple[str, str]] = {CONFIG: ("web", "consumer"), ORDERS: ("orders", "applier")}
"""Who writes, and who reads."""

PORTS = ("GAMEDAY_PG", "PREFECT", "SHOPS_PG", "KAFKA", "CONTROLLER", "WEB", "CONSUMER", "ORDERS", "APPLIER")
SERVES_WITHIN_S = 90.0
ENDS_WITHIN_S = 30.0
PARTITIONS = 3


@contextmanager
def up(state: State, reader: Mapping[str, str], config: Path = CONFIG) -> Iterator[None]:
    """The platform, while it serves; what it stored stays for the next time. reader: the environment of who reads,
    besides where its servers are. config: whose processes run."""
    kafka.get(print)
    postgres.get(state.ensure(), print)
    env = _drawn(state)
    shops, brokers = _shops(env, "shops"), f"127.0.0.1:{env['KAFKA_PORT']}"
    services = _services(state, env, {"BROKERS": brokers, "DSN": shops}, reader)
    supervisor.launch(state, services)
    try:
        _start(state, "gameday-postgres", "shops-postgres", "kafka")
        for name in ("gameday", "prefect"):
            postgres.create_database(_gameday(env, "postgres"), name)
        postgres.create_database(_shops(env, "postgres"), "shops")
        consumer.prepare(shops)
        applier.prepare(shops)
        kafka.create_topics(brokers, {"web-events": PARTITIONS, orders.TOPIC: PARTITIONS})
        _start(state, "prefect-server", *OWN[config])
        yield
    finally:
        supervisor.ask(state, op="shutdown")
        until(lambda: supervisor.pid_of(state) is None, ENDS_WITHIN_S, what="the supervisor's end")


def _drawn(state: State) -> dict[str, str]:
    """Ports and passwords, the same every time."""
    if known := read_env(state.env):
        return known
    env = {f"{name}_PORT": str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    env |= {f"{name}_PASSWORD": secrets.token_urlsafe(18) for name in ("GAMEDAY_PG", "SHOPS_PG", "PREFECT")}
    env["SUPERVISOR_SOCKET"] = str(state.supervisor_socket)
    supervisor.write_private(state.env, "".join(f"{name}={value}\n" for name, value in env.items()))
    return env


def _gameday(env: Mapping[str, str], database: str) -> str:
    return postgres.url(int(env["GAMEDAY_PG_PORT"]), "gameday", env["GAMEDAY_PG_PASSWORD"], database)


def _shops(env: Mapping[str, str], database: str) -> str:
    return postgres.url(int(env["SHOPS_PG_PORT"]), "shops", env["SHOPS_PG_PASSWORD"], database)


def _services(
    state: State, env: Mapping[str, str], servers: Mapping[str, str], reader: Mapping[str, str]
) -> list[Service]:
    folder = state.servers
    port = {name: int(env[f"{name}_PORT"]) for name in PORTS}
    listener = kafka.Listener("DIRECT", port["KAFKA"], port["KAFKA"])
    return [
        postgres.process(state, "gameday-postgres", port["GAMEDAY_PG"], "gameday", env["GAMEDAY_PG_PASSWORD"]),
        prefect.server(
            folder / "prefect-server", port["PREFECT"], _gameday(env, "prefect"), env["PREFECT_PASSWORD"], after=()
        ),
        postgres.process(state, "shops-postgres", port["SHOPS_PG"], "shops", env["SHOPS_PG_PASSWORD"]),
        kafka.process(folder / "kafka", (listener,), port["CONTROLLER"], cluster="web-events"),
        _own(folder / "web", "producer", port["WEB"], servers),
        _own(folder / "consumer", "consumer", port["CONSUMER"], {**servers, **reader}),
        _own(folder / "orders", "orders", port["ORDERS"], servers),
        _own(folder / "applier", "applier", port["APPLIER"], {**servers, **reader}),
    ]


def _own(folder: Path, module: str, port: int, env: Mapping[str, str]) -> Service:
    folder.mkdir(parents=True, exist_ok=True)
    ready = f"http://127.0.0.1:{port}/healthz"
    return python(folder.name, folder, "-m", f"tests.e2e.events.{module}", env={**env, "PORT": str(port)}, ready=ready)


def _start(state: State, *names: str) -> None:
    """Start these, and wait until all serve."""
    for name in names:
        supervisor.ask(state, op="start", name=name)

    def ready() -> bool:
        status = supervisor.ask(state, op="status")["processes"]
        return all(status[name]["ready"] for name in names)

    until(ready, SERVES_WITHIN_S, every_s=0.1, what=", ".join(names))
