"""A bank's platform: three Kafka brokers that take nobody without TLS and a password, terminals, and a ledger of two
replicas that books payments into a Postgres whose port isn't published. Nothing of it is made for gameday."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import psycopg

from compose.servers import kafka, postgres
from compose.service import Service
from gameday.errors import GamedayError
from gameday.state import ROOT, State
from gameday.system.polling import until
from tests.contract.certificates import Authority
from tests.docker.containers import in_container, service_in_container
from tests.docker.foreign.platform import EVERYWHERE, PASSWORD, SERVES_WITHIN_S, Platform
from tests.docker.foreign.vault import BETWEEN, BROKERS, DATABASE, INSIDE, MECHANISM
from tests.severalbrokers import one_of_several

__all__ = ["Bank"]

KAFKA, POSTGRES = "apache/kafka:4.4.0", "postgres:18"
TERMINAL, LEDGER, SETUP = "bank/terminal:3.1", "bank/ledger:4.2", "bank/setup:1.0"
CONTROLLER = 9090
OUTSIDE = {name: 19_090 + node for node, name in enumerate(BROKERS, start=1)}
"""The published port of each broker."""

SECURED = """
listeners=DIRECT://0.0.0.0:{between},INSIDE://0.0.0.0:{inside},OUTSIDE://0.0.0.0:{outside},CONTROLLER://0.0.0.0:{controller}
listener.security.protocol.map=DIRECT:PLAINTEXT,INSIDE:SASL_SSL,OUTSIDE:SASL_SSL,CONTROLLER:PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
"""
FOR_EACH = """\
listener.name.{listener}.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.{listener}.scram-sha-512.sasl.jaas.config={login} required;
"""
LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule"


@dataclass(frozen=True)
class Bank(Platform):
    """Kafka -> Postgres, each payment with a UUID."""

    project: ClassVar[str] = "bank"
    images: ClassVar[Sequence[str]] = (KAFKA, POSTGRES, TERMINAL, LEDGER, SETUP)
    exported: ClassVar[Mapping[str, str]] = {"KAFKA_PASSWORD": PASSWORD, "POSTGRES_PASSWORD": PASSWORD}

    @property
    def ca(self) -> Path:
        return self.folder / "bank.pem"

    @property
    def properties(self) -> Path:
        """What the bank's people use for kcat."""
        return self.folder / "client.properties"

    @property
    def database(self) -> str:
        """Where it is reached from here: its port isn't published."""
        return f"postgresql://bank:{PASSWORD}@{self.address('db')}:5432/{DATABASE}"

    def address(self, service: str) -> str:
        """Its container's own."""
        (found,) = json.loads(self.engine.docker("inspect", f"{self.project}-{service}-1"))
        (network,) = found["NetworkSettings"]["Networks"].values()
        return str(network["IPAddress"])

    def deploy(self, *options: str) -> None:
        """The ledger, with these options, in both of its containers; until it books."""
        file = self.folder / f"{self.project}.json"
        made = json.loads(file.read_text())
        made["services"]["ledger"] = self._ledger(*options)
        file.write_text(json.dumps(made, indent=1))
        self.compose(self.project, "up", "--detach", "--no-build", "--pull", "never", "ledger")
        done = self.run(sys.executable, "-m", type(self).__module__, str(self.folder), within_s=SERVES_WITHIN_S)
        assert done.returncode == 0, done.stderr

    def prepare(self) -> None:
        began, booked = datetime.now(UTC), "SELECT count(*) FROM payments WHERE made_at > %s"

        def books() -> bool:
            try:
                with psycopg.connect(self.database, connect_timeout=5) as database:
                    return database.execute(booked, [began]).fetchone() != (0,)
            except (GamedayError, ValueError, psycopg.Error):
                return False

        until(books, SERVES_WITHIN_S, 0.5, "a new payment to be booked")

    def services(self) -> Mapping[str, Any]:
        kafka.get(print)
        state = State(self.folder).ensure()
        postgres.get(state, print)
        authority = Authority(self.folder, "bank")
        servers = {name: self._broker(authority, node, name) for node, name in enumerate(BROKERS, start=1)}
        database = postgres.process(state, "db", 5432, "bank", PASSWORD, listen=EVERYWHERE)
        self.properties.write_text(
            f"# of kcat\nsecurity.protocol=SASL_SSL\nssl.ca.location={self.ca}\nsasl.mechanism={MECHANISM}\n"
            f"sasl.username=gameday\nsasl.password={PASSWORD}\n"
        )
        made = {
            name: service_in_container(KAFKA, server, (self.folder,), (OUTSIDE[name],))
            for name, server in servers.items()
        }
        made["db"] = service_in_container(POSTGRES, database, (self.folder, postgres.home(state)))
        made["db"]["expose"] = ["5432"]  # as the image says
        return {
            **made,
            "setup": {**self._program(SETUP, "vault"), "restart": "no"},
            "terminal": self._program(TERMINAL, "terminal"),
            "ledger": self._ledger(),
        }

    def _broker(self, authority: Authority, node: int, name: str) -> Service:
        listeners = (
            kafka.Listener("DIRECT", BETWEEN, BETWEEN, name),
            kafka.Listener("INSIDE", INSIDE, INSIDE, name),
            kafka.Listener("OUTSIDE", OUTSIDE[name], OUTSIDE[name]),
        )
        made = kafka.process(self.folder / name, listeners, CONTROLLER, self.project, listen=EVERYWHERE)
        certificate, key = (Path(file).read_text() for file in authority.certificate(name, name, "127.0.0.1"))
        keystore = self.folder / name / "keystore.pem"
        keystore.write_text(key + certificate)
        secured = SECURED.format(
            between=BETWEEN, inside=INSIDE, outside=OUTSIDE[name], controller=CONTROLLER, keystore=keystore
        )
        secured += "".join(FOR_EACH.format(listener=listener, login=LOGIN) for listener in ("inside", "outside"))
        return one_of_several(made, name, node, [f"{other}:{CONTROLLER}" for other in BROKERS], secured)

    def _ledger(self, *options: str) -> dict[str, Any]:
        return {**self._program(LEDGER, "ledger", *options), "deploy": {"replicas": 2}}

    def _program(self, image: str, name: str, *options: str) -> dict[str, Any]:
        env = {"PYTHONPATH": str(ROOT), "CA": str(self.ca), "PASSWORD": PASSWORD}
        argv = [sys.executable, "-m", f"tests.docker.foreign.{name}", *options]
        return in_container(image, argv, env, (self.folder,))


if __name__ == "__main__":
    Bank.main(sys.argv[1])
