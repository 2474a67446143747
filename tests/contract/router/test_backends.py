"""The same over each broker of the router: what is published is handed out until it is acknowledged, whatever dies; and
what a broker can't do is as its caps say."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer

from compose.router.processes import shares
from compose.service import Service
from gameday.system.polling import until
from pipelines.router.backends import ID, REASON, Backend, Delivery, Names, Unpublished
from pipelines.router.backends.jetstream import JetStream, stream_of
from pipelines.router.backends.kafka import Kafka
from pipelines.router.backends.valkey import Valkey
from tests.contract.conftest import freeze, new_broker, new_nats, new_valkey, serving
from tests.contract.streamrigs import RedisStream, connected

pytestmark = pytest.mark.suite("brokers")

ACK_WAIT_S = 1.5
MAX_DELIVER = 3
COMES_WITHIN_S = 20.0
BACK_WITHIN_S = 20.0
"""A broker of Kafka's needs a few seconds to start, and a share group some more."""


@dataclass
class Rig:
    """A broker that can be killed. make: a backend of these names. letters: what is dead, as (id, reason)."""

    service: Service
    make: Callable[[Names], Backend]
    letters: Callable[[Names], list[tuple[str, str]]]
    running: Any = None
    process: subprocess.Popen[bytes] | None = None
    names: Names = field(default_factory=lambda: Names(f"requests-{uuid4()}", f"dlq.{uuid4()}", f"routers-{uuid4()}"))

    def start(self) -> None:
        self.running = serving(self.service)
        self.process = self.running.__enter__()

    def stop(self) -> None:
        self.running.__exit__(None, None, None)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.stop()


def nats_rig(folder: Path) -> Rig:
    service, url = new_nats(folder)

    def letters(names: Names) -> list[tuple[str, str]]:
        import asyncio

        async def read() -> list[tuple[str, str]]:
            client = await connected(url)
            try:
                js = client.jetstream()
                state = (await js.stream_info(stream_of(names.dead))).state
                found = [await js.get_msg(stream_of(names.dead), n) for n in range(1, state.last_seq + 1)]
                told = [one.headers or {} for one in found]
                return [(headers[ID], headers[REASON]) for headers in told]
            finally:
                await client.close()

        return asyncio.run(read())

    return Rig(service, lambda names: JetStream(url, names, ACK_WAIT_S, MAX_DELIVER), letters)


def valkey_rig(folder: Path) -> Rig:
    service, url = new_valkey(folder)

    def letters(names: Names) -> list[tuple[str, str]]:
        stream = RedisStream.__new__(RedisStream)
        stream.url = url
        with stream.client() as client:
            entries = client.xrange(names.dead)
        return [(fields[ID.encode()].decode(), fields[REASON.encode()].decode()) for _, fields in entries]

    return Rig(service, lambda names: Valkey(url, names, ACK_WAIT_S, MAX_DELIVER), letters)


def kafka_rig(folder: Path) -> Rig:
    service = new_broker(folder)
    properties = folder / "server.properties"
    properties.write_text(properties.read_text() + shares(ACK_WAIT_S, MAX_DELIVER))
    brokers = str(service.ready).removeprefix("kafka://")

    def letters(names: Names) -> list[tuple[str, str]]:
        reader = Consumer(
            {"bootstrap.servers": brokers, "group.id": str(uuid4()), "auto.offset.reset": "earliest", "log_level": 0}
        )
        try:
            reader.subscribe([names.dead])
            found, end = [], time.monotonic() + 5
            while time.monotonic() < end:
                message = reader.poll(0.2)
                if message is not None and message.error() is None:
                    headers = dict(message.headers() or ())
                    key, reason = message.key(), headers["__dlq.errors.message"]
                    assert isinstance(key, bytes)
                    assert isinstance(reason, bytes)
                    found.append((key.decode(), reason.decode()))
            return found
        finally:
            reader.close()

    return Rig(service, lambda names: Kafka(brokers, names, ACK_WAIT_S, MAX_DELIVER), letters)


KINDS = {"jetstream": nats_rig, "valkey": valkey_rig, "kafka": kafka_rig}


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = KINDS[request.param](tmp_path_factory.mktemp(request.param))
    rig.start()
    if request.param == "kafka":
        from compose.servers.kafka import upgrade

        upgrade(str(rig.service.ready).removeprefix("kafka://"), {"share.version": 2})
    yield rig
    rig.stop()


@pytest.fixture
def rig(server: Rig) -> Rig:
    """With names of the test's own."""
    server.names = Names(f"requests-{uuid4()}", f"dlq.{uuid4()}", f"routers-{uuid4()}")
    return server


def joined(rig: Rig) -> Backend:
    backend = rig.make(rig.names)
    backend.connect()
    return backend


def published(rig: Rig, backend: Backend, *ids: str) -> None:
    for one in ids:
        backend.publish(rig.names.requests, one, f"payload of {one}".encode())


def fetched(backend: Backend, within_s: float = COMES_WITHIN_S) -> list[Delivery]:
    """The next that come at all."""
    return until(lambda: backend.fetch(10, 0.5), within_s=within_s, every_s=0.01, what="a request")


def all_of(backend: Backend, count: int) -> list[Delivery]:
    """So many, each acknowledged as it comes."""
    found: list[Delivery] = []

    def more() -> bool:
        for one in backend.fetch(10, 0.5):
            assert backend.ack(one)
            found.append(one)
        return len(found) >= count

    until(more, within_s=COMES_WITHIN_S, every_s=0.01, what=f"{count} requests")
    return found


def test_what_is_published_is_handed_out_and_then_no_more(rig: Rig) -> None:
    """Each once, as it was, the first time; and nothing comes when all are acknowledged."""
    backend = joined(rig)
    published(rig, backend, "a", "b", "c")
    found = all_of(backend, 3)
    assert sorted((one.id, one.payload, one.attempt) for one in found) == [
        (name, f"payload of {name}".encode(), 1) for name in ("a", "b", "c")
    ]
    assert backend.fetch(10, 2 * ACK_WAIT_S) == []
    assert backend.info().connected


def test_a_request_that_is_published_again_is_there_once(rig: Rig) -> None:
    """Where the broker remembers ids; else it is there twice, as the caps say."""
    backend = joined(rig)
    published(rig, backend, "a", "a", "b")
    expected = ["a", "b"] if backend.caps.once == "window" else ["a", "a", "b"]
    assert sorted(one.id for one in all_of(backend, len(expected))) == expected
    assert backend.fetch(10, 0.5) == []


def test_what_a_dead_consumer_held_is_handed_to_another(rig: Rig) -> None:
    """After the time that it had, and counted."""
    first, second = joined(rig), joined(rig)
    published(rig, first, "a")
    (held,) = fetched(first)
    since = time.monotonic()
    (again,) = fetched(second)
    assert (again.id, again.attempt) == (held.id, 2)
    assert time.monotonic() - since > ACK_WAIT_S / 2
    assert second.ack(again)


def test_a_negative_answer_brings_it_again(rig: Rig) -> None:
    """After the delay, where the broker can wait; else at once."""
    backend = joined(rig)
    published(rig, backend, "a")
    (first,) = fetched(backend)
    since = time.monotonic()
    assert backend.nak(first, 0.8, "busy")
    (again,) = fetched(backend)
    waited_s = time.monotonic() - since
    assert (again.id, again.attempt) == ("a", 2)
    assert (waited_s >= 0.7) == backend.caps.delay
    assert backend.ack(again)


def test_what_fails_always_is_dead_once_after_as_many_deliveries_as_it_may_have(rig: Rig) -> None:
    """Its neighbours are not held up; the letter has its id, and a reason of whoever wrote it."""
    backend = joined(rig)
    published(rig, backend, "poison", "sound")
    attempts: list[int] = []
    sound: list[int] = []

    def dead() -> bool:
        for one in backend.fetch(10, 0.5):
            if one.id == "sound":
                sound.append(one.attempt)
                assert backend.ack(one)
            else:
                attempts.append(one.attempt)
                assert backend.nak(one, 0.0, "it raises")
        return len(attempts) >= MAX_DELIVER and bool(rig.letters(rig.names))

    until(dead, within_s=COMES_WITHIN_S, every_s=0.01, what="a dead letter")
    assert backend.fetch(10, 2 * ACK_WAIT_S) == []
    assert (attempts, sound) == ([1, 2, 3], [1])
    ((name, reason),) = rig.letters(rig.names)
    assert name == "poison"
    assert (reason == "handed out 3 times") == (backend.caps.dead == "router")


def test_what_is_refused_for_good_is_dead_at_once(rig: Rig) -> None:
    """It is never handed out again."""
    backend = joined(rig)
    published(rig, backend, "wrong")
    (one,) = fetched(backend)
    assert backend.dead(one, "no such tenant")
    until(lambda: rig.letters(rig.names), within_s=COMES_WITHIN_S, what="a dead letter")
    assert backend.fetch(10, 2 * ACK_WAIT_S) == []
    ((name, reason),) = rig.letters(rig.names)
    assert name == "wrong"
    assert (reason == "no such tenant") == (backend.caps.dead == "router")


def test_a_killed_broker_loses_nothing_that_it_had_taken(rig: Rig) -> None:
    """A backend goes on when it is back: what was published is handed out, also what another one had been given and has
    not answered; and what could not be published was said to be so."""
    first, second = joined(rig), joined(rig)
    published(rig, first, "a", "b")
    assert {one.id for one in fetched(first)} <= {"a", "b"}
    rig.kill()
    with pytest.raises(Unpublished) as raised:
        published(rig, second, "c")
    assert not raised.value.definite
    assert second.fetch(10, 0.2) == []
    assert not second.info().connected
    rig.start()

    def accepted() -> bool:
        try:
            published(rig, second, "c")
        except Unpublished:
            return False
        return True

    until(accepted, within_s=BACK_WITHIN_S, every_s=0.05, what="a broker that takes requests")
    found: set[str] = set()

    def all_there() -> bool:
        for one in second.fetch(10, 0.5):
            if second.ack(one):
                found.add(one.id)
        return found == {"a", "b", "c"}

    until(all_there, within_s=BACK_WITHIN_S, every_s=0.05, what="all three")


def test_a_backend_goes_on_after_its_broker_has_hung(rig: Rig) -> None:
    """For longer than a call lasts, while a negative answer was under way: it is said to be none, and what comes late
    ends no reading."""
    backend = joined(rig)
    published(rig, backend, "a")
    (one,) = fetched(backend)
    assert rig.process is not None
    freeze(rig.process.pid)
    try:
        taken = backend.nak(one, 0.0, "busy")
    finally:
        rig.process.send_signal(signal.SIGCONT)
    assert not taken
    published(rig, backend, "b")
    found: set[str] = set()

    def both() -> bool:
        found.update(again.id for again in backend.fetch(10, 0.5) if backend.ack(again))
        return found == {"a", "b"}

    until(both, within_s=BACK_WITHIN_S, every_s=0.05, what="both requests")


def test_an_answer_that_a_broker_did_not_take_is_said_to_be_none(rig: Rig) -> None:
    """It may be handed out again."""
    backend = joined(rig)
    published(rig, backend, "a")
    (one,) = fetched(backend)
    rig.kill()
    assert not backend.ack(one)
    rig.start()


def test_the_count_of_deliveries_outlives_a_kill_where_the_caps_say_so(rig: Rig) -> None:
    """Of those that were answered; else it may begin anew, and a bound on it is none."""
    backend = joined(rig)
    published(rig, backend, "a")
    for attempt in (1, 2):
        (one,) = fetched(backend)
        assert one.attempt == attempt
        assert backend.nak(one, 0.0, "busy")
    rig.kill()
    rig.start()
    (again,) = fetched(backend, BACK_WITHIN_S)
    assert again.attempt == 3 if backend.caps.counted else 1 <= again.attempt <= 3


def test_dead_letters_that_kafka_would_drop_are_refused_before() -> None:
    """A topic with another name is written to by nobody."""
    with pytest.raises(ValueError, match=r"begins with 'dlq.'"):
        Kafka("127.0.0.1:1", Names("r", "dead"), 1.0, 3)
