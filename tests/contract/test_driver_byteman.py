"""Failpoints in a JVM that runs, for real: a broker of Kafka, which knows nothing of them."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from compose.ports import free_ports
from compose.servers import byteman, kafka
from compose.service import answers
from gameday.drivers.byteman import Place, Points
from gameday.errors import ConfigError, DriverError, TooLate
from gameday.ports import Points as PointsProtocol
from gameday.system.polling import until
from tests.contract.conftest import serving
from tests.contract.sockets import saying

TOPIC = "t"
PRODUCE = "broker::produce"
DECLARED = {
    PRODUCE: Place("kafka.server.KafkaApis", "handleProduceRequest", "before a batch of records is taken"),
    "broker::answered": Place("kafka.server.KafkaApis", "handleProduceRequest", "after it was taken", at="exit"),
    "broker::never": Place("kafka.server.KafkaApis", "handleNothing", "of a method that there is not"),
}
WITHIN_S = 20.0


class Broker:
    """A broker whose code can be armed, and a topic in it."""

    def __init__(self, folder: Path) -> None:
        direct, controller, port = free_ports(3)
        self.address = f"127.0.0.1:{direct}"
        self.points = Points(port, str(folder / "points.jsonl"), DECLARED)
        service = kafka.process(folder / "kafka", (kafka.Listener("DIRECT", direct, direct),), controller, "armable")
        self.service = byteman.armable(service, port)

    def send(self) -> str:
        """One record; what came of it: "" or the error."""
        told: list[Any] = []
        settings = {
            "bootstrap.servers": self.address,
            "message.timeout.ms": 5000,
            "message.send.max.retries": 0,
            "log_level": 0,
        }
        producer = Producer(settings)
        producer.produce(TOPIC, b"x", on_delivery=lambda error, _: told.append(error))
        producer.flush(WITHIN_S)
        return "" if told[0] is None else str(told[0].name())


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    kafka.get(lambda _: None)
    byteman.get(lambda _: None)
    made = Broker(tmp_path_factory.mktemp("armable"))
    with serving(made.service):
        kafka.create_topics(made.address, {TOPIC: 1})
        yield made


@pytest.fixture
def points(broker: Broker) -> Iterator[Points]:
    """Nothing is armed before and after."""
    yield broker.points
    for point in DECLARED:
        broker.points.disarm(point)


def test_it_offers_the_protocol(points: Points) -> None:
    """Everything that Points asks for."""
    assert isinstance(points, PointsProtocol)


def test_arm_fire_and_disarm(broker: Broker, points: Points) -> None:
    """What is armed is listed, with whose it is; what fired is in the evidence; afterwards nothing is armed."""
    assert points.listed()[PRODUCE]["term"] is None
    points.arm(PRODUCE, "2,4@print", 60, "run-1")
    for _ in range(5):
        assert broker.send() == ""
    points.wait(PRODUCE, 2, WITHIN_S)
    listed = points.listed()[PRODUCE]
    assert (listed["term"], listed["run"], listed["fired"]) == ("2,4@print", "run-1", 2)
    assert 0 < listed["left_s"] <= 60
    assert listed["about"] == DECLARED[PRODUCE].about
    assert [(f["hit"], f["fired"], f["action"], f["run"]) for f in points.firings(PRODUCE)] == [
        (2, 1, "print", "run-1"),
        (4, 2, "print", "run-1"),
    ]
    points.disarm(PRODUCE)
    assert points.listed()[PRODUCE]["term"] is None
    points.disarm(PRODUCE)  # again does no harm


def test_hits_count_from_the_arming_on(broker: Broker, points: Points) -> None:
    """A point that is armed anew has had no hit, and is not armed twice."""
    before = len(points.firings(PRODUCE))
    for _ in range(2):
        points.arm(PRODUCE, "1*off->1*print", 60, "run-2")
    for _ in range(3):
        broker.send()
    points.wait(PRODUCE, 1, WITHIN_S)
    assert [f["hit"] for f in points.firings(PRODUCE)[before:]] == [2]


def test_what_is_raised_is_raised_in_the_code(broker: Broker, points: Points) -> None:
    """The broker answers with its own error; any text is carried through."""
    points.arm(PRODUCE, r'1*raise(java.lang.IllegalStateException: a "text" of \\ ours)', 60, 'a "run"')
    assert broker.send() == "UNKNOWN"
    points.wait(PRODUCE, 1, WITHIN_S)
    assert points.firings(PRODUCE)[-1]["run"] == 'a "run"'
    until(lambda: r'a "text" of \ ours' in broker.service.log.read_text(), WITHIN_S, what="the broker to tell it")
    assert broker.send() == ""


def test_the_entry_is_before_the_exit(broker: Broker, points: Points) -> None:
    """A point is where it was declared."""
    points.arm(PRODUCE, "1*print", 60, "run-3")
    points.arm("broker::answered", "1*print", 60, "run-3")
    broker.send()
    points.wait("broker::answered", 1, WITHIN_S)
    lines = [json.loads(line) for line in Path(points.evidence).read_text().splitlines()]
    assert [one["point"] for one in lines if one["run"] == "run-3"] == [PRODUCE, "broker::answered"]


def test_it_ends_by_itself(broker: Broker, points: Points) -> None:
    """When its time to live is over nothing is armed, and nothing fires."""
    points.arm(PRODUCE, "print", 0.5, "run-4")
    until(lambda: points.listed()[PRODUCE]["term"] is None, WITHIN_S, what="the end of its time to live")
    broker.send()
    assert not [f for f in points.firings(PRODUCE) if f["run"] == "run-4"]


def test_what_can_not_take_is_refused_or_told(broker: Broker, points: Points) -> None:
    """A rule that the agent can't read leaves nothing; of a method that there is not, the list and the wait say so."""
    with pytest.raises(ConfigError, match=r"'pause' can't be armed in a JVM\. Remedy: one term with an action of kill"):
        points.arm(PRODUCE, "pause", 60, "run-5")
    with pytest.raises(ConfigError, match="no action: one of"):
        points.arm(PRODUCE, "explode", 60, "run-5")
    with pytest.raises(ConfigError, match=r"no point 'broker::other' is declared\. Declared are broker::produce"):
        points.arm("broker::other", "kill", 60, "run-5")
    with pytest.raises(ConfigError, match=r"it did not take: .*ParseException"):
        points.arm(PRODUCE, "raise(java.lang.new: a word of the language)", 60, "run-5")
    with pytest.raises(ConfigError, match=r"method is 'a.nb', with a line's end"):
        replace(DECLARED[PRODUCE], method="a\nb")
    assert points.listed()[PRODUCE]["term"] is None
    points.arm("broker::never", "kill", 60, "run-5")
    assert "no class that has this method is loaded so far" in points.listed()["broker::never"]["about"]
    with pytest.raises(TooLate, match="no class that has this method is loaded so far"):
        points.wait("broker::never", 1, 0.1)


def test_an_exception_that_the_code_can_not_throw_is_told(broker: Broker, points: Points) -> None:
    """Byteman finds out when the code comes by, and prints it: nothing fires, and the wait says where to look."""
    points.arm(PRODUCE, "raise(java.lang.NoSuchOne: x)", 60, "run-6")
    assert broker.send() == ""
    with pytest.raises(TooLate, match="to fire 1 times: the code did not come by, or the JVM's log has"):
        points.wait(PRODUCE, 1, 0.1)
    assert "java.lang.NoSuchOne" in broker.service.log.read_text()


def test_a_killed_jvm_leaves_its_evidence_and_comes_back_unarmed(tmp_path: Path) -> None:
    """Noted before it acts; the next process has nothing armed, and while there is none nothing listens."""
    kafka.get(lambda _: None)
    byteman.get(lambda _: None)
    made = Broker(tmp_path)
    with serving(made.service):
        kafka.create_topics(made.address, {TOPIC: 1})
        made.points.arm(PRODUCE, "1*off->1*kill", 60, "run-7")
        for _ in range(2):
            made.send()
        until(lambda: not answers(made.service.ready, 0.5), WITHIN_S, what="the broker's end")
        assert [(f["hit"], f["action"]) for f in made.points.firings(PRODUCE)] == [(2, "kill")]
        until(lambda: not made.points.listed(), WITHIN_S, what="nobody to listen")
        made.points.disarm(PRODUCE)
        with pytest.raises(DriverError, match="no JVM listens for failpoints at 127") as caught:
            made.points.arm(PRODUCE, "kill", 60, "run-7")
        assert caught.value.definite
    with serving(made.service):
        assert made.points.listed()[PRODUCE]["term"] is None


@pytest.mark.parametrize("fires", [True, False])
def test_a_jvm_that_ends_as_it_is_armed_has_fired_or_was_not_armed(tmp_path: Path, fires: bool) -> None:
    """A point that is passed all the time kills before the agent can answer: the evidence tells. Here the agent is a
    socket that breaks off."""
    evidence = tmp_path / "points.jsonl"

    def serve(server: socket.socket) -> None:
        for _ in range(2):  # a list, and the rule
            agent, _ = server.accept()
            asked = b""
            while not asked.endswith((b"LIST\n", b"ENDLOAD\n")):
                asked += agent.recv(1 << 16)
            if asked.endswith(b"LIST\n"):
                agent.sendall(b"OK\n")
            else:
                noted = json.loads(re.findall(rb"RULE gameday \S+ (\{.*\})", asked)[0])
                fired = {"point": PRODUCE, "action": "kill", "hit": 1, "fired": 1, "at_us": 1, "pid": 1, **noted}
                evidence.write_text(json.dumps(fired) + "\n" if fires else "")
                agent.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            agent.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        points = Points(server.getsockname()[1], str(evidence), DECLARED)
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        if fires:
            points.arm(PRODUCE, "1*kill", 60, "run-9")
            assert [one["action"] for one in points.firings(PRODUCE)] == ["kill"]
        else:
            with pytest.raises(DriverError, match="the agent at"):
                points.arm(PRODUCE, "1*kill", 60, "run-9")
        thread.join(WITHIN_S)


@pytest.mark.parametrize("reset", [True, False])
def test_a_jvm_that_breaks_off_a_list_and_is_gone_has_nothing_armed(tmp_path: Path, reset: bool) -> None:
    """It ends while it answers, and closes its port a moment later. Here it is a socket."""

    def serve(server: socket.socket) -> None:
        agent, _ = server.accept()
        agent.recv(1 << 16)
        if reset:
            agent.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        agent.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        points = Points(server.getsockname()[1], str(tmp_path / "points.jsonl"), DECLARED)
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        assert points.listed() == {}
        thread.join(WITHIN_S)


def test_a_port_that_breaks_off_every_answer_is_an_error(tmp_path: Path) -> None:
    """Somebody else may listen there: that says nothing of what is armed."""
    with saying(b"220 ready") as port, pytest.raises(DriverError, match="not with an OK"):
        Points(port, str(tmp_path / "points.jsonl"), DECLARED).listed()
