"""Defines the processes of the router's platform over NATS JetStream: in which order they start, over which links they
connect, and what is prepared once each serves. router_kafka and router_valkey are the same over another broker.

compose/own.py has gameday's own servers, compose/servers the servers themselves, pipelines/router the programs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from compose.own import databases, run
from compose.servers import Report, kafka, nats, postgres, prometheus, toxiproxy, valkey
from compose.service import Service, python
from gameday.state import State
from pipelines.router.settings import ACK_WAIT_S, MAX_DELIVER

__all__ = [
    "CONFIG",
    "JETSTREAM",
    "KAFKA",
    "PORTS",
    "RULES",
    "SECRETS",
    "SHARES",
    "VALKEY",
    "Backend",
    "get",
    "links",
    "preparations",
    "processes",
    "shares",
    "targets",
]

CONFIG = Path(__file__).with_name("gameday.toml")
RULES = Path(__file__).with_name("alerts.yml")

DATABASE = "router"
ROUTERS = ("router-a", "router-b")

COMMON_PORTS = (
    *("CALLER_PORT", "ROUTER_A_PORT", "ROUTER_B_PORT", "WORKER_PORT", "OBSERVER_PORT", "STORE_PG_PORT"),
    *("LINK_CALLER_BROKER_PORT", "LINK_BROKER_ROUTER_PORT", "LINK_BROKER_WORKER_PORT", "LINK_WORKER_STORE_PORT"),
)
COMMON_SECRETS = ("STORE_PG_PASSWORD",)


def shares(ack_wait_s: float, most: int) -> str:
    """Return Kafka's settings of share groups: how often a request is delivered, and how soon a lost member is
    noticed."""
    return f"""\
group.share.min.record.lock.duration.ms=1000
group.share.record.lock.duration.ms={int(ack_wait_s * 1000)}
group.share.delivery.count.limit={most}
group.share.min.session.timeout.ms=1000
group.share.session.timeout.ms=6000
group.share.min.heartbeat.interval.ms=500
group.share.heartbeat.interval.ms=1000
"""


SHARES = shares(ACK_WAIT_S, MAX_DELIVER) + "log.retention.check.interval.ms=60000\n"


@dataclass(frozen=True)
class Backend:
    """One broker of the three. ports, secrets: the names of its own. server: makes its process from state folder, ports
    and environment. address: makes its address from a port that leads there and the environment. behind: link -> the
    port that it leads to."""

    name: str
    process: str
    ports: tuple[str, ...]
    secrets: tuple[str, ...]
    server: Callable[[State, Mapping[str, int], Mapping[str, str]], Service]
    address: Callable[[int, Mapping[str, str]], str]
    behind: Mapping[str, str]
    get: Callable[[Report], None] = lambda _: None
    prepare: Callable[[Mapping[str, str]], None] = lambda _: None

    @property
    def all_ports(self) -> tuple[str, ...]:
        return (*COMMON_PORTS, *self.ports)

    @property
    def all_secrets(self) -> tuple[str, ...]:
        return (*COMMON_SECRETS, *self.secrets)

    # ---- the platform of this broker ---------------------------------------------------------------------------------

    def processes(self, state: State, env: Mapping[str, str], port: Mapping[str, int]) -> list[Service]:
        """Write their configuration, return the platform's processes in dependency order."""
        folder = state.servers

        def own(
            name: str, module: str, *more: str, at: str, broker: str, after: tuple[str, ...], **url: str
        ) -> Service:
            """Return one of the router's programs, with the failpoints in gameday.toml. broker: the port of its
            link."""
            home = folder / name
            home.mkdir(parents=True, exist_ok=True)
            points = {
                "FAILPOINTS_ENABLE": "1",
                "FAILPOINTS_SOCKET": str(home / "points.sock"),
                "FAILPOINTS_EVIDENCE": str(home / "points.jsonl"),
            }
            arguments = ("-m", f"pipelines.router.{module}", "--backend", self.name, "--port", env[at], *more)
            told = {**points, "BROKER_URL": self.address(port[broker], env), **url}
            ready = f"http://127.0.0.1:{env[at]}/healthz"
            return python(name, home, *arguments, ready=ready, env=told, after=after)

        broker = ("toxiproxy", self.process)
        routers = [
            own(
                *(name, "router", "--name", name),
                at=f"{name.replace('-', '_').upper()}_PORT",
                broker="LINK_BROKER_ROUTER",
                after=broker,
            )
            for name in ROUTERS
        ]
        caller = f"http://127.0.0.1:{env['CALLER_PORT']}"
        return [
            postgres.process(state, "store", port["STORE_PG"], "store", env["STORE_PG_PASSWORD"]),
            self.server(state, port, env),
            *routers,
            own(
                *("worker", "worker"),
                at="WORKER_PORT",
                broker="LINK_BROKER_WORKER",
                after=(*broker, "store"),
                STORE_URL=store(env, DATABASE, "LINK_WORKER_STORE_PORT"),
            ),
            own(
                *("caller", "caller", "--state", str(folder / "caller" / "tape")),
                at="CALLER_PORT",
                broker="LINK_CALLER_BROKER",
                after=(*ROUTERS, "worker"),
                STORE_URL=store(env, DATABASE),
            ),
            own(
                *("observer", "observer", "--caller", caller, "--textfiles", str(state.metrics)),
                at="OBSERVER_PORT",
                broker=self.behind["observer"],
                after=(self.process, "store"),
                STORE_URL=store(env, DATABASE),
            ),
        ]

    def preparations(self, state: State, env: Mapping[str, str]) -> Mapping[str, Callable[[], None]]:
        """Return service -> what must be done once it serves, before those after it start. All idempotent."""
        return {"store": lambda: _tables(env), self.process: lambda: self.prepare(env)}

    def links(self, port: Mapping[str, int]) -> list[toxiproxy.Link]:
        """Return a link for each pair of neighbours on the requests' path, named <from>-<to> as they flow."""
        return [
            toxiproxy.Link("caller-broker", port["LINK_CALLER_BROKER"], port[self.behind["caller-broker"]]),
            toxiproxy.Link("broker-router", port["LINK_BROKER_ROUTER"], port[self.behind["broker-router"]]),
            toxiproxy.Link("broker-worker", port["LINK_BROKER_WORKER"], port[self.behind["broker-worker"]]),
            toxiproxy.Link("worker-store", port["LINK_WORKER_STORE"], port["STORE_PG"]),
        ]

    def targets(self, port: Mapping[str, int]) -> list[prometheus.Target]:
        """What Prometheus scrapes."""
        return [
            prometheus.Target("platform", "observer", port["OBSERVER"]),
            prometheus.Target("caller", "caller", port["CALLER"]),
            prometheus.Target("router", "router-a", port["ROUTER_A"]),
            prometheus.Target("router", "router-b", port["ROUTER_B"]),
            prometheus.Target("worker", "worker", port["WORKER"]),
        ]


def store(env: Mapping[str, str], database: str, port: str = "STORE_PG_PORT") -> str:
    """Return the address of the store."""
    return postgres.url(int(env[port]), "store", env["STORE_PG_PASSWORD"], database)


def _tables(env: Mapping[str, str]) -> None:
    databases(store(env, "postgres"), DATABASE)
    tables = ("pipelines.router.worker", "--tables", "--backend", "jetstream", "--port", "0")
    run(*tables, env={"STORE_URL": store(env, DATABASE)})


# ---- the brokers -----------------------------------------------------------------------------------------------------


def _kafka(state: State, port: Mapping[str, int], _: Mapping[str, str]) -> Service:
    listeners = [
        kafka.Listener("DIRECT", port["KAFKA_DIRECT"], port["KAFKA_DIRECT"]),
        kafka.Listener("CALLER", port["KAFKA_CALLER"], port["LINK_CALLER_BROKER"]),
        kafka.Listener("ROUTER", port["KAFKA_ROUTER"], port["LINK_BROKER_ROUTER"]),
        kafka.Listener("WORKER", port["KAFKA_WORKER"], port["LINK_BROKER_WORKER"]),
    ]
    folder = state.servers / "kafka"
    return kafka.process(folder, listeners, port["KAFKA_CONTROLLER"], cluster=str(state.root), settings=SHARES)


def _one(port: str) -> Mapping[str, str]:
    """Return the listeners of a broker that has one port for all clients."""
    return dict.fromkeys(("caller-broker", "broker-router", "broker-worker", "observer"), port)


JETSTREAM = Backend(
    name="jetstream",
    process="nats",
    ports=("NATS_PORT", "NATS_MONITORING_PORT"),
    secrets=("NATS_PASSWORD",),
    server=lambda state, port, env: nats.process(
        state.servers / "nats", port["NATS"], port["NATS_MONITORING"], env["NATS_PASSWORD"], name="router"
    ),
    address=lambda port, env: nats.url(port, env["NATS_PASSWORD"]),
    behind=_one("NATS"),
)

KAFKA = Backend(
    name="kafka",
    process="kafka",
    ports=("KAFKA_DIRECT_PORT", "KAFKA_CONTROLLER_PORT", "KAFKA_CALLER_PORT", "KAFKA_ROUTER_PORT", "KAFKA_WORKER_PORT"),
    secrets=(),
    server=_kafka,
    address=lambda port, _: f"127.0.0.1:{port}",
    behind={
        "caller-broker": "KAFKA_CALLER",
        "broker-router": "KAFKA_ROUTER",
        "broker-worker": "KAFKA_WORKER",
        "observer": "KAFKA_DIRECT",
    },
    get=kafka.get,
    prepare=lambda env: kafka.upgrade(f"127.0.0.1:{env['KAFKA_DIRECT_PORT']}", {"share.version": 2}),
)

VALKEY = Backend(
    name="valkey",
    process="valkey",
    ports=("VALKEY_PORT",),
    secrets=("VALKEY_PASSWORD",),
    server=lambda state, port, env: valkey.process(state.servers / "valkey", port["VALKEY"], env["VALKEY_PASSWORD"]),
    address=lambda port, env: valkey.url(port, env["VALKEY_PASSWORD"]),
    behind=_one("VALKEY"),
)


# ---- this platform ---------------------------------------------------------------------------------------------------


PORTS, SECRETS = JETSTREAM.all_ports, JETSTREAM.all_secrets
links, targets = JETSTREAM.links, JETSTREAM.targets
processes, preparations = JETSTREAM.processes, JETSTREAM.preparations


def get(state: State, report: Report) -> None:
    """Get every server. Idempotent; what an earlier, interrupted call got is kept."""
    JETSTREAM.get(report)
