"""`gameday init`: look at a platform, write a gameday.toml, and look at it once more as that file declares it.

Nothing of the platform is changed. A server that doesn't answer, or refuses, is said, and the rest goes on.
"""

from __future__ import annotations

import importlib
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gameday.errors import ConfigError, GamedayError, NotUp
from gameday.model import Json
from gameday.stack.init.canary import canary
from gameday.stack.init.logs import KINDS
from gameday.stack.init.seen import Broker, Connectors, Container, Engine, ObjectStore, Rules, Seen, Store
from gameday.stack.init.streams import guessed
from gameday.stack.init.written import Written, kind_of, written
from gameday.stack.live import Stack
from gameday.stack.reading import parse, read_env
from gameday.stack.registry import EXTRAS
from gameday.state import State
from gameday.system import address
from gameday.system.asking import answer

__all__ = ["BROKERS", "Asked", "client_of", "found_at", "look_again", "looked", "text_of"]

T = TypeVar("T")

WITHIN_S = 60.0
"""For all that is asked of one server, whatever it or a library does."""

PREFECT_PATIENCE_S = 3.0

ENGINE = "unix:///var/run/docker.sock"
PREFECT = "http://127.0.0.1:4200/api"
PORTS = {
    "broker": (9092, 9094, 19092, 29092),
    "clickhouse": (8123,),
    "postgres": (5432,),
    "connect": (8083,),
    "prometheus": (9090,),
    "nats": (4222,),
    "redis": (6379,),
}
"""Where each kind of server listens, as its image has it."""


BROKERS = "bootstrap.servers"
"""Where a file of settings says where the brokers are."""

JAVAS = {
    "sasl.jaas.config": "sasl.username and sasl.password",
    "ssl.truststore.location": "ssl.ca.location, a file with PEM",
    "ssl.truststore.type": "ssl.ca.location, a file with PEM",
}
"""What a file for Kafka's own command line tools has -> what librdkafka has for it."""


@dataclass(frozen=True)
class Asked:
    """Where to look, as the command line says; "": where the engine says that it is, if anywhere."""

    project: str = ""
    kafka: str = ""
    client: Mapping[str, str] = field(default_factory=dict)
    clickhouse: str = ""
    postgres: Sequence[str] = ()
    connect: str = ""
    prometheus: str = ""
    prefect: str = ""
    nats: str = ""
    redis: str = ""
    s3: str = ""

    def check(self) -> None:
        """Raises ConfigError for what is no address."""
        for option, value, kind in (
            ("--kafka", self.kafka, address.brokers),
            ("--clickhouse", self.clickhouse, address.http),
            *(("--postgres", dsn, address.postgres) for dsn in self.postgres),
            ("--connect", self.connect, address.http),
            ("--prometheus", self.prometheus, address.http),
            ("--prefect", self.prefect, address.http),
            ("--nats", self.nats, address.nats),
            ("--redis", self.redis, address.redis),
            ("--s3", self.s3, address.http),
        ):
            try:
                if value:
                    kind(value)
            except ValueError as e:
                raise ConfigError(f"{option} {address.hidden(value)!r}: {e}") from None
        if self.client:
            self._check_client()

    def _check_client(self) -> None:
        from confluent_kafka import Consumer, KafkaException

        from gameday.drivers.kafka.secured import security

        security(self.client, "--kafka-client")
        try:
            Consumer({**self.client, "group.id": "gameday", "log_level": 0}).close()
        except KafkaException as e:
            raise ConfigError(f"--kafka-client: {e.args[0].str()}. Remedy: a setting as librdkafka has it") from None


def client_of(given: Sequence[str]) -> dict[str, str]:
    """librdkafka's settings. given: NAME=VALUE, or the name of a file of such lines, as kcat reads them. Files that
    they name get their whole path, for gameday.toml is read from elsewhere. Raises ConfigError."""
    found: dict[str, str] = {}
    for one in given:
        lines = [one] if "=" in one else _lines(one)
        for line in lines:
            name, equals, value = (part.strip() for part in line.partition("="))
            where = "--kafka-client" if "=" in one else f"--kafka-client {one}"
            if not equals:
                raise ConfigError(f"{where}: {name!r} is not NAME=VALUE")
            if name in JAVAS:
                raise ConfigError(f"{where}: {name} is for Java's clients. Remedy: librdkafka's {JAVAS[name]}")
            found[name] = str(Path(value).resolve()) if name.endswith(".location") else value
    return found


def _lines(file: str) -> list[str]:
    try:
        text = Path(file).read_text()
    except (OSError, ValueError) as e:
        raise ConfigError(f"--kafka-client {file!r} is not NAME=VALUE, and no file that can be read: {e}") from None
    return [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]


def looked(asked: Asked, name: str, say: Callable[[str], None]) -> Seen:
    """Everything that can be seen. name: of the stack, where no Compose project gives one."""
    troubles: list[str] = []

    def ask(what: str, question: Callable[[], T]) -> T | None:
        """The answer, and that it is there; None where there is none, which is said."""
        say(f"looking at {what}")
        try:
            return answer(question, WITHIN_S, what)
        except GamedayError as e:
            told = str(e)
        except (LookupError, TypeError, ValueError, AttributeError) as e:  # its answer has another shape
            told = f"{what}: what answers there is something else ({type(e).__name__}: {e}). Remedy: its address"
        troubles.append(told)
        say(f"  {told}")
        return None

    def with_troubles(found: tuple[T, list[str]] | None) -> T | None:
        if found is None:
            return None
        troubles.extend(found[1])
        for trouble in found[1]:
            say(f"  {trouble}")
        return found[0]

    engine = _engine(asked, ask)
    containers = engine.containers if engine else ()
    at = dict(found_at(engine)) if engine else {}
    stores: list[Store] = []
    if url := asked.clickhouse or at.get("clickhouse", ""):
        from tasks.inventory.clickhouse import clickhouse

        store = with_troubles(ask(f"ClickHouse at {address.hidden(url)}", lambda: clickhouse(url)))
        stores += [store] if store else []
    for dsn in dict.fromkeys(asked.postgres):
        from tasks.inventory.postgres import postgres

        store = with_troubles(ask(f"Postgres at {address.hidden(dsn)}", partial(postgres, dsn)))
        stores += [store] if store else []
    servers = [one for one in containers if kind_of(one) == "postgres"]
    if servers and not asked.postgres:
        places = [f"{one.service}{f' (at {place})' if (place := _reached(one, 'postgres')) else ''}" for one in servers]
        troubles.append(
            f"Postgres in {', '.join(places)}. Remedy: --postgres postgresql://user:password@host:5432/database"
            f"{', once for each' if len(servers) > 1 else ''}"
        )
        say(f"not looking at {troubles[-1]}")
    broker: Broker | None = None
    if brokers := asked.kafka or at.get("broker", ""):
        from tasks.inventory.kafka import broker as kafka

        queues = [queue for store in stores for queue in store.queues]
        first = [name for queue in queues for name in (queue.group, *queue.topics)]
        names = {name: ip for one in containers for name in (one.service, one.name) if (ip := _inside(one))}
        broker = with_troubles(ask(f"Kafka at {brokers}", lambda: kafka(brokers, asked.client, first, names)))
    others: list[Broker] = []
    if url := asked.nats or at.get("nats", ""):
        log = with_troubles(ask(f"NATS at {address.hidden(url)}", lambda: _inventory("nats").jetstream(url)))
        others += [log] if log else []
    if url := asked.redis or at.get("redis", ""):
        log = with_troubles(ask(f"Redis at {address.hidden(url)}", lambda: _inventory("redis_streams").redis(url)))
        others += [log] if log else []
    objects: ObjectStore | None = None
    if url := asked.s3:
        objects = with_troubles(ask(f"S3 at {address.hidden(url)}", lambda: _inventory("s3").s3(url)))
    connectors: Connectors | None = None
    if rest := asked.connect or at.get("connect", ""):
        from tasks.inventory.connect import connect

        connectors = with_troubles(ask(f"Kafka Connect at {address.hidden(rest)}", lambda: connect(rest)))
    alerts: Rules | None = None
    if where := asked.prometheus or at.get("prometheus", ""):
        from tasks.inventory.prometheus import prometheus

        alerts = ask(f"Prometheus at {address.hidden(where)}", lambda: prometheus(where))
    api = _api(asked.prefect)
    seen = Seen(
        name=engine.project if engine else name,
        engine=engine,
        broker=broker,
        stores=stores,
        connect=connectors,
        others=others,
        objects=objects,
        alerts=alerts,
        prefect_url=api,
        prefect_given=bool(asked.prefect),
        prefect_answers=_answers(api),
        prefect_asks=_asks(api),
        own=not asked.prefect and {"GAMEDAY_PG_PORT", "PREFECT_PORT"} <= read_env(State.default().env).keys(),
        troubles=troubles,
    )
    from tasks.inventory.processes import processes

    return replace(seen, processes=ask("the processes of this machine", lambda: processes(list(_places(seen)))) or ())


def _places(seen: Seen) -> Iterator[tuple[str, str]]:
    """Kind of server and host:port of each that answered, and is no container."""
    if seen.broker is not None:
        yield from (("broker", place) for place in seen.broker.address.split(","))
    urls = [(store.driver, store.address) for store in seen.stores]
    urls += [(KINDS[log.driver], log.address) for log in seen.others]
    urls += [("connect", seen.connect.url)] if seen.connect is not None else []
    urls += [("s3", seen.objects.url)] if seen.objects is not None else []
    for kind, url in urls:
        with suppress(ValueError):  # a DSN of words, not of an address
            at = address.of(url)
            yield kind, f"{at.host}:{at.port or PORTS.get(kind, (80,))[0]}"


def text_of(seen: Seen, own: bool = False) -> Written:
    """The file. own: with the canary's stream, and none of the platform's. Raises NotUp where nothing was seen that it
    could be about."""
    if seen.engine is None and not seen.logs and not seen.stores and seen.objects is None:
        why = f": {'; '.join(seen.troubles)}" if seen.troubles else ""
        raise NotUp(
            f"nothing was found to write about{why}. Remedy: --project, --kafka, --nats, --redis, --s3, --clickhouse "
            "or --postgres says where the platform is"
        )
    streams, aside = guessed(seen)
    if not own:
        return written(seen, streams, aside)
    tried = [canary(seen, stream) for stream in streams]
    made = next((one for one in tried if not isinstance(one, str)), None)
    if made is None:
        why = "; ".join(map(str, tried)) or "no message of a topic was found in a table"
        raise NotUp(f"nothing was found that a canary could be like: {why}. Remedy: docs/canary.md, by hand")
    return written(seen, streams, aside, made)


def look_again(page: Written, path: Path) -> Sequence[Mapping[str, Json]]:
    """What `check --look` says of the file, with the passwords that it names filled in."""
    from tasks.look import look

    known = {**read_env(State.default().env), **os.environ, **page.secrets}
    config = parse(tomllib.loads(page.text), known, path)
    return look(Stack(config, State.default(), path))


def _engine(asked: Asked, ask: Callable[[str, Callable[[], Engine]], Engine | None]) -> Engine | None:
    """Without --project only where there is an engine: that there is none is no trouble then."""
    url = os.environ.get("DOCKER_HOST") or ENGINE
    if not asked.project and not (url.startswith("unix://") and Path(url.removeprefix("unix://")).exists()):
        return None
    from tasks.inventory.engine import engine

    return ask(f"the Docker engine at {url}", lambda: engine(url, asked.project))


def found_at(engine: Engine) -> Mapping[str, str]:
    """Kind -> where its server is reached from here: all brokers, else the first of its kind."""
    found: dict[str, list[str]] = {}
    for one in engine.containers:
        kind = kind_of(one)
        if kind in PORTS and kind != "postgres" and one.runs and (place := _reached(one, kind)):  # it wants a database
            found.setdefault(kind, []).append(place)
    schemes = {"nats": "nats", "redis": "redis"}
    return {
        kind: ",".join(places) if kind == "broker" else f"{schemes.get(kind, 'http')}://{places[0]}"
        for kind, places in found.items()
    }


def _reached(one: Container, kind: str) -> str:
    """At a published port; else at its container's own address. "": nowhere. The only port of a broker may have any
    number, for it has to be another one than inside."""
    ports = PORTS[kind]
    published = [one.published[port] for port in ports if port in one.published]
    if not published and kind == "broker" and len(one.published) == 1:
        published = [*one.published.values()]
    if published:
        return published[0]
    inside = _inside(one)
    return next((f"{inside}:{port}" for port in ports if inside and port in one.exposed), "")


def _inventory(name: str) -> Any:
    """What looks at one technology. Raises GamedayError where the package of its client is missing."""
    try:
        return importlib.import_module(f"tasks.inventory.{name}")
    except ModuleNotFoundError as e:
        missing = (e.name or "").partition(".")[0]
        raise GamedayError(f"it needs the package {missing!r}. Remedy: pip install 'gameday[{EXTRAS[missing]}]'") from e


def _inside(one: Container) -> str:
    """Its own address in the first network that gives it one."""
    return next((ip for ip in one.networks.values() if ip), "")


def _api(url: str) -> str:
    bare = (url or PREFECT).rstrip("/")
    return bare if bare.endswith("/api") else f"{bare}/api"


def _answers(url: str) -> bool:
    from gameday.drivers.http import Probe

    try:
        Probe(f"{url}/health", timeout_s=PREFECT_PATIENCE_S).read()
    except GamedayError:
        return False
    return True


def _asks(url: str) -> bool:
    from gameday.drivers.prefect_api import Api, Refused

    try:
        Api(url).ask("POST", "/flows/filter", {"limit": 1}, PREFECT_PATIENCE_S)
    except GamedayError as e:
        return isinstance(e, Refused)
    return False
