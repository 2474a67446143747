"""How a bank's programs reach its brokers and its database, from inside of its network; and what its people have set up
there once: `python -m tests.docker.foreign.vault` makes users, topic and table."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    NewTopic,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from compose.service import answers
from gameday.system.polling import until

__all__ = ["BROKERS", "DATABASE", "MECHANISM", "TOPIC", "USERS", "client", "connected"]

BROKERS = ("kafka-1", "kafka-2", "kafka-3")
BETWEEN, INSIDE = 9091, 9092
"""Ports of the listeners: of the brokers among themselves, and of the bank's programs."""

TOPIC, PARTITIONS = "payments", 3
USERS = ("terminal", "ledger", "gameday")
MECHANISM = "SCRAM-SHA-512"
DATABASE = "bank"
ITERATIONS = 4096
CONNECT_S = 5
SERVES_WITHIN_S = 180.0


def client(user: str) -> dict[str, str]:
    """librdkafka's settings of one of the bank's programs."""
    return {
        "bootstrap.servers": ",".join(f"{name}:{INSIDE}" for name in BROKERS),
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": os.environ["CA"],
        "sasl.mechanism": MECHANISM,
        "sasl.username": user,
        "sasl.password": os.environ["PASSWORD"],
    }


def address(database: str) -> str:
    return f"postgresql://bank:{os.environ['PASSWORD']}@db:5432/{database}"


def connected() -> psycopg.Connection:
    return psycopg.connect(address(DATABASE), autocommit=True, connect_timeout=CONNECT_S)


def main() -> None:
    """Whatever is there already stays."""
    until(partial(answers, address("postgres"), 2.0), SERVES_WITHIN_S, 0.5, "the bank's database")
    with psycopg.connect(address("postgres"), autocommit=True, connect_timeout=CONNECT_S) as server:
        if server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
            server.execute(f"CREATE DATABASE {DATABASE}")
            with connected() as own:
                own.execute(Path(__file__).with_name("payments.sql").read_bytes())
    admin = AdminClient({"bootstrap.servers": ",".join(f"{name}:{BETWEEN}" for name in BROKERS), "log_level": 0})

    def all_known() -> bool:
        return len(admin.list_topics(timeout=5).brokers) == len(BROKERS)

    until(all_known, SERVES_WITHIN_S, 0.5, "every broker to be known")
    scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    password = os.environ["PASSWORD"].encode()
    wanted: list[Any] = [UserScramCredentialUpsertion(user, scram, password) for user in USERS]
    for done in admin.alter_user_scram_credentials(wanted).values():
        done.result(30)
    if TOPIC not in admin.list_topics(timeout=30).topics:
        new = NewTopic(TOPIC, PARTITIONS, len(BROKERS), config={"min.insync.replicas": "2"})
        admin.create_topics([new])[TOPIC].result(30)


if __name__ == "__main__":
    main()
