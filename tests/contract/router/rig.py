"""The router's programs, bare: on a broker and a database of the test's own, to be killed and started one by one; and
what gameday says of them, by the streams of their own gameday.toml."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compose.ports import free_ports
from compose.router.processes import SHARES
from compose.servers.kafka import upgrade
from compose.service import Service
from gameday.model import Digest, Evidence, Group, Window
from gameday.stack.live import Stack, open_stack
from gameday.state import ROOT, State
from gameday.system.polling import until
from gameday.verdict.checks._damage import compare
from pipelines.router.tape import TENANTS
from pipelines.router.worker import tables
from tests.contract.conftest import new_broker, new_nats, new_valkey, serving
from tests.fakes import CONSUMER

__all__ = ["ACK_WAIT_S", "BACKENDS", "WAIT_S", "Bare", "Broker", "Process", "bare", "brought_up"]

WAIT_S = 90.0
ACK_WAIT_S = 2.0

BACKENDS = {"jetstream": "router", "kafka": "router_kafka", "valkey": "router_valkey"}
"""Backend -> its platform."""

TABLES_OF_IT = re.compile(r"\[\[?(streams|hops)\.")
Key = tuple[str, int]


@dataclass
class Broker:
    """A real one. address: as the programs take it; places: what its gameday.toml has for it -> what it is here."""

    backend: str
    service: Service
    address: str
    places: Mapping[str, str]
    running: ExitStack = field(default_factory=ExitStack)
    process: Any = None

    def start(self) -> None:
        self.process = self.running.enter_context(serving(self.service))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.running.close()


@contextmanager
def brought_up(backend: str, folder: Path) -> Iterator[Broker]:
    """A broker without streams."""
    if backend == "jetstream":
        service, url = new_nats(folder)
        broker = Broker(backend, service, url, {"nats://gameday:${NATS_PASSWORD}@127.0.0.1:${NATS_PORT}": url})
    elif backend == "valkey":
        service, url = new_valkey(folder)
        broker = Broker(backend, service, url, {"redis://gameday:${VALKEY_PASSWORD}@127.0.0.1:${VALKEY_PORT}": url})
    else:
        service = new_broker(folder)
        properties = folder / "server.properties"
        properties.write_text(properties.read_text() + SHARES)
        address = str(service.ready).removeprefix("kafka://")
        broker = Broker(backend, service, address, {"127.0.0.1:${KAFKA_DIRECT_PORT}": address})
    with broker.running:
        broker.start()
        if backend == "kafka":
            upgrade(broker.address, {"share.version": 2})
        yield broker
        broker.running.close()


class Process:
    """One program of pipelines/router. One that has ended can be started again."""

    def __init__(self, module: str, folder: Path, env: Mapping[str, str], *arguments: str) -> None:
        (self.port,) = free_ports(1)
        self.log = folder / f"{module}.log"
        self._argv = [sys.executable, "-m", f"pipelines.router.{module}", "--port", str(self.port), *arguments]
        self._env = {**os.environ, "FAILPOINTS_ENABLE": "1", **env}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, failpoints: str = "") -> None:
        with self.log.open("ab") as out:
            environment = {**self._env, "FAILPOINTS": failpoints}
            self.process = subprocess.Popen(self._argv, cwd=ROOT, env=environment, stdout=out, stderr=out)

    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def killed(self) -> None:
        """A failpoint has ended it; it is started again, without one."""
        until(self.ended, WAIT_S, 0.05, f"the failpoint to end {self.log.stem}")
        self.start()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """The answer, also one that refuses; b"" while there is none. body: it is a POST of it."""
        data = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data)
            with urllib.request.urlopen(request, timeout=10) as answer:
                found: bytes = answer.read()
                return found
        except urllib.error.HTTPError as e:
            return e.read()
        except OSError:
            assert not self.ended(), f"it ended: {self.log.read_text()[-3000:]}"
            return b""


class Bare:
    """caller, one router and the worker, each startable with failpoints."""

    def __init__(self, broker: Broker, dsn: str, folder: Path, defect: str) -> None:
        self.broker, self.dsn, self.folder = broker, dsn, folder
        env = {"BROKER_URL": broker.address, "STORE_URL": dsn, "ROUTER_DEFECT": defect}
        shared = ("--backend", broker.backend, "--ack-wait", f"{ACK_WAIT_S:g}")
        self.caller = Process("caller", folder, env, *shared, "--state", str(folder / "tape"))
        self.router = Process("router", folder, env, *shared, "--name", "router-a")
        self.worker = Process("worker", folder, env, *shared)
        tables(dsn)

    def start(self, **failpoints: str) -> None:
        """All of them. failpoints: program -> what is armed there."""
        for process in (self.router, self.worker, self.caller):
            process.start(failpoints.get(process.log.stem, ""))

    def stop(self) -> None:
        for process in (self.caller, self.router, self.worker):
            process.stop()

    def published(self, each: int) -> dict[Group, int]:
        """So many requests of each tenant were taken by the broker by now: a window of all of them."""

        def done() -> bool:
            told = self.caller.ask("/tape")
            return bool(told) and all(json.loads(told)["done"][tenant] >= each for tenant in TENANTS)

        until(done, WAIT_S, 0.1, f"{each} requests of each tenant")
        return {(tenant,): each for tenant in TENANTS}

    def judge(self) -> Stack:
        """The platform's own declaration of its stream and hops, with the servers of the test."""
        declared = ROOT / "compose" / BACKENDS[self.broker.backend] / "gameday.toml"
        found = [table for table in re.split(r"(?m)^(?=\[)", declared.read_text()) if TABLES_OF_IT.match(table)]
        text = re.sub(r"(?m)^path = .*$", 'path = ["consumer"]', "".join(found))
        store = "postgresql://store:${STORE_PG_PASSWORD}@127.0.0.1:${STORE_PG_PORT}/router"
        places = {"http://127.0.0.1:${CALLER_PORT}": f"http://127.0.0.1:{self.caller.port}", store: self.dsn}
        for place, own in {**places, **self.broker.places}.items():
            assert place in text
            text = text.replace(place, own)
        path = self.folder / "gameday.toml"
        path.write_text(CONSUMER + text)
        return open_stack(path, State(self.folder))

    def damage(self, stack: Stack, upto: Mapping[Group, int]) -> dict[tuple[str, str], list[Key]]:
        """(hop, kind of damage) -> keys of requests, of those up to these numbers: found by digests, as in any run, and
        then named."""
        live = stack.streams["requests"]
        window = Window(dict.fromkeys(upto, 0), dict(upto))
        digests: list[Digest] = [one for hop in live.hops.values() for one in hop.digest(window)]
        evidence = Evidence(
            "router",
            {},
            "router",
            visible="outcomes",
            ledger="tape",
            knows=True,
            window=window,
            stream="requests",
            gapless=True,
            digests=tuple(digests),
        )
        found: dict[tuple[str, str], list[Key]] = {}
        for damage in compare(evidence):
            for kind in ("lost", "doubled", "changed"):
                if getattr(damage, kind) and (damage.view, kind) != ("log", "doubled"):
                    held = live.hops[damage.hop].rows(damage.group, 0, upto[damage.group])["n"].tolist()
                    found.setdefault((damage.hop, kind), []).extend(
                        (damage.group[0], n) for n in self._named(kind, held, upto[damage.group])
                    )
        return found

    @staticmethod
    def _named(kind: str, held: Sequence[int], upto: int) -> list[int]:
        if kind == "lost":
            return sorted(set(range(1, upto + 1)) - set(held))
        return sorted({n for n in held if held.count(n) > 1}) or [0]


@contextmanager
def bare(broker: Broker, dsn: str, folder: Path, defect: str = "", **failpoints: str) -> Iterator[Bare]:
    """The programs, running. failpoints: program -> what is armed there."""
    found = Bare(broker, dsn, folder, defect)
    try:
        found.start(**failpoints)
        yield found
    finally:
        found.stop()
