"""Roles of several members against real servers: three Kafka brokers, of which one is struck or all, a consumer group
of two processes; and a consumer that is held back until its log is about to delete what it has not read.

The general tests (flows/any) are carried out as a night does it, from preflight to the verdict.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, ElectionType, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from compose import supervisor
from compose.ports import free_ports
from compose.servers import kafka as server
from compose.service import Service, python
from flows import definitions
from gameday.codec import load_evidence
from gameday.drivers.kafka.wire import Cluster
from gameday.model import Evidence, Outcome, RunResult, Verdict
from gameday.records.attempts import Reader
from gameday.run import Run
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from gameday.system.polling import until
from tasks.run import arguments, interpret, plain
from tests.contract.copier import SINK, SOURCE
from tests.severalbrokers import one_of_several

pytestmark = [pytest.mark.suite("members"), pytest.mark.timeout(400)]

PARTITIONS = 3
SERVES_WITHIN_S = 120.0
ENDS_WITHIN_S = 30.0

LOG = """
log.initial.task.delay.ms=500
log.retention.check.interval.ms=500
"""
"""So that a retention of seconds is seen."""

CONFIG = """
name = "several"
history = "postgresql://nobody@127.0.0.1:1/none"
prefect.api_url = "http://127.0.0.1:1/api"
hosts.local.socket = "{socket}"

[components.broker]
members = [{brokers_named}]

[components.copier]
role = "consumer"
members = ["copier-1", "copier-2"]

[canary]
driver = "kafka"
brokers = "{brokers}"
topic = "orders"
key = "{key}"
text = '{{"n": {n}, "id": "{key}", "at": "{now}"}}'
fields = { id = "{key}" }
rate_hz = 20

[streams.canary]
key = ["n"]
sequence = "n"
time = "at"
fields = { id = "text", at = "time" }
hops = ["canary", "log", "copies"]
visible = "copies"
path = ["broker", "copier"]

[hops.log]
driver = "kafka"
brokers = "{brokers}"
topics = ["orders"]
where = { "$key" = "gameday-*" }

[hops.copies]
driver = "kafka"
brokers = "{brokers}"
topics = ["copies"]
where = { "$key" = "gameday-*" }

[cursors.copiers]
driver = "kafka"
component = "copier"
brokers = "{brokers}"
group = "copiers"
topics = ["orders"]

[watches.serving]
driver = "kafka.Serving"
brokers = "{brokers}"
topics = ["orders"]
rate_hz = 5
"""

BROKER = """
[components.{name}]
opt_in = true
probes.protocol = {{ driver = "kafka", address = "127.0.0.1:{port}" }}
"""
COPIER = """
[components.{name}]
opt_in = true
probes.health = {{ driver = "http", url = "http://127.0.0.1:{port}/healthz" }}
"""


@dataclasses.dataclass
class Platform:
    """What runs, and gameday's stack of it."""

    stack: Stack
    brokers: str

    def run(self, name: str, **params: Any) -> tuple[RunResult, Evidence, list[str]]:
        """One general test: what came of it, what that rests on, and what was said."""
        test = definitions(self.stack.path)[name]
        said: list[str] = []
        run = Run(self.stack, name, arguments(test, params), test(**params), "night", said.append)
        result = interpret(run, plain, lambda _: None)
        return result, load_evidence(self.stack.state.run(result.id)), said

    def leaders(self) -> Mapping[tuple[str, int], int]:
        with Cluster(self.brokers, 5.0) as cluster:
            return cluster.leaders([SOURCE])

    def first_leads(self) -> bool:
        """Whether the first broker leads something. It is asked for: one that was away leads nothing by itself."""
        admin = AdminClient({"bootstrap.servers": self.brokers})  # kept: what it was asked for ends with it
        with suppress(KafkaException):
            admin.elect_leaders(ElectionType.PREFERRED).result(20)
        return 1 in self.leaders().values()


@contextmanager
def up(folder: Path, count: int, topic: Mapping[str, str]) -> Iterator[Platform]:
    """So many brokers and two copiers under a supervisor. topic: the settings of what is copied."""
    server.get(print)
    state = State(folder).ensure()
    ports, controllers = free_ports(count), free_ports(count)
    brokers = ",".join(f"127.0.0.1:{port}" for port in ports)
    voters = [f"127.0.0.1:{port}" for port in controllers]
    services = [_broker(state, node, port, voters) for node, port in enumerate(ports, start=1)]
    health = dict(zip(("copier-1", "copier-2"), free_ports(2), strict=True))
    services += [_copier(state, name, port, brokers) for name, port in health.items()]
    named = {f"broker-{node}": port for node, port in enumerate(ports, start=1)}
    supervisor.launch(state, services)
    try:
        _start(state, *named)
        _make_topics(brokers, count, topic)
        _start(state, *health)
        text = CONFIG.replace("{{", "{").replace("}}", "}").replace("{brokers_named}", ", ".join(map(repr, named)))
        text = text.replace("{brokers}", brokers).replace("{socket}", str(state.supervisor_socket))
        text += "".join(BROKER.format(name=name, port=port) for name, port in named.items())
        text += "".join(COPIER.format(name=name, port=port) for name, port in health.items())
        path = folder / "gameday.toml"
        path.write_text(text)
        yield Platform(open_stack(path, state), brokers)
    finally:
        supervisor.ask(state, op="shutdown")
        until(lambda: supervisor.pid_of(state) is None, ENDS_WITHIN_S, what="the supervisor's end")


def _broker(state: State, node: int, port: int, voters: Sequence[str]) -> Service:
    name = f"broker-{node}"
    controller = int(voters[node - 1].rpartition(":")[2])
    listener = server.Listener("DIRECT", port, port)
    made = server.process(state.servers / name, (listener,), controller, cluster="several")
    return one_of_several(made, name, node, voters, LOG)


def _copier(state: State, name: str, port: int, brokers: str) -> Service:
    folder = state.servers / name
    folder.mkdir(parents=True)
    env = {"BROKERS": brokers, "PORT": str(port)}
    return python(name, folder, "-m", "tests.contract.copier", env=env, ready=f"http://127.0.0.1:{port}/healthz")


def _start(state: State, *names: str) -> None:
    for name in names:
        supervisor.ask(state, op="start", name=name)

    def ready() -> bool:
        status = supervisor.ask(state, op="status")["processes"]
        return all(status[name]["ready"] for name in names)

    until(ready, SERVES_WITHIN_S, every_s=0.2, what=", ".join(names))


def _make_topics(brokers: str, count: int, settings: Mapping[str, str]) -> None:
    admin = AdminClient({"bootstrap.servers": brokers})

    def registered() -> bool:
        return len(admin.list_topics(timeout=5).brokers) == count

    until(registered, SERVES_WITHIN_S, every_s=0.5, what="every broker to be known")
    replicated = {"min.insync.replicas": str(min(count, 2))}
    new = [
        NewTopic(SOURCE, PARTITIONS, count, config={**replicated, **settings}),
        NewTopic(SINK, PARTITIONS, count, config=replicated),
    ]
    for future in admin.create_topics(new).values():
        future.result(30)


def numbers(brokers: str) -> set[int]:
    """The numbers of all records that were copied."""
    settings = {"bootstrap.servers": brokers, "group.id": "looks", "enable.partition.eof": True}
    consumer = Consumer({**settings, "enable.auto.commit": False})
    consumer.assign([TopicPartition(SINK, partition, 0) for partition in range(PARTITIONS)])
    found: set[int] = set()
    ended: set[int] = set()

    def all_read() -> bool:
        for one in consumer.consume(1000, 0.5):
            if (error := one.error()) is None:
                found.add(int(json.loads(one.value() or b"")["n"]))
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(one.partition() or 0)
        return len(ended) == PARTITIONS

    until(all_read, within_s=30, what="the end of all that was copied")
    consumer.close()
    return found


def findings(result: RunResult) -> dict[str, tuple[Verdict, str]]:
    return {one.check: (one.verdict, one.why) for one in result.findings}


# ---- three brokers ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with up(tmp_path_factory.mktemp("three"), 3, {}) as platform:
        yield platform


@pytest.mark.parametrize("name", ["crash", "hang"])
def test_one_of_three_brokers_is_struck_and_the_others_serve(three: Platform, name: str) -> None:
    """What it led another leads, within the time of an election; nothing is lost, and the run says whom it struck."""
    until(three.first_leads, within_s=60, every_s=0.5, what="the first broker to lead again what it did")
    result, evidence, said = three.run(name, component="broker")
    told = findings(result)
    assert result.verdict is Verdict.PASS, (result.why, told, said)
    assert (evidence.component, evidence.spared) == ("broker-1", ("broker-2", "broker-3"))
    assert {act.args["component"] for act in evidence.acts} == {"broker-1"}
    assert any("now breaking broker-1" in line for line in said)
    verdict, why = told["served"]
    assert (verdict, "have another leader" in why, ": 0 of" in why) == (Verdict.PASS, True, False), why
    assert told["no_loss"][0] is told["no_duplicates"][0] is told["offsets_advance"][0] is Verdict.PASS


def test_all_three_brokers_are_struck_as_one_was_before(three: Platform) -> None:
    """Nobody is left to take over; all have to be back before service is."""
    result, evidence, said = three.run("crash", component="broker", members="all")
    told = findings(result)
    assert result.verdict is Verdict.PASS, (result.why, told, said)
    assert evidence.together == ("broker-1", "broker-2", "broker-3")
    assert {act.args["component"] for act in evidence.acts} == set(evidence.together)
    assert "served" not in told
    assert told["alert"] == (
        Verdict.SKIPPED,
        'no alert is named for it. Remedy: [alerts.roles.broker] crash = "…" in gameday.toml',
    )


# ---- a group of two consumers ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with up(tmp_path_factory.mktemp("one"), 1, {"retention.ms": "600000"}) as platform:
        yield platform


@pytest.mark.parametrize("members", ["one", "all"])
def test_a_member_of_a_group_is_killed_and_its_partitions_go_on(one: Platform, members: str) -> None:
    """From what was committed of them, whoever has them now: nothing is lost, and each position moves on."""
    result, evidence, said = one.run("crash", component="copier", members=members)
    told = findings(result)
    assert result.verdict is Verdict.PASS, (result.why, told, said)
    assert evidence.timed == (("copier-1",) if members == "one" else ("copier-1", "copier-2"))
    assert told["offsets_advance"][0] is Verdict.PASS
    assert evidence.healed is not None
    assert evidence.ends is not None
    assert evidence.baseline is not None
    for slot, at in evidence.ends.positions["copiers"].items():
        assert at > evidence.baseline.marks.positions["copiers"][slot], slot
        seen = [s.value for s in evidence.samples[f"position/copiers/{slot}"] if s.value is not None]
        assert seen == sorted(seen), f"{slot} went back"


# ---- held back -------------------------------------------------------------------------------------------------------


def test_a_lag_that_is_shorter_than_the_retention_tells_how_far_away_that_was(one: Platform) -> None:
    """Both members hang until what they have not read is twelve seconds old, of the ten minutes that the log keeps."""
    result, evidence, said = one.run("lag", component="copier", cursor="copiers", lag_s=12.0)
    told = findings(result)
    assert result.verdict is Verdict.PASS, (result.why, told, said)
    assert evidence.together == ("copier-1", "copier-2")
    verdict, why = told["retained"]
    assert verdict is Verdict.PASS, why
    assert "the oldest record that copiers had not read was 1" in why, why
    assert "% of the 600 s that the log keeps" in why, why
    worst = evidence.symptoms["retention"]["copiers"]
    assert set(worst) <= {f"{SOURCE}/{partition}" for partition in range(PARTITIONS)}
    assert max(one["unread_s"] for one in worst.values()) >= 12.0


def test_a_retention_that_is_shorter_than_the_lag_loses_records(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The planted defect. They are lost where they were not read, by their own keys; that the log has also deleted what
    everybody had read is no loss."""
    short = {"retention.ms": "8000", "segment.ms": "1000"}
    with up(tmp_path_factory.mktemp("short"), 1, short) as platform:
        result, evidence, said = platform.run("lag", component="copier", cursor="copiers", share=9.0, lag_s=30.0)
        copied = numbers(platform.brokers)
        reader = Reader(platform.stack.state.canary)
        reader.update()
    told = findings(result)
    assert result.verdict is Verdict.FAIL, (result.why, told, said)
    assert {check for check, (verdict, _) in told.items() if verdict is Verdict.FAIL} == {"no_loss", "retained"}
    assert told["no_loss"][1].startswith("copies has "), told["no_loss"]
    assert "records were deleted before copiers had committed them" in told["retained"][1]
    assert "(the log keeps 8 s)" in told["retained"][1]
    assert result.counts["lost"]["log"] == 0
    assert evidence.window is not None
    newest = max(evidence.window.hi.values())
    done = {one.number for one in reader.attempts if one.outcome is Outcome.DONE and one.number <= newest}
    lost = done - copied
    (difference,) = evidence.symptoms["differences"].values()
    assert result.counts["lost"]["copies"] == difference["missing"]["count"] == len(lost) > 0
    assert {int(key) for key in difference["missing"]["ids"]} <= lost
