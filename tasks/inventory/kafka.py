"""Topics, consumer groups and the newest messages of a Kafka, or of what speaks its protocol."""

from __future__ import annotations

import re
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from typing import Any

from gameday.drivers._log import message_of
from gameday.drivers.kafka.secured import MECHANISMS
from gameday.drivers.kafka.wire import EARLIEST, LATEST, Cluster, Slot
from gameday.errors import DriverError
from gameday.records.paths import Message
from gameday.stack.init.seen import Broker, Group, Topic

__all__ = ["broker"]

ASK_WITHIN_S = 10.0
"""For topics and their ends; and again for the places of groups, of which there may be ten thousand."""

DEMANDS_WITHIN_S = 2.0
"""For each way to ask the first broker what it demands."""

READ_WITHIN_S = 10.0
"""For the newest messages of all topics that are looked into."""

NEWEST = 200
"""Messages of each topic."""

TOPICS_READ_MAX = 24
"""Topics whose messages are read: those that a group reads, and those with the most messages."""

BATCH_WITHIN_S = 0.1

OWN = re.compile(r"_|connect[-_.]|docker-connect|mm2-|.*-(changelog|repartition)$")
"""Topics that servers keep for themselves."""

SETTINGS = ("cleanup.policy", "retention.ms")


def broker(
    address: str, client: Mapping[str, str], first: Sequence[str] = (), names: Mapping[str, str] = {}
) -> tuple[Broker, list[str]]:
    """What is there, and what could not be looked at. first: groups and topics that others name. names: of containers
    -> their addresses. Raises DriverError where no broker answers, with what would help."""
    troubles: list[str] = []
    with Cluster(address, ASK_WITHIN_S, client) as cluster:
        try:
            led_by = cluster.leaders(None)
        except DriverError as e:
            raise DriverError(f"{e}{_demands(address, client, str(e))}", definite=True) from e
        slots = {slot: leader for slot, leader in led_by.items() if not OWN.match(slot[0])}
        if lost := sorted({slot[0] for slot, leader in slots.items() if leader < 0}):
            troubles.append(f"partitions of {', '.join(lost[:3])} have no leader")
        led = {slot: leader for slot, leader in slots.items() if leader >= 0}
        try:
            lows, ends = (cluster.offsets(led, at) for at in (EARLIEST, LATEST))
        except DriverError as e:
            raise DriverError(f"{e}. {_sent_on(cluster.advertised, names)}", definite=True) from e
        groups = _allowed(cluster.groups, troubles) or []
    held: dict[str, int] = defaultdict(int)
    for slot in led:
        held[slot[0]] += ends[slot] - lows[slot]
    words = {word for topic in held for word in _words(topic)}
    groups.sort(key=lambda name: (name not in first, words.isdisjoint(_words(name)), name))
    places, asked = _places(address, client, groups)
    read = {slot[0] for where in places.values() for slot in where}
    ranked = sorted(held, key=lambda name: (name not in first, name not in read, -held[name], name))
    chosen = [name for name in ranked if held[name]][:TOPICS_READ_MAX]
    with Cluster(address, ASK_WITHIN_S, client) as cluster:
        settings = _allowed(lambda: cluster.configs(chosen, SETTINGS), troubles) or {}
    try:
        messages, refused = _newest(address, client, {s: (lows[s], ends[s]) for s in led if s[0] in chosen})
        troubles += [f"brokers {address}: {why}" for why in refused]
    except DriverError as e:
        messages = {}
        troubles.append(f"messages: {e}")
    topics = [
        Topic(
            name,
            sum(slot[0] == name for slot in slots),
            held[name],
            settings.get(name, {}).get("cleanup.policy", ""),
            int(kept) if (kept := settings.get(name, {}).get("retention.ms", "")) else None,
            messages.get(name, ()),
        )
        for name in chosen
    ]
    behind = {
        name: {t: sum(max(0, ends[s] - o) for s, o in at.items() if s[0] == t and s in ends) for t, _ in at}
        for name, at in places.items()
        if at
    }
    readers = _readers(address, client, [name for name, topics in behind.items() if set(topics) & set(chosen)])
    known = [Group(name, topics, readers.get(name, ())) for name, topics in behind.items()]
    unread = len({name for name in held if held[name]}) - len(chosen)
    return Broker(address, topics, known, client, unread, asked, len(groups)), troubles


def _demands(address: str, client: Mapping[str, str], told: str) -> str:
    """The remedy for what the first broker demands and `client` hasn't; "" where that isn't why. told: its refusal."""
    for tls in ("SSL", "PLAINTEXT"):
        bare = {**client, "security.protocol": tls, "enable.ssl.certificate.verification": "false"}
        try:
            with Cluster(address.split(",")[0], DEMANDS_WITHIN_S, bare) as cluster:
                mechanisms = cluster.mechanisms()
        except DriverError:
            continue
        return _remedy(tls, mechanisms, client, told)
    return ""


def _remedy(tls: str, mechanisms: Sequence[str] | None, client: Mapping[str, str], told: str) -> str:
    given, wanted = client.get("security.protocol", "PLAINTEXT").upper(), f"{'SASL_' if mechanisms else ''}{tls}"
    spoken = [name for name in reversed(MECHANISMS) if name in (mechanisms or ())]
    if mechanisms and not spoken:
        return f". They take {', '.join(mechanisms)}. Remedy: a listener with one of {', '.join(MECHANISMS)}"
    if given != wanted:
        needed = [f"security.protocol={wanted}"]
        needed += [f"sasl.mechanism={spoken[0]}", "sasl.username", "sasl.password"] if spoken else []
        needed += ["ssl.ca.location where an authority of your own signed their certificates"] if tls == "SSL" else []
        return (
            f". They speak {wanted}, and were asked by {given}. Remedy: --kafka-client FILE, with {', '.join(needed)}"
        )
    if spoken and client.get("sasl.mechanism") not in spoken:
        return f". Remedy: --kafka-client sasl.mechanism={spoken[0]}"
    helps = {
        "authentication failed": "sasl.username and sasl.password of a user whom the brokers know",
        "not valid for": "--kafka with a name that their certificate has, which /etc/hosts may tell this machine",
        "has expired": "a new certificate for the brokers",
        "verify failed": "--kafka-client ssl.ca.location=FILE, the certificate (PEM) of who signed theirs",
    }
    return next((f". Remedy: {remedy}" for words, remedy in helps.items() if words in told), "")


def _sent_on(advertised: Sequence[tuple[str, int]], names: Mapping[str, str]) -> str:
    """The remedy where bootstrap answers, and the addresses that it names do not."""
    listed = ", ".join(f"{host}:{port}" for host, port in sorted(advertised))
    lines = [f"`{names[host]} {host}`" for host, _ in sorted(advertised) if host in names]
    known = ", ".join(lines) or "a line for each of these names"
    return (
        f"The brokers send every client on to {listed} (advertised.listeners), and from here one of them does not "
        f"answer. Remedy: in /etc/hosts {known}; or a listener for this machine"
    )


def _allowed(ask: Any, troubles: list[str]) -> Any:
    """The answer; None where it is refused, which is said."""
    try:
        return ask()
    except DriverError as e:
        troubles.append(str(e))
        return None


def _words(name: str) -> list[str]:
    """By which a group that reads a topic is often called."""
    return [word for word in re.split(r"\W|_", name) if len(word) > 1]


def _places(address: str, client: Mapping[str, str], groups: Sequence[str]) -> tuple[dict[str, dict[Slot, int]], int]:
    """Group -> its places; of as many as ASK_WITHIN_S is enough for, and of how many that was."""
    found: dict[str, dict[Slot, int]] = {}
    end = time.monotonic() + ASK_WITHIN_S
    with Cluster(address, ASK_WITHIN_S, client) as cluster:
        for number, group in enumerate(groups):
            if time.monotonic() >= end:
                return found, number
            try:
                found[group] = cluster.committed_anywhere(group)
            except DriverError:  # it may have gone meanwhile, or not be this user's
                continue
    return found, len(groups)


def _readers(address: str, client: Mapping[str, str], groups: Sequence[str]) -> dict[str, list[str]]:
    """Group -> where its members are; of as many as ASK_WITHIN_S is enough for."""
    found: dict[str, list[str]] = {}
    with Cluster(address, ASK_WITHIN_S, client) as cluster:
        for group in groups:
            with suppress(DriverError):  # it may have gone meanwhile, or not be this user's
                found[group] = cluster.readers(group)
    return found


def _newest(
    address: str, client: Mapping[str, str], bounds: Mapping[Slot, tuple[int, int]]
) -> tuple[dict[str, Sequence[Message]], list[str]]:
    """Topic -> its newest messages, partition by partition, those that came in time; and what was refused."""
    from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

    from gameday.drivers.kafka.log import CLIENT, READER

    partitions: dict[str, int] = defaultdict(int)
    for topic, _ in bounds:
        partitions[topic] += 1
    left = {}
    for slot, (low, end) in bounds.items():
        start = max(low, end - max(10, NEWEST // partitions[slot[0]]))
        if start < end:
            left[slot] = (start, end)
    found: dict[Slot, list[Message]] = {slot: [] for slot in left}
    refused: dict[str, None] = {}
    until = time.monotonic() + READ_WITHIN_S
    own = {"bootstrap.servers": address, "group.id": f"gameday-{uuid.uuid4()}"}
    try:
        with closing(Consumer({**client, **CLIENT, **READER, **own})) as consumer:
            consumer.assign([TopicPartition(*slot, start) for slot, (start, _) in left.items()])
            while left and (within_s := until - time.monotonic()) > 0:
                for message in consumer.consume(NEWEST, min(BATCH_WITHIN_S, within_s)):
                    slot, offset = (str(message.topic()), int(message.partition() or 0)), int(message.offset() or 0)
                    if message.error() is None and slot in left and offset < left[slot][1]:
                        found[slot].append(message_of(message))
                    if (error := message.error()) is not None and error.code() != KafkaError._PARTITION_EOF:
                        refused[f"{message.topic()}: {error.str()}"] = None
                    ended = error is not None or offset + 1 >= left.get(slot, (0, 0))[1]
                    if slot in left and ended:
                        del left[slot]
    except KafkaException as e:
        raise DriverError(f"brokers {address}: {e}", definite=True) from e
    by_topic: dict[str, list[Message]] = defaultdict(list)
    for slot in sorted(found):
        by_topic[slot[0]] += found[slot]
    return dict(by_topic), list(refused)
