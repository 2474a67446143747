"""Sends the few requests of Kafka's protocol that measuring needs, on new connections, with one deadline for all.

It uses no client library, because that library's reconnecting, caching and retrying would be measured instead of the
brokers, and because a library that crashes would end the sampler. The library only reads the log: see log.py. The
versions are the oldest that Kafka 4 still speaks (KIP-896) and that have the fields; all are older than compact
encodings.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias

from gameday.drivers.kafka.secured import Refused, security
from gameday.errors import ConfigError, DriverError
from gameday.system.asking import connected, give_up

__all__ = ["EARLIEST", "LATEST", "Cluster", "Slot"]

Slot: TypeAlias = tuple[str, int]
"""(topic, partition)"""

LATEST, EARLIEST = -1, -2
"""In place of a time: the offset that the next record will get, and the lowest one kept."""

FETCH, LIST_OFFSETS, METADATA, OFFSET_FETCH, FIND_COORDINATOR, DESCRIBE_GROUPS, LIST_GROUPS = 1, 2, 3, 9, 10, 15, 16
SASL_HANDSHAKE, API_VERSIONS, DESCRIBE_CONFIGS, SASL_AUTHENTICATE = 17, 18, 32, 36
TOPIC = 2
"""The kind of resource whose settings DESCRIBE_CONFIGS is asked for."""
CLIENT = "gameday"
ANSWER_MAX_BYTES = 64 << 20
PARTITION_MAX_BYTES = 1 << 20

BATCH_STAMP_AT, BATCH_HEAD_BYTES = 35, 61
"""Where a batch of records has the time of its newest one, and the length of the batch's head, in bytes."""

UNSUPPORTED_MECHANISM = 33

ERRORS: Mapping[int, str] = {
    1: "offset out of range",
    3: "no such topic or partition",
    5: "no leader",
    6: "not the leader",
    9: "replica not available",
    14: "the group's coordinator is loading",
    15: "no coordinator",
    16: "not the coordinator",
    29: "topic authorization failed",
    30: "group authorization failed",
    UNSUPPORTED_MECHANISM: "it has not this SASL mechanism",
    58: "SASL authentication failed",
    74: "fenced leader epoch",
}
"""The usual errors; others are reported by number."""


class Cluster:
    """Connections to the brokers, made when needed, closed at the end of the block. Raises DriverError; definite,
    because no request changes anything."""

    def __init__(self, brokers: str, within_s: float, client: Mapping[str, str] = {}) -> None:
        """brokers: "host:port,…", asked in turn for the others. within_s: for all requests of this block. client:
        librdkafka's settings; those of TLS and SASL are used."""
        self._security = security(client)
        self._brokers = [_address(b) for b in brokers.split(",")]
        self._name = brokers
        self._deadline = time.monotonic() + within_s
        self._connections: dict[tuple[str, int], socket.socket] = {}
        self._addresses: dict[int, tuple[str, int]] = {}
        self._answered: set[tuple[str, int]] = set()
        self._number = 0x67616D65

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        for connection in self._connections.values():
            if kind is not None:
                give_up(connection.fileno())
            connection.close()

    def answers(self) -> None:
        """Return when the first broker says which requests it knows."""
        answer = self._ask(self._brokers[0], API_VERSIONS, 0, b"")
        self._check(answer.int16(), "ApiVersions")

    @property
    def advertised(self) -> list[tuple[str, int]]:
        """Return the addresses that the brokers advertise. After `leaders`."""
        return list(dict.fromkeys(self._addresses.values()))

    def mechanisms(self) -> list[str] | None:
        """Return the SASL mechanisms that the first broker takes; None: it wants none. For a `client` without SASL."""
        answer = self._ask(self._brokers[0], SASL_HANDSHAKE, 1, _string(""))
        error = answer.int16()
        if error != UNSUPPORTED_MECHANISM:
            return None
        return [answer.string() for _ in range(answer.int32())]

    def leaders(self, topics: Sequence[str] | None) -> dict[Slot, int]:
        """Return partition -> its leader's id, -1 if it has none now. topics: None: all of the platform's own."""
        named = struct.pack(">i", -1) if topics is None else _array(map(_string, topics))
        answer = self._ask(self._any(), METADATA, 4, named + b"\0")  # 0: create none
        answer.int32()
        for _ in range(answer.int32()):
            node, host, port = answer.int32(), answer.string(), answer.int32()
            answer.string()
            self._addresses[node] = (host, port)
        answer.string()
        answer.int32()
        found: dict[Slot, int] = {}
        for _ in range(answer.int32()):
            error, topic, internal = answer.int16(), answer.string(), answer.take(">b")
            if topics is not None:
                self._check(error, f"topic {topic}")
            for _ in range(answer.int32()):
                _error, partition, leader, replicas = answer.take(">hiii")
                answer.skip(4 * max(0, replicas))
                answer.skip(4 * max(0, answer.int32()))
                if topics is not None or not (error or internal):
                    found[topic, partition] = leader
        return dict(sorted(found.items()))

    def offsets(self, leaders: Mapping[Slot, int], at_ms: int, committed: bool = False) -> dict[Slot, int]:
        """Return partition -> the first offset not older than at_ms (-1: none is so young), or see LATEST, EARLIEST.

        committed: LATEST is the end for a reader of committed records: the beginning of the oldest open transaction.
        """
        found: dict[Slot, int] = {}
        for leader, slots in self._by_leader(leaders).items():
            wanted = _topics({slot: struct.pack(">iq", slot[1], at_ms) for slot in slots})
            head = struct.pack(">ib", -1, committed)
            answer = self._ask(self._addresses[leader], LIST_OFFSETS, 2, head + wanted)
            answer.int32()
            for topic in answer.each():
                partition, error, _stamp, offset = answer.take(">ihqq")
                self._check(error, f"{topic}/{partition}")
                found[topic, partition] = offset
        return {slot: found[slot] for slot in leaders}

    def committed(self, group: str, slots: Iterable[Slot]) -> dict[Slot, int]:
        """Return partition -> the group's next offset; without those that it never committed."""
        wanted = _topics({slot: struct.pack(">i", slot[1]) for slot in slots})
        return self._committed(group, self._ask(self._coordinator(group), OFFSET_FETCH, 1, _string(group) + wanted))

    def committed_anywhere(self, group: str) -> dict[Slot, int]:
        """Return the same for every partition in which the group has committed."""
        every = struct.pack(">i", -1)
        return self._committed(group, self._ask(self._coordinator(group), OFFSET_FETCH, 2, _string(group) + every))

    def groups(self) -> list[str]:
        """Return the names of all consumer groups. After `leaders`, which finds the brokers."""
        found: set[str] = set()
        for broker in self.advertised:
            answer = self._ask(broker, LIST_GROUPS, 0, b"")
            self._check(answer.int16(), "the list of groups")
            for _ in range(answer.int32()):
                found.add(answer.string())
                answer.string()
        return sorted(found)

    def readers(self, group: str) -> list[str]:
        """Return the addresses from which the group's members connect, one for each member; [] for a group of the
        protocol of KIP-848, which has a request of its own."""
        answer = self._ask(self._coordinator(group), DESCRIBE_GROUPS, 0, _array([_string(group)]))
        found: list[str] = []
        for _ in range(answer.int32()):
            self._check(answer.int16(), f"group {group}")
            for _ in ("group", "state", "type", "protocol"):
                answer.string()
            for _ in range(answer.int32()):
                answer.string(), answer.string()
                found.append(answer.string().lstrip("/"))
                answer.data(), answer.data()
        return sorted(found)

    def configs(self, topics: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return topic -> these settings of it; without those that this user may not see."""
        wanted = _array(map(_string, names))
        asked = _array(struct.pack(">b", TOPIC) + _string(topic) + wanted for topic in topics)
        answer = self._ask(self._any(), DESCRIBE_CONFIGS, 1, asked + b"\0")  # 0: no synonyms
        answer.int32()
        found: dict[str, dict[str, str]] = {}
        for _ in range(answer.int32()):
            answer.int16(), answer.string(), answer.take(">b")
            mine = found.setdefault(answer.string(), {})
            for _ in range(max(0, answer.int32())):
                name = answer.string()
                mine[name] = answer.string()
                answer.take(">bbb")
                for _ in range(max(0, answer.int32())):
                    answer.string(), answer.string(), answer.take(">b")
        return found

    def _coordinator(self, group: str) -> tuple[str, int]:
        answer = self._ask(self._any(), FIND_COORDINATOR, 0, _string(group))
        self._check(answer.int16(), f"group {group}")
        answer.int32()
        return answer.string(), answer.int32()

    def _committed(self, group: str, answer: _Answer) -> dict[Slot, int]:
        found: dict[Slot, int] = {}
        for topic in answer.each():
            partition, offset = answer.take(">iq")
            answer.string()
            self._check(answer.int16(), f"group {group} at {topic}/{partition}")
            if offset >= 0:
                found[topic, partition] = offset
        return found

    def fetch(self, leaders: Mapping[Slot, int], starts: Mapping[Slot, int]) -> dict[Slot, int]:
        """Return partition -> bytes of records that its leader returns from this offset on."""
        found: dict[Slot, int] = {}
        for leader, slots in self._by_leader({slot: leaders[slot] for slot in starts}).items():
            head = struct.pack(">iiiib", -1, int(self._left() * 1000), 1, ANSWER_MAX_BYTES // 2, 0)
            wanted = _topics({slot: struct.pack(">iqi", slot[1], starts[slot], PARTITION_MAX_BYTES) for slot in slots})
            answer = self._ask(self._addresses[leader], FETCH, 4, head + wanted)
            answer.int32()
            for topic in answer.each():
                partition, error, _high, _stable = answer.take(">ihqq")
                self._check(error, f"{topic}/{partition}")
                for _ in range(max(0, answer.int32())):
                    answer.take(">qq")
                found[topic, partition] = answer.skip(max(0, answer.int32()))
        return found

    def stamps(self, leaders: Mapping[Slot, int], starts: Mapping[Slot, int]) -> dict[Slot, int]:
        """Return partition -> the time of the newest record, ms since 1970, in the batch that has this offset or the
        next; without partitions that have none. One request per partition: a broker returns a request's first batch
        whatever its size."""
        found: dict[Slot, int] = {}
        for slot, start in starts.items():
            head = struct.pack(">iiiib", -1, 0, 1, 1, 0)
            wanted = _topics({slot: struct.pack(">iqi", slot[1], start, 1)})
            self._by_leader({slot: leaders[slot]})  # raises if it has none
            answer = self._ask(self._addresses[leaders[slot]], FETCH, 4, head + wanted)
            answer.int32()
            for topic in answer.each():
                partition, error, _high, _stable = answer.take(">ihqq")
                self._check(error, f"{topic}/{partition}")
                for _ in range(max(0, answer.int32())):
                    answer.take(">qq")
                records = answer.data()
                if len(records) >= BATCH_HEAD_BYTES:
                    (found[topic, partition],) = struct.unpack_from(">q", records, BATCH_STAMP_AT)
        return found

    def _by_leader(self, leaders: Mapping[Slot, int]) -> dict[int, list[Slot]]:
        found: dict[int, list[Slot]] = {}
        for slot, leader in leaders.items():
            if leader not in self._addresses:
                raise self._error(f"{slot[0]}/{slot[1]} has no leader")
            found.setdefault(leader, []).append(slot)
        return found

    def _any(self) -> tuple[str, int]:
        """Return the first of the given brokers that answers. One that hangs still accepts connections, so of several
        each gets its share of the time that is left."""
        deadline = self._deadline
        for place, address in enumerate(self._brokers[:-1]):
            if address in self._answered:
                return address
            self._deadline = time.monotonic() + (deadline - time.monotonic()) / (len(self._brokers) - place)
            try:
                self._ask(address, API_VERSIONS, 0, b"")
            except DriverError:
                if (hung := self._connections.pop(address, None)) is not None:
                    give_up(hung.fileno())
                    hung.close()
                continue
            finally:
                self._deadline = deadline
            self._answered.add(address)
            return address
        return self._brokers[-1]

    def _ask(self, address: tuple[str, int], api: int, version: int, body: bytes) -> _Answer:
        return self._exchanged(self._connection(address), api, version, body)

    def _exchanged(self, connection: socket.socket, api: int, version: int, body: bytes) -> _Answer:
        self._number += 1
        request = struct.pack(">hhi", api, version, self._number) + _string(CLIENT) + body
        try:
            connection.settimeout(self._left())
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", self._exactly(connection, 4))
            if not 6 <= size <= ANSWER_MAX_BYTES:
                raise self._error(f"an answer of {size} bytes is not Kafka's")
            answer = _Answer(self._exactly(connection, size))
        except OSError as e:
            raise self._error(f"{e or type(e).__name__}") from e
        if (number := answer.int32()) != self._number:
            raise self._error(f"an answer to another request ({number:#x})")
        return answer

    def _connection(self, address: tuple[str, int]) -> socket.socket:
        if address not in self._connections:
            try:
                connection = connected(*address, self._left())
                try:
                    connection = self._security.wrapped(connection, address[0])
                    self._log_in(connection)
                except BaseException:
                    connection.close()
                    raise
            except (OSError, Refused) as e:
                raise self._error(f"{address[0]}:{address[1]}: {e or type(e).__name__}") from e
            self._connections[address] = connection
        return self._connections[address]

    def _log_in(self, connection: socket.socket) -> None:
        if not self._security.mechanism:
            return
        answer = self._exchanged(connection, SASL_HANDSHAKE, 1, _string(self._security.mechanism))
        self._check(answer.int16(), f"SASL {self._security.mechanism}")

        def say(message: bytes) -> bytes:
            told = self._exchanged(connection, SASL_AUTHENTICATE, 0, struct.pack(">i", len(message)) + message)
            error, _why = told.int16(), told.string()
            self._check(error, f"user {self._security.user}")
            return told.data()

        self._security.log_in(say)

    def _exactly(self, connection: socket.socket, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            connection.settimeout(self._left())  # for each piece: a slow answer must not renew the deadline
            piece = connection.recv(min(size - len(data), 1 << 20))
            if not piece:
                raise ConnectionResetError("closed before it had answered")
            data += piece
        return bytes(data)

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._error("timed out")
        return left

    def _check(self, error: int, what: str) -> None:
        if error:
            raise self._error(f"{what}: {ERRORS.get(error, f'error {error}')}")

    def _error(self, text: str) -> DriverError:
        return DriverError(f"brokers {self._name}: {text}", definite=True)


class _Answer:
    """An answer's bytes, read from the front."""

    def __init__(self, data: bytes) -> None:
        self._whole = data
        self._at = 0

    def take(self, layout: str) -> Any:
        try:
            values = struct.unpack_from(layout, self._whole, self._at)
        except struct.error as e:
            raise DriverError(f"a broker's answer was cut short: {len(self._whole)} bytes", definite=True) from e
        self._at += struct.calcsize(layout)
        return values if len(values) > 1 else values[0]

    def int16(self) -> int:
        return int(self.take(">h"))

    def int32(self) -> int:
        return int(self.take(">i"))

    def string(self) -> str:
        """Null is ""."""
        size = max(0, self.int16())
        return bytes(self.take(f">{size}s")).decode() if size else ""

    def data(self) -> bytes:
        """Null is nothing."""
        size = max(0, self.int32())
        return bytes(self.take(f">{size}s")) if size else b""

    def skip(self, size: int) -> int:
        self._at += size
        return size

    def each(self) -> Iterable[str]:
        """Read an array of topics, each with its array of partitions: yield the topic's name for each partition."""
        for _ in range(self.int32()):
            topic = self.string()
            for _ in range(self.int32()):
                yield topic


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.strip().rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"broker address {text!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def _array(items: Iterable[bytes]) -> bytes:
    found = list(items)
    return struct.pack(">i", len(found)) + b"".join(found)


def _topics(partitions: Mapping[Slot, bytes]) -> bytes:
    """Write an array of topics, each with its array of partitions."""
    by_topic: dict[str, list[bytes]] = {}
    for (topic, _), data in partitions.items():
        by_topic.setdefault(topic, []).append(data)
    return _array(_string(topic) + _array(found) for topic, found in by_topic.items())
