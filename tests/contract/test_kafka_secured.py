"""Brokers behind TLS and SASL: one table `client` is for the library and for what is asked by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    NewTopic,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from compose.ports import free_ports
from compose.servers import kafka as server
from gameday.drivers import kafka
from gameday.errors import ConfigError, DriverError
from gameday.model import Window
from gameday.system.polling import until
from tasks.inventory import kafka as inventory
from tests.contract.certificates import Authority
from tests.contract.conftest import serving
from tests.contract.test_driver_kafka import BTC, hashes, trade
from tests.trades import TRADES

PASSWORD = "for tests: p@ss,w=rd"
TOPIC = "trades"
READ_S = 2.0

SECURED = """
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.secure.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_tester="{password}";
listener.name.secure.scram-sha-256.sasl.jaas.config={login}.scram.ScramLoginModule required;
listener.name.secure.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;
"""
LOGIN = "org.apache.kafka.common.security"

ELSEWHERE = "kafka-1.invalid"
"""Where the listener INNER sends its clients."""

Client = Mapping[str, str]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "tests")


@pytest.fixture(scope="module")
def ports() -> list[int]:
    return free_ports(4)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, authority: Authority, ports: list[int]) -> Iterator[str]:
    """host:port of the listener that takes TLS and SASL alone; one topic with a hundred trades."""
    folder = tmp_path_factory.mktemp("secured")
    direct, secure, inner, controller = ports
    listeners = (
        server.Listener("DIRECT", direct, direct),
        server.Listener("SECURE", secure, secure),
        server.Listener("INNER", inner, inner, ELSEWHERE),
    )
    service = server.process(folder, listeners, controller, cluster="secured")
    certificate, key = (Path(path).read_text() for path in authority.certificate("broker"))
    keystore = folder / "keystore.pem"
    keystore.write_text(key + certificate)
    config = folder / "server.properties"
    text = config.read_text().replace("SECURE:PLAINTEXT", "SECURE:SASL_SSL")
    config.write_text(text + SECURED.format(keystore=keystore, login=LOGIN, password=PASSWORD))
    with serving(service):
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{direct}"})
        admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(20)
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            wanted = UserScramCredentialUpsertion("tester", ScramCredentialInfo(mechanism, 4096), PASSWORD.encode())
            admin.alter_user_scram_credentials([wanted])["tester"].result(20)
        producer = Producer({"bootstrap.servers": f"127.0.0.1:{direct}", "acks": "all"})
        for number in range(1, 101):
            producer.produce(TOPIC, json.dumps(trade(number)))
        assert producer.flush(20) == 0
        yield f"127.0.0.1:{secure}"


def client(authority: Authority, mechanism: str = "PLAIN", **changes: str) -> dict[str, str]:
    found = {"security.protocol": "SASL_SSL", "ssl.ca.location": str(authority.ca), "sasl.mechanism": mechanism}
    return {**found, "sasl.username": "tester", "sasl.password": PASSWORD, **changes}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_probe_cursor_and_log_reach_it(secured: str, authority: Authority, mechanism: str) -> None:
    """What is asked by hand, and what the library reads."""
    asked = client(authority, mechanism)

    def answers() -> bool:  # a broker learns of a new user, and makes the topic of offsets, a little after it is asked
        try:
            return kafka.Lag(secured, "nobody", [TOPIC], READ_S, asked).read() == {f"{TOPIC}/0": 100.0}
        except DriverError:
            return False

    until(answers, within_s=20, what="the user and a coordinator to be known")
    assert kafka.Probe(secured, READ_S, asked).read() == {"": 1.0}
    assert kafka.Serving(secured, [TOPIC], READ_S, asked).read() == {f"{TOPIC}/0": 1.0}
    assert kafka.Cursor(secured, "nobody", [TOPIC], asked).end() == {f"{TOPIC}/0": 100}
    hop = kafka.Hop(secured, TRADES, [TOPIC], fields={"exchange_time": "exchange_us"}, client=asked)
    assert hop.heads() == {BTC: 100}
    held = hop.digest(Window({BTC: 10}, {BTC: 100}))[0].groups[BTC]
    assert (held.keys, held.sum) == (90, hashes(range(11, 101)))


@pytest.mark.parametrize(
    ("mechanism", "change", "told"),
    [
        ("PLAIN", {"sasl.password": "wrong"}, "user tester: SASL authentication failed"),
        ("SCRAM-SHA-256", {"sasl.password": "wrong"}, "user tester: SASL authentication failed"),
        ("PLAIN", {"security.protocol": "SSL"}, "closed before it had answered|timed out|reset"),
        ("PLAIN", {"security.protocol": "PLAINTEXT"}, "closed before it had answered|timed out|reset|not Kafka"),
    ],
)
def test_who_is_refused_is_told_why(
    secured: str, authority: Authority, mechanism: str, change: Client, told: str
) -> None:
    """Without the password."""
    with pytest.raises(DriverError, match=told) as raised:
        kafka.Serving(secured, [TOPIC], READ_S, client(authority, mechanism, **change)).read()
    assert PASSWORD not in str(raised.value)


def test_a_broker_that_another_authority_signed_is_refused(secured: str, authority: Authority, tmp_path: Path) -> None:
    """Unless gameday.toml says that it is not to be asked."""
    others = client(Authority(tmp_path, "others"))
    with pytest.raises(DriverError, match="certificate verify failed"):
        kafka.Probe(secured, READ_S, others).read()
    unasked = {**others, "enable.ssl.certificate.verification": "false"}
    assert kafka.Probe(secured, READ_S, unasked).read() == {"": 1.0}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"security.protocol": "TLS"}, r"'security\.protocol' is 'TLS'\. Remedy: one of PLAINTEXT, SSL"),
        ({"sasl.mechanism": "GSSAPI"}, r"'sasl\.mechanism' is 'GSSAPI'\. Remedy: one of PLAIN, SCRAM-SHA-256"),
        ({"sasl.password": ""}, r"lacks sasl\.password\. Remedy: "),
        ({"ssl.ca.location": "/nowhere.pem"}, r"ssl\.ca\.location '/nowhere\.pem': .*No such file"),
    ],
)
def test_a_mistake_names_key_value_and_remedy(authority: Authority, change: Client, told: str) -> None:
    """Before anything is asked."""
    with pytest.raises(ConfigError, match=told):
        kafka.Probe("127.0.0.1:1", READ_S, client(authority, **change))


# ---- what `gameday init` says of it ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            None,
            "They speak SASL_SSL, and were asked by PLAINTEXT. Remedy: --kafka-client FILE, with "
            "security.protocol=SASL_SSL, sasl.mechanism=SCRAM-SHA-512, sasl.username, sasl.password, ssl.ca.location "
            "where an authority of your own signed their certificates",
        ),
        (
            {"security.protocol": "SSL"},
            "They speak SASL_SSL, and were asked by SSL. Remedy: --kafka-client FILE, with ",
        ),
        ({"security.protocol": "SASL_PLAINTEXT"}, "They speak SASL_SSL, and were asked by SASL_PLAINTEXT. Remedy: "),
        ({"sasl.password": "wrong"}, "Remedy: sasl.username and sasl.password of a user whom the brokers know"),
        ({"ssl.ca.location": "others"}, "Remedy: --kafka-client ssl.ca.location=FILE, the certificate (PEM) of who"),
    ],
)
def test_init_says_what_the_brokers_demand(
    secured: str, authority: Authority, tmp_path: Path, change: Client | None, told: str
) -> None:
    """And what to give it, whatever was given."""
    others = {"ssl.ca.location": str(Authority(tmp_path, "others").ca)}
    asked = {} if change is None else client(authority, **(others if "ssl.ca.location" in change else change))
    with pytest.raises(DriverError) as raised:
        inventory.broker(secured, asked)
    assert told in str(raised.value)
    assert PASSWORD not in str(raised.value)


def test_init_reads_a_secured_log_and_who_reads_it(secured: str, authority: Authority) -> None:
    """Topic, messages, and the address of a group's member."""
    asked = client(authority, "SCRAM-SHA-512")
    member = Consumer({**asked, "bootstrap.servers": secured, "group.id": "readers", "auto.offset.reset": "earliest"})
    member.subscribe([TOPIC])

    def read() -> bool:
        return bool(member.consume(100, 0.5))

    until(read, within_s=30, what="the member to have read")
    member.commit(asynchronous=False)
    seen, troubles = inventory.broker(secured, asked)
    member.close()
    assert troubles == []
    assert [(topic.name, len(topic.messages)) for topic in seen.topics] == [(TOPIC, 100)]
    assert [(group.name, group.readers) for group in seen.groups] == [("readers", ["127.0.0.1"])]


def test_init_says_where_the_brokers_send_their_clients(secured: str, ports: list[int]) -> None:
    """A name that this machine doesn't know, with the line that tells it, where a container of that name is known."""
    inner = f"127.0.0.1:{ports[2]}"
    with pytest.raises(DriverError) as raised:
        inventory.broker(inner, {}, (), {ELSEWHERE: "172.18.0.7"})
    for told in (
        f"{ELSEWHERE}:{ports[2]}: ",
        f"send every client on to {ELSEWHERE}:{ports[2]} (advertised.listeners)",
        f"Remedy: in /etc/hosts `172.18.0.7 {ELSEWHERE}`; or a listener for this machine",
    ):
        assert told in str(raised.value)
