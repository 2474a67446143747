"""What was guessed -> the text of a gameday.toml that a person can read: every guess with where it is from, and a
QUESTION where only a person knows.

No password is written: each becomes ${NAME}, and `secrets` has its value.
"""

from __future__ import annotations

import itertools
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gameday.stack.init import canary, logs
from gameday.stack.init.seen import (
    Broker,
    Connector,
    Connectors,
    Container,
    Engine,
    Group,
    Queue,
    Runs,
    Seen,
    Store,
    Table,
)
from gameday.stack.init.streams import Guessed, Held, Source
from gameday.system import address

__all__ = ["OWN_TESTS", "Written", "kind_of", "written"]

WIDTH = 120
LONGEST_TEST_S = 1_800
"""A failure test with its baseline and its deadlines: what a run is judged by must be in the log until its end."""

FLUSH_MS_MAX = 1_000
"""A slower rhythm hides what happens inside it."""

MANY_ROWS = 100_000
"""Of more, the newest are asked for, not all, twenty times a second."""

LIVE_SHARE_MAX = 0.5
"""A group that is further behind than this share of the log has probably ended."""

OWN_TESTS = "failures"
"""The folder beside the file: without one the tests of the reference platform would be this stack's own."""

GONE = re.compile(r"(^|_)(is_)?deleted(_at)?$|(^|_)op$")
"""A column that may say of a row that it is deleted."""

LISTED_MAX = 12
ASIDE_MAX = 40

TOOLS = re.compile(
    r"(^|[-_/])(ui|akhq|console|exporter|kafdrop|init|setup|create|migrate|migrations?|registry)([-_:]|$)"
)
KINDS = (
    ("debezium|kafka-connect|^connect([:@]|$)", "connect"),
    ("redpanda|kafka", "broker"),
    ("clickhouse-keeper|zookeeper", "keeper"),
    ("clickhouse", "clickhouse"),
    ("postgres|timescale", "postgres"),
    ("minio|seaweed", "s3"),
    ("^nats", "nats"),
    ("redis|valkey", "redis"),
    ("^prometheus", "prometheus"),
)
"""Words of an image's name -> what it is. The failure tests know a broker, a clickhouse and an s3 by these names."""


@dataclass(frozen=True)
class Written:
    """text: the file. secrets: NAME -> what ${NAME} stands for. questions: those that it asks. warnings: what a person
    should know before the next command."""

    text: str
    secrets: Mapping[str, str]
    questions: Sequence[str]
    warnings: Sequence[str] = ()


HISTORY = "postgresql://gameday:${GAMEDAY_PG_PASSWORD}@127.0.0.1:${GAMEDAY_PG_PORT}/gameday"
PREFECT = "http://127.0.0.1:${PREFECT_PORT}/api"
"""Of gameday's own servers in the state folder, by the names that its stack.env has for them."""


@dataclass
class _Page:
    """The file as it grows. stores: address -> the name of its password, where there are several of a kind."""

    stores: Mapping[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)
    questions: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def table(self, header: str, *notes: str) -> None:
        self.lines += ["", *(line for note in notes for line in _comment(note)), f"[{header}]"]

    def rule(self, title: str) -> None:
        self.lines += ["", f"# ---- {title} {'-' * (WIDTH - 8 - len(title))}"]

    def set(self, key: str, value: Any, why: str = "", question: str = "") -> None:
        """One setting, with where it is from; or with what is to be asked about it."""
        if question:
            self.ask(question)
        text = f"{_key(key)} = {_value(value)}"
        aside = f"{text:<41} # {_plain(why)}"
        if why and len(aside) > WIDTH:
            self.note(why)
            aside = text
        self.lines.append(aside if why else text)

    def literal(self, key: str, text: str) -> None:
        """A text that has quotes of its own."""
        plain = "'" not in text and text.isprintable()
        self.lines.append(f"{key} = '{text}'" if plain else f"{key} = {_value(text)}")

    def ask(self, question: str) -> None:
        self.questions.append(_plain(question))
        self.note(f"QUESTION: {question}")

    def warn(self, text: str) -> None:
        """What a person should know before the next command; here and on the terminal."""
        self.warnings.append(_plain(text))
        self.note(text)

    def note(self, text: str) -> None:
        self.lines += _comment(text)

    def hidden(self, url: str, name: str) -> str:
        """An address without its password: ${NAME_PASSWORD} stands for it."""
        return _hidden(url, f"{name}_PASSWORD", self.secrets)

    def store(self, store: Store) -> str:
        """A store's address, in the same way."""
        return self.hidden(store.address, self.stores.get(store.address, store.driver.upper()))

    def client(self, broker: Broker) -> dict[str, str]:
        """librdkafka's settings, without passwords too."""
        found = dict(broker.client)
        for key in found:
            if key.endswith("password"):
                name = "KAFKA_KEY_PASSWORD" if "key" in key else "KAFKA_PASSWORD"
                self.secrets[name], found[key] = found[key], f"${{{name}}}"
        return found


def written(seen: Seen, streams: Sequence[Guessed], aside: Sequence[str], own: canary.Written | None = None) -> Written:
    """aside: what was seen and is in no stream. own: the canary, whose stream is the only one then."""
    cast = _cast(seen)
    page = _Page(_named_stores(seen, cast))
    page.set("name", _slug(seen.name), "the stack's name, in reports and messages")
    _gamedays_own(page, seen)
    page.table("tests")
    page.set("folder", OWN_TESTS, "for tests of your own: docs/failure-tests.md; it must be there")
    consumers = _consumers(seen, cast)
    page.rule("what a record is: docs/records.md")
    named = _named(streams if own is None else [own.stream])
    if not named:
        _no_stream(page, cast)
    if own is not None:
        _canary(page, seen, own)
    for one in named:
        _stream(page, seen, one, cast, consumers, own)
    if len(named) > 1:
        page.note("A run in which a stream has no record is unknown: leave out what nobody would miss, with its hops.")
    _components(page, seen, cast, _roles(seen, cast, consumers, [one.stream for one in named]))
    page.rule("where the records rest")
    for one in named:
        _hops(page, seen, one, own)
    if not named:
        _no_hops(page, seen)
    _cursors(page, seen, consumers, [topic for one in named for topic in one.stream.parts])
    _slots(page, seen, cast, [one.stream.source for one in named if one.stream.source is not None])
    if seen.alerts is not None:
        _alerts(page, seen, cast)
    used = any(one.stream.source is not None for one in named)
    aside = [*aside, *_unread(seen, used), *(logs.aside(seen.objects) if seen.objects is not None else ())]
    if aside:
        page.rule("seen, and in no stream")
        for line in aside[:ASIDE_MAX]:
            page.note(line)
        if len(aside) > ASIDE_MAX:
            page.note(f"and {len(aside) - ASIDE_MAX} more")
    return Written("\n".join([*_head(seen, page), *page.lines, ""]), page.secrets, page.questions, page.warnings)


def _gamedays_own(page: _Page, seen: Seen) -> None:
    """Where gameday's own Postgres and Prefect are: those of the state folder, which nobody else has, or a question."""
    if seen.own:
        page.set("history", HISTORY, "of the state folder: gameday up --own")
        page.table("prefect")
        page.set("api_url", PREFECT, "the same")
        page.set("auth_string", "gameday:${PREFECT_PASSWORD}")
        return
    page.set(
        "history",
        "postgresql://127.0.0.1/gameday",
        question="where is gameday's own Postgres, which keeps what runs found? Never the platform's: what is broken "
        "must not take it along. With a password: ${NAME}, and export NAME.",
    )
    page.table("prefect")
    api = page.hidden(seen.prefect_url, "PREFECT")
    if seen.prefect_answers and seen.prefect_given:
        page.set("api_url", api, "as it was given, and it answers")
    elif seen.prefect_answers:
        page.set("api_url", api, question="is this Prefect server gameday's own? It answers; the platform's is none.")
    else:
        page.set("api_url", api, question="where is gameday's own Prefect server? None answers here.")
    if seen.prefect_asks:
        page.set(
            "auth_string",
            "",
            question="who asks? What the server's PREFECT_SERVER_API_AUTH_STRING says, by ${NAME} and export NAME; or "
            "api_key instead.",
        )


def _unread(seen: Seen, used: bool) -> Iterator[str]:
    """What there was too much of, and whose place is known. used: whether slots are cursors of the file."""
    if seen.broker is not None and seen.broker.unread:
        yield f"{seen.broker.unread} more topics hold messages, and were not looked into"
    for log in seen.others:
        if log.unread:
            yield f"{log.unread} more streams of {log.driver} hold messages, and were not looked into"
    for store in seen.stores:
        if store.unread:
            yield f"{store.unread} more tables of {store.driver} hold rows, and were not looked into"
        for name, tables in store.publications.items():
            yield f"publication {name} of Postgres: {', '.join(tables[:LISTED_MAX])}"
        for name, state in store.slots.items() if not used else ():
            yield f"replication slot {name} ({state}): a consumer's place; it can be [cursors.{_slug(name)}]"


def _head(seen: Seen, page: _Page) -> Iterator[str]:
    yield from _comment(
        "Written by `gameday init`, from what it saw. A comment says where a guess is from. "
        f"{len(page.questions)} times QUESTION marks what only you know. Then: gameday --config THIS check --look"
    )
    for name in page.secrets:
        yield from _comment(f"Before any gameday command: export {name}=…, the password as it is, not percent-encoded")
    for trouble in seen.troubles:
        yield from _comment(f"Not looked at: {trouble}")
    yield ""


# ---- the stream ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Named:
    """A stream with the names that it and its hops have in the file: the source's, where it has one, the log's, then
    the tables'."""

    name: str
    stream: Guessed
    hops: Sequence[str]


def _named(streams: Sequence[Guessed]) -> list[_Named]:
    """Each name stands for one stream, or for one hop of one stream."""
    found: list[_Named] = []
    taken: set[str] = set()
    names: set[str] = set()

    def free(wanted: Sequence[str], among: set[str]) -> str:
        name = next((name for name in wanted if name not in among), "")
        name = name or next(f"{wanted[-1]}-{n}" for n in itertools.count(2) if f"{wanted[-1]}-{n}" not in among)
        among.add(name)
        return name

    for stream in streams:
        name = free([stream.name], names)
        before = "" if len(streams) == 1 else f"{name}-"
        source = [free([f"{before}source"], taken)] if stream.source is not None else []
        log = free([f"{before}log"], taken)
        tables = [
            free([_slug(table.rpartition(".")[2]), _slug(table)], taken)
            for table in (held.table.name for held in stream.tables)
        ]
        sinks = tables or [free(["sink", f"{name}-sink"], taken)]
        found.append(_Named(name, stream, [*source, log, *sinks]))
    return found


def _no_stream(page: _Page, cast: _Cast) -> None:
    """What only shows the form."""
    page.table("streams.records")
    page.ask(
        "what is a record, and where does it rest? Nothing was found that is in a log and in a table. What stands "
        "here and under [hops] only shows the form."
    )
    page.set("key", ["id"])
    page.set("time", "at")
    page.set("fields", {"at": "time"})
    page.set("hops", ["log", "sink"])
    page.set("visible", "sink")
    page.set("path", [cast.first])


def _canary(page: _Page, seen: Seen, own: canary.Written) -> None:
    log = seen.log_of([own.topic])
    assert log is not None  # who has a topic has a broker
    page.table("canary", "Records of gameday's own, written while a test lasts: docs/canary.md.")
    source = own.stream.source
    page.ask(
        f"may gameday write such records into {own.topic if source is None else source.table.name}, four a second? It "
        f"is one of its {'messages' if source is None else 'rows'}, with what tells records apart made anew, "
        f"{own.mark[0]} as gameday's, and other free text left out. Each will be stored, counted and shipped like any "
        "other."
    )
    if source is None and log.driver != "kafka":
        logs.record(page, log, next(topic for topic in log.topics if topic.name == own.topic), own.text)
        page.set("fields", own.fields)
        return
    if source is not None:
        page.set("driver", "postgres")
        page.set("dsn", page.store(source.store))
    else:
        page.set("driver", "kafka")
        page.set("brokers", log.address)
        if log.client:
            page.set("client", page.client(log))
        page.set("topic", own.topic)
        if own.key:
            page.set("key", own.key, "of the message")
    page.literal("text", own.text)
    page.set("fields", own.fields)
    if source is not None:
        mark = source.fields.get(own.mark[0], own.mark[0])
        statement = f"DELETE FROM {source.table.name} WHERE {mark} LIKE '{canary.PREFIX}%'"
        page.note(
            "They stay, unless a run is to end with: clean_up = "
            + _value({"driver": "postgres", "dsn": page.store(source.store), "text": statement})
        )


def _stream(
    page: _Page, seen: Seen, one: _Named, cast: _Cast, consumers: Mapping[str, str], own: canary.Written | None
) -> None:
    stream = one.stream
    who = stream.identity
    page.table(f"streams.{one.name}", *stream.notes)
    ask = f"what makes two records the same? A guess: {who.why}." if not who.sure else ""
    page.set("key", list(who.key), "" if ask else who.why, ask)
    if who.group:
        page.set("group", list(who.group), who.why_group or "each topic's own: damage is told apart by it")
    if who.sequence:
        page.set("sequence", who.sequence, "an integer that counts up")
    if who.gapless:
        page.set("gapless", True, "look at it: then the numbers themselves say how many records there should be")
    if stream.version is not None:
        name, why = stream.version
        ask = "" if name else f"which number or time grows with each change of a row? {why}; without one nothing tells "
        assert stream.time is not None  # a stream that nothing counts has one
        page.set(
            "version",
            name or stream.time[0],
            why if name else "",
            f"{ask}which of two contents is newer." if ask else "",
        )
    if stream.time is not None:
        page.set("time", *stream.time)
    page.set("hops", [*(["canary"] if own else []), *one.hops], "in order, the first is the reference")
    page.set("visible", one.hops[-1], "the last one: what users query?" if stream.tables else "")
    page.set("path", *_path(seen, stream, cast, consumers))
    page.table(f"streams.{one.name}.fields", "What must arrive unchanged; leave out what may differ.")
    for name, (kind, why) in stream.types.items():
        page.set(name, kind, why)
    if stream.left_out:
        listed = ", ".join(stream.left_out[:LISTED_MAX]) + (", …" if len(stream.left_out) > LISTED_MAX else "")
        page.note(f"Columns of {stream.tables[-1].table.name} that no message has, and nothing compares: {listed}")


def _path(seen: Seen, stream: Guessed, cast: _Cast, consumers: Mapping[str, str]) -> tuple[list[str], str]:
    """The brokers, who reads them, and who holds the tables; and where that is from."""
    log = seen.log_of(stream.parts)
    keeper = logs.KINDS[log.driver] if log is not None else "broker"
    if keeper not in cast.kinds:
        return [cast.first], "who writes to the log belongs in front"
    groups = log.groups if log is not None else ()
    readers = {
        consumers[one.name]: one.name for one in groups if one.name in consumers and set(one.behind) & set(stream.parts)
    }
    stores = [name for held in stream.tables for name in _holding(held.store, seen, cast)]
    why = [f"{name} reads the log as group {group}" for name, group in readers.items()]
    before = _holding(stream.source.store, seen, cast) if stream.source else []
    if stream.source and stream.source.connector:
        before += _all_of("connect", seen, cast)
        why.insert(0, f"connector {stream.source.connector} copies {stream.source.table.name} to the log")
    steps = dict.fromkeys((*before, *_all_of(keeper, seen, cast), *readers, *stores))
    return [*steps], "; ".join([*why, f"who writes to the {'log' if not before else 'table'} belongs in front"])


def _hops(page: _Page, seen: Seen, one: _Named, own: canary.Written | None) -> None:
    broker = seen.log_of(one.stream.parts)
    assert broker is not None  # a stream begins with topics
    source, (log, *tables) = one.stream.source, one.hops if one.stream.source is None else one.hops[1:]
    if source is not None:
        _table(page, seen, one.hops[0], source, one.stream, False, _whose(source, own))
    page.table(f"hops.{log}")
    if broker.driver == "kafka":
        page.set("driver", "kafka")
        page.set("brokers", broker.address, _own(seen, broker.address))
        if broker.client:
            page.set("client", page.client(broker))
    else:
        logs.reached(page, broker, _own(seen, broker.address))
        logs.kept(page, [topic for topic in broker.topics if topic.name in one.stream.parts])
    if own is not None:
        page.set("where", {own.mark[1]: f"{canary.PREFIX}*"}, "the canary's")
    _log(page, log, broker, one.stream)
    if not one.stream.tables:
        _no_sink(page, seen, tables[0], "once" if one.stream.version is None else "state")
        return
    for name, held in zip(tables, one.stream.tables, strict=True):
        _table(page, seen, name, held, one.stream, held is one.stream.tables[-1], _whose(held, own))


def _whose(held: Held, own: canary.Written | None) -> str:
    """SQL of the canary's rows; "": all are meant."""
    return f"{held.fields.get(own.mark[0], own.mark[0])} LIKE '{canary.PREFIX}%'" if own else ""


def _no_hops(page: _Page, seen: Seen) -> None:
    page.table("hops.log")
    if seen.broker is None and seen.others:
        logs.reached(page, seen.others[0])
    else:
        page.set("driver", "kafka")
        page.set("brokers", seen.broker.address if seen.broker else "127.0.0.1:9092")
    page.set("topics", ["none"])
    _no_sink(page, seen, "sink")


def _no_sink(page: _Page, seen: Seen, name: str, kind: str = "once") -> None:
    page.table(f"hops.{name}")
    page.ask("where do users query these records? docs/records.md shows a table in ClickHouse, Postgres and Iceberg.")
    store = next(iter(seen.stores), None)
    page.set("driver", store.driver if store else "clickhouse")
    where = page.store(store) if store else "http://127.0.0.1:8123"
    page.set("dsn" if store and store.driver == "postgres" else "url", where)
    page.set("table", "none")
    page.set("kind", kind)


def _own(seen: Seen, where: str) -> str:
    """That an address is a container's own, in words; "": it is another."""
    ips = [ip for one in (seen.engine.containers if seen.engine else ()) for ip in one.networks.values() if ip]
    mine = any(re.search(rf"(?<![\d.]){re.escape(ip)}:", where) for ip in ips)
    return "the container's own address: one that is created anew may have another" if mine else ""


def _log(page: _Page, name: str, broker: Broker, stream: Guessed) -> None:
    known = {topic.name: topic for topic in broker.topics}
    shapes: dict[str, list[str]] = {}
    for topic_name, paths in stream.parts.items():
        shapes.setdefault(_value(_renamed(paths)), []).append(topic_name)
    for topic in (known[each] for each in stream.parts):
        if "compact" in topic.cleanup and stream.version is None:
            page.ask(
                f"{topic.name} is compacted: older messages of a key go away. Is each message a record of its own?"
            )
        if "delete" in topic.cleanup and stream.version is not None:
            page.note("A row whose changes the log has forgotten can't be judged; a run says how many those are.")
        if topic.retention_ms is not None and 0 <= topic.retention_ms < LONGEST_TEST_S * 1000:
            page.ask(
                f"{topic.name} keeps messages for {topic.retention_ms / 1000:g} s, and a test with its baseline takes "
                f"up to {LONGEST_TEST_S} s: can it keep them longer? What is gone can't be judged."
            )
    if stream.changes:
        page.set(
            "format", "debezium", "sure: change events; paths begin at the row, and what deletes is known by its op"
        )
    if len(shapes) == 1:
        page.set("topics", list(stream.parts), _about(known, stream.parts))
        _fields(page, f"hops.{name}", _renamed(next(iter(stream.parts.values()))))
        return
    for topics in shapes.values():
        page.lines += ["", f"[[hops.{name}.part]]"]
        page.set("topics", topics, _about(known, topics))
        page.set("fields", _renamed(stream.parts[topics[0]]))


def _about(known: Mapping[str, Any], topics: Any) -> str:
    mine = [known[name] for name in topics]
    partitions = sum(topic.partitions for topic in mine)
    kept = {topic.retention_ms for topic in mine}
    told = [f"{partitions} partitions" if partitions > 1 else "1 partition"]
    if len(kept) == 1 and (ms := kept.pop()) is not None:
        told.append("kept for ever" if ms < 0 else f"kept for {ms / 3_600_000:g} h")
    return ", ".join([*told, *sorted({f"cleanup {topic.cleanup}" for topic in mine if topic.cleanup})])


def _renamed(paths: Mapping[str, str]) -> dict[str, str]:
    return {name: path for name, path in paths.items() if name != path}


def _fields(page: _Page, at: str, fields: Mapping[str, str]) -> None:
    if fields:
        page.table(f"{at}.fields")
        for name, where in fields.items():
            page.set(name, where)


def _table(page: _Page, seen: Seen, name: str, held: Held, stream: Guessed, last: bool, whose: str) -> None:
    store, table = held.store, held.table
    page.table(f"hops.{name}", *_origin(held, stream))
    page.set("driver", store.driver)
    page.set("dsn" if store.driver == "postgres" else "url", page.store(store), _own(seen, store.address))
    replaces = "Replacing" in table.engine
    final = replaces and stream.version is None  # of kind state gameday says it itself
    page.set("table", f"{table.name} FINAL" if final else table.name, held.evidence)
    if whose:
        page.set("where", whose, "the canary's")
    mapped = {held.fields.get(field, field) for field in stream.identity.key}
    if stream.version is not None:
        _state(page, held)
    elif replaces:
        page.set("kind", "once", f"{table.engine} with FINAL keeps one row of each {', '.join(table.key)}")
    elif store.driver == "postgres" and table.key and set(table.key) <= mapped:
        page.set("kind", "once", f"sure: its primary key is {', '.join(table.key)}")
    elif not last:
        page.set("kind", "append", "records may be there again, as a log delivers them at least once")
    elif _repeats(table, mapped):
        page.set("kind", "append", question="records are here more than once: may they be, or is that damage (once)?")
    else:
        question = (
            f"nothing in {table.engine} keeps a record that is delivered twice from being here twice. Is that damage"
        )
        page.set("kind", "once", question=f"{question} (once), or may it be (append)?")
    if table.held > MANY_ROWS and stream.time is not None:
        at = held.fields.get(stream.time[0], stream.time[0])
        span = "INTERVAL 10 MINUTE" if store.driver == "clickhouse" else "interval '10 minutes'"
        page.set("recent", f"{at} > now() - {span}", f"{table.held:,} rows: its newest are asked for often")
    _fields(page, f"hops.{name}", held.fields)


def _state(page: _Page, held: Held) -> None:
    """Of a table whose rows are changed and deleted."""
    page.set("kind", "state", "its rows are changed and deleted as the log says")
    if isinstance(held, Source) and held.slot:
        position = f"SELECT '{held.slot}', pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
        page.set("position", position, "the server's own place, which the slot's consumer comes to")
    elif not isinstance(held, Source):
        page.note(
            'Where its writer keeps its place in the log beside the rows, in one transaction: position = "SELECT …"'
            " (docs/records.md); then a difference is told at once, and not after 30 s."
        )
    gone = [name for name in held.table.columns if GONE.search(name) and name not in held.fields.values()]
    if gone and not isinstance(held, Source):
        page.ask(
            f"does {gone[0]} of {held.table.name} say that a row is deleted? Then: deleted = SQL that is true of it."
        )


def _repeats(table: Table, key: set[str]) -> bool:
    rows = [tuple(row.get(name) for name in sorted(key)) for row in table.rows if key <= row.keys()]
    return len(set(rows)) < len(rows)


def _origin(held: Held, stream: Guessed) -> Iterator[str]:
    """How records come here, as ClickHouse tells it; and what of it hides what happens."""
    store, table = held.store, held.table
    for view in store.views:
        if view.target == table.name:
            shown = [f"{name} = {sql}" for name, sql in view.columns.items() if name != sql][:LISTED_MAX]
            yield f"By the view {view.name} from {view.source}{': ' + '; '.join(shown) if shown else ''}"
            for queue in store.queues:
                if queue.name == view.source:
                    yield _of_queue(queue)
    kept = [name for name in table.columns if len({row.get(name) for row in table.rows}) == 1]
    constant = [name for name in kept if len(table.rows) > 1 and not name.startswith("_")]
    if constant:
        yield f"The same in all of its newest {len(table.rows)} rows: {', '.join(constant[:LISTED_MAX])}"
    if table.identity:
        yield f"Its replica identity is {table.identity}"


def _of_queue(queue: Queue) -> str:
    slow = (
        f"; a recovery can't be told finer: {FLUSH_MS_MAX} would be right here" if queue.flush_ms > FLUSH_MS_MAX else ""
    )
    return (
        f"{queue.name} reads {', '.join(queue.topics)} as {queue.format}, group {queue.group}, and flushes every "
        f"{queue.flush_ms / 1000:g} s{slow}"
    )


# ---- what runs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cast:
    """containers: each one's name -> its component. members: role -> the components that have it together. kinds: what
    kind of server it is -> the role of such servers, or their component."""

    containers: Mapping[str, str]
    members: Mapping[str, Sequence[str]]
    kinds: Mapping[str, str]

    @property
    def first(self) -> str:
        return next(iter(self.containers.values()), next(iter(self.kinds.values()), "platform"))

    def part(self, container: Container) -> str:
        """The role that it has together with others; else its component."""
        own = self.containers[container.name]
        return next((role for role, members in self.members.items() if own in members), own)


def _cast(seen: Seen) -> _Cast:
    """Replicas of a service have one role, and so have brokers of one image."""
    containers = seen.engine.containers if seen.engine else ()
    kinds = {one.name: kind_of(one) for one in containers}
    services = [one.service for one in containers]
    found: dict[str, str] = {}
    for one in containers:
        kind, own = kinds[one.name], one.service if services.count(one.service) == 1 else one.name
        found[one.name] = kind if kind and [*kinds.values()].count(kind) == 1 else _slug(own)
    runs = _running(seen.engine) if seen.engine else []
    one_cluster = len({one.image for one in runs if kinds[one.name] == "broker"}) == 1
    together: dict[str, list[str]] = {}
    for one in runs:
        role = "broker" if kinds[one.name] == "broker" and one_cluster else _slug(one.service)
        together.setdefault(role, []).append(found[one.name])
    taken = {*found.values()}
    members = {
        role if role not in taken else f"{role}-all": names for role, names in together.items() if len(names) > 1
    }
    cast = _Cast(found, members, {})
    of_kind: dict[str, str] = {}
    for one in containers:
        if kinds[one.name]:
            of_kind.setdefault(kinds[one.name], cast.part(one))
    asked = [logs.KINDS[log.driver] for log in seen.logs]
    asked += ["connect"] if seen.connect is not None else []
    asked += ["s3"] if seen.objects is not None else []
    for kind in (*asked, *(store.driver for store in seen.stores)):
        of_kind.setdefault(kind, kind)
    return _Cast(found, members, of_kind)


def _all_of(kind: str, seen: Seen, cast: _Cast) -> list[str]:
    """The components of a kind, or their role: each broker may carry a stream."""
    containers = _running(seen.engine) if seen.engine else []
    return [*dict.fromkeys(cast.part(one) for one in containers if kind_of(one) == kind)] or [cast.kinds[kind]]


def _consumers(seen: Seen, cast: _Cast) -> dict[str, str]:
    """Group -> the component or role whose containers its members are; not where these are servers of a known kind,
    which do more than that. Who is none of the containers counts for nothing: a member that has ended is in its group
    for a while."""
    at = _addresses(seen)
    found = {}
    groups = seen.broker.groups if seen.broker else ()
    for group in groups:
        known = [at[reader] for reader in group.readers if reader in at]
        parts = {"" if kind_of(one) else cast.part(one) for one in known}
        if len(parts) == 1 and (part := parts.pop()):
            found[group.name] = part
    for one in seen.connect.connectors if seen.connect else ():
        if not one.source:
            found[f"connect-{one.name}"] = _all_of("connect", seen, cast)[0]
    return {name: part for name, part in found.items() if any(name == one.name for one in groups)}


def _addresses(seen: Seen) -> dict[str, Container]:
    containers = _running(seen.engine) if seen.engine else []
    return {ip: one for one in containers for ip in one.networks.values() if ip}


def _holding(store: Store, seen: Seen, cast: _Cast) -> list[str]:
    """The component that a store is, by its address; else all of its kind."""
    containers = _running(seen.engine) if seen.engine else []
    if store.driver == "postgres" and (at := [cast.part(one) for one in containers if _is_at(one, store.address)]):
        return at[:1]
    return _all_of(store.driver, seen, cast)


def _named_stores(seen: Seen, cast: _Cast) -> dict[str, str]:
    """Address -> the name of its password: of the only store of its kind the kind's, else its component's."""
    drivers = [store.driver for store in seen.stores]
    found: dict[str, str] = {}
    taken: set[str] = set()
    for store in seen.stores:
        own = store.driver if drivers.count(store.driver) == 1 else _holding(store, seen, cast)[0]
        name = re.sub(r"\W+", "_", own).upper()
        free = (n for n in itertools.chain([name], (f"{name}_{k}" for k in itertools.count(2))) if n not in taken)
        found[store.address] = next(free)
        taken.add(found[store.address])
    return found


def _roles(
    seen: Seen, cast: _Cast, consumers: Mapping[str, str], streams: Sequence[Guessed]
) -> dict[str, tuple[str, str]]:
    """Component -> what it is to the streams, and how that is known; of those whose kind doesn't say it."""
    found: dict[str, tuple[str, str]] = {}
    for stream in streams:
        source = stream.source
        for group, part in consumers.items():
            known = next(one for one in (seen.broker.groups if seen.broker else ()) if one.name == group)
            reads = source is not None and set(known.behind) & set(stream.parts)
            found[part] = ("sink" if reads else "consumer", f"it reads the log as group {group}")
        if source is None:
            continue
        for part in _holding(source.store, seen, cast):
            found[part] = ("source", f"{source.table.name} is copied from here")
        for part in _all_of("connect", seen, cast) if source.connector else ():
            found[part] = ("connector", f"it runs {source.connector}")
        for part in [part for held in stream.tables for part in _holding(held.store, seen, cast)]:
            found.setdefault(part, ("store", "the copy is here"))
    return found


def _running(engine: Engine) -> list[Container]:
    """Those that run, or will again."""
    return [one for one in engine.containers if one.runs or one.restart not in ("", "no")]


def kind_of(container: Container) -> str:
    """broker, clickhouse, postgres, …, by the image's name; "": nothing that is known."""
    image = container.image.rpartition("/")[2].lower()
    if TOOLS.search(container.service.lower()) or TOOLS.search(image):
        return ""
    return next((kind for words, kind in KINDS if re.search(words, image)), "")


def _components(page: _Page, seen: Seen, cast: _Cast, roles: Mapping[str, tuple[str, str]]) -> None:
    page.rule("what runs, and what may be broken")
    if seen.engine is not None:
        _docker(page, seen, seen.engine, cast, roles)
    inside = {*cast.containers.values(), *cast.members}
    outside = {kind: name for kind, name in cast.kinds.items() if name == kind and name not in inside}
    known = {kind: [one for one in seen.processes if one.kind == kind] for kind in outside}
    if any(known.values()):
        _processes(page, seen, {kind: found for kind, found in known.items() if found}, roles)
    unknown = [kind for kind, found in known.items() if not found]
    if not unknown and (seen.engine is not None or known):
        return
    if seen.engine is None and not any(known.values()):
        page.table("hosts.local")
        page.set(
            "socket",
            "none",
            question="what runs these servers? Nothing says so, and so nothing can be broken yet. Under Docker "
            "Compose: gameday init --project NAME. Processes of this machine: as root, or as their user.",
        )
    else:
        page.table("hosts.local", "Where what is found nowhere else runs: it is looked at, never touched")
        page.set("socket", "none")
    for kind in unknown or [cast.first]:
        page.table(f"components.{kind}")
        _probe(page, seen, kind, None)


def _processes(
    page: _Page, seen: Seen, known: Mapping[str, Sequence[Runs]], roles: Mapping[str, tuple[str, str]]
) -> None:
    """Processes of this machine: units of systemd, and those that nobody supervises. known: kind -> them."""
    named = {
        (kind if len(found) == 1 else f"{kind}-{number}"): one
        for kind, found in known.items()
        for number, one in enumerate(found, 1)
    }
    page.lines.append("")
    page.ask(
        "which of these may be broken? Nothing is touched without opt_in = true: "
        f"{', '.join(f'components.{name}' for name in named)}."
    )
    managers = list(dict.fromkeys(one.manager for one in named.values() if one.unit))
    hosts = {manager: "systemd" if manager == managers[0] else f"systemd-{manager}" for manager in managers}
    for manager, host in hosts.items():
        page.table(f"hosts.{host}")
        if host != "systemd":
            page.set("driver", "systemd")
        page.set("manager", manager, "as root" if manager == "system" else "as the user whose manager it is")
    if alone := {name: one for name, one in named.items() if not one.unit}:
        page.table(
            "hosts.processes.commands",
            "No unit of systemd has these processes. One that nothing starts again can be frozen and cut off, and no "
            "more; with the shell's line that starts it here, it can be killed and restarted too. What follows a # is "
            "a guess, by its folder and command line: without its environment, and with its output nowhere.",
        )
        page.lines += [
            f"# {_key(name)} = {_value(_plain(one.line)) if one.line else '…'}" for name, one in alone.items()
        ]
    for name, one in named.items():
        members = [other for other, its in named.items() if its.kind == one.kind]
        if len(members) > 1 and name == members[0]:
            page.table(
                f"components.{one.kind}", "Each holds one of the given ports: tests strike one of them, and all."
            )
            _role(page, one.kind, one.kind, roles)
            page.set("members", members)
        page.table(f"components.{name}", f"pid {one.pid} holds {one.place}")
        page.set("host", hosts[one.manager] if one.unit else "processes")
        if len(members) == 1:
            _role(page, name, one.kind, roles)
        page.set("name", one.unit or one.words, "by its cgroup" if one.unit else "words of its command line")
        page.set("opt_in", False)
        _probe(page, seen, one.kind, None, place=one.place)


def _docker(page: _Page, seen: Seen, engine: Engine, cast: _Cast, roles: Mapping[str, tuple[str, str]]) -> None:
    runs = _running(engine)
    page.table("hosts.docker")
    page.set("url", engine.url)
    page.set("project", engine.project)
    unlabelled = [one.name for one in runs if not one.opted_in]
    if labelled := [one.name for one in runs if one.opted_in]:
        page.warn(
            f"{', '.join(labelled)} may be broken by the next `gameday run`, as its label gameday.opt-in=true says. "
            "Remedy, if that is not meant: opt_in = false below"
        )
    if unlabelled:
        page.set(
            "allow",
            [],
            question="which of these containers may be broken? Nothing is touched that isn't named here, or has the "
            f"label gameday.opt-in=true: {json.dumps(unlabelled)[1:-1]}.",
        )
    for one in runs:
        name = cast.containers[one.name]
        kind, part = kind_of(one), cast.part(one)
        if name == cast.members.get(part, [""])[0]:
            why = "Brokers of one image" if kind == "broker" else f"Replicas of the service {one.service}"
            page.table(f"components.{part}", f"{why}: tests strike one of them, and all (docs/failure-tests.md).")
            _role(page, part, kind, roles)
            page.set("members", list(cast.members[part]))
        page.table(f"components.{name}", *_about_container(one, kind))
        page.set("host", "docker")
        if part == name:
            _role(page, part, kind, roles)
        own = one.service if [other.service for other in runs].count(one.service) == 1 else one.name
        if name != own:
            page.set("name", own)
        page.set("opt_in", True, "its container's label says so" if one.opted_in else "as far as hosts.docker lets it")
        _probe(page, seen, kind, one, engine)
    for one in engine.containers:
        if one not in runs:
            page.note(f"{one.service} has ended, and nothing revives it: no component")


def _role(page: _Page, part: str, kind: str, roles: Mapping[str, tuple[str, str]]) -> None:
    """Where its name doesn't say it."""
    if part in roles:
        page.set("role", *roles[part])
    elif kind == "broker" and part != kind:
        page.set("role", kind)


def _about_container(one: Container, kind: str) -> Iterator[str]:
    revived = f"the engine revives it ({one.restart})" if one.restart not in ("", "no") else "nothing revives it"
    at = ", ".join(f"{port} as {where}" for port, where in one.published.items()) or "no port published"
    yield f"{one.image}{f': taken for the {kind}' if kind else ''}; {revived}; {at}; networks {', '.join(one.networks)}"


def _probe(
    page: _Page, seen: Seen, kind: str, one: Container | None, engine: Engine | None = None, place: str = ""
) -> None:
    """How it shows that it serves: by its protocol where its address is known, else by its container. place: of several
    brokers this one's."""
    brokers = seen.broker.address.split(",") if kind == "broker" and seen.broker is not None else []
    mine = [at for at in brokers if (at == place if place else one is None or _is_at(one, at))]
    if mine and seen.broker is not None:
        probe: dict[str, Any] = {"driver": "kafka", "address": mine[0]}
        if seen.broker.client:
            probe["client"] = page.client(seen.broker)
        page.set("probes.protocol", probe)
        return
    if kind == "connect" and seen.connect is not None and (one is None or _is_at(one, seen.connect.url)):
        _connectors(page, seen.connect)
        return
    log = next((log for log in seen.others if logs.KINDS[log.driver] == kind), None)
    if log is not None and (one is None or _is_at(one, log.address)):
        page.set("probes.ping", logs.probe(log, page.hidden(log.address, kind.upper())))
        return
    if kind == "s3" and seen.objects is not None and (one is None or _is_at(one, seen.objects.url)):
        at = {"driver": "http", "url": f"{seen.objects.url}/", "ok": seen.objects.answers, "rate_hz": 5}
        page.set("probes.answers", at, "what it answers to who doesn't sign in")
        return
    stores = [store for store in seen.stores if store.driver == kind and (one is None or _is_at(one, store.address))]
    if stores:
        store = stores[0]
        if kind == "clickhouse":
            page.set("probes.ping", {"driver": "http", "url": f"{_bare(store.address)}/ping"})
        else:
            page.set("probes.query", {"driver": "postgres", "dsn": page.store(store), "rate_hz": 2})
        return
    if one is not None and engine is not None:
        page.set("probes.runs", {"driver": "container", "url": engine.url, "container": one.name, "rate_hz": 5})
        return
    page.set(
        "probes.disk", {"driver": "disk", "path": "/"}, question="how does it show that it serves? docs/drivers.md"
    )


def _connectors(page: _Page, connect: Connectors) -> None:
    """A probe for each connector, and what it does with records."""
    url = page.hidden(connect.url, "CONNECT")
    for one in connect.connectors:
        told = "; ".join(f"{key} = {value}" for key, value in one.settings.items())
        page.note(f"{one.name}: a {'source' if one.source else 'sink'}, {one.kind}{f': {told}' if told else ''}")
        if not one.source and one.kind.startswith("Jdbc"):
            for line in _of_sink(one):
                page.note(line)
        probe = {"driver": "connect", "url": url, "connector": one.name, "rate_hz": 2}
        page.set(f"probes.{_slug(one.name)}", probe)
    if not connect.connectors:
        page.set("probes.rest", {"driver": "http", "url": f"{_bare(connect.url)}/connectors", "rate_hz": 2})
    if connect.unread:
        page.note(f"{connect.unread} more connectors were not looked into")


def _of_sink(one: Connector) -> Iterator[str]:
    """What a JDBC sink connector makes of a record that comes again, and of a deletion."""
    mode = one.settings.get("pk.mode") or one.settings.get("primary.key.mode") or "none"
    deletes = one.settings.get("delete.enabled", "false")
    if mode == "none":
        yield f"{one.name} has pk.mode none: a record that is delivered again is there again (kind = append)"
    elif one.settings.get("insert.mode", "insert") == "insert":
        yield f"{one.name} has pk.mode {mode} and insert.mode insert: a record that is delivered again ends its task"
    else:
        yield f"{one.name} has pk.mode {mode}: a record that is delivered again is there once"
    if deletes != "true":
        yield f"{one.name} has delete.enabled false: what is deleted stays there, and counts as doubled (kind = state)"


def _is_at(one: Container, where: str) -> bool:
    """Whether this container is who answers at an address. Unknown: it isn't said to be."""
    hosts = where.rpartition("@")[2].partition("://")[2] or where.rpartition("@")[2]
    ours = {f"127.0.0.1:{at.rpartition(':')[2]}" for at in one.published.values()}
    ours |= {f"localhost:{at.rpartition(':')[2]}" for at in one.published.values()}
    ours |= {f"{ip}:{port}" for ip in one.networks.values() for port in (*one.exposed, *one.published)}
    ours |= {*one.published.values()}
    named = [host.partition("/")[0].partition("?")[0] for host in hosts.split(",")]
    return any(host in ours or host.rpartition(":")[0] in (one.service, one.name) for host in named)


def _bare(url: str) -> str:
    """Without user, password and path."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2].partition('/')[0]}"


# ---- places in the log, alerts --------------------------------------------------------------------------------------


def _cursors(page: _Page, seen: Seen, consumers: Mapping[str, str], all_topics: Sequence[str]) -> None:
    broker = seen.broker
    if all_topics:
        page.rule("places in the log")
    for log in seen.others:
        if kept := [topic.name for topic in log.topics if topic.name in all_topics]:
            logs.cursors(page, log, kept, _slug)
    all_topics = [name for name in all_topics if broker is not None and name in {t.name for t in broker.topics}]
    if broker is None or not all_topics:
        return
    mine = [group for group in broker.groups if set(group.behind) & set(all_topics)]
    held = {topic.name: topic.held for topic in broker.topics}
    live = [group for group in mine if _live(group, held)]
    for group in live[:LISTED_MAX]:
        topics = [topic for topic in all_topics if topic in group.behind]
        page.table(f"cursors.{_slug(group.name)}")
        page.set("driver", "kafka")
        page.set("brokers", broker.address)
        if broker.client:
            page.set("client", page.client(broker))
        page.set("group", group.name, f"{sum(group.behind[t] for t in topics):,} messages behind when it was looked at")
        page.set("topics", topics)
        if group.name in consumers:
            others = [reader for reader in group.readers if reader not in _addresses(seen)]
            gone = f"; none of the containers is at {', '.join(others[:LISTED_MAX])}" if others else ""
            page.set(
                "component", consumers[group.name], f"its members are at {', '.join(group.readers[:LISTED_MAX])}{gone}"
            )
    if dead := [group.name for group in mine if group not in live]:
        page.note(f"Also known, and far behind, so probably ended: {', '.join(dead[:LISTED_MAX])}")
    if not live:
        page.note("No group has committed a place in these topics: nothing says how far a consumer is")
    if broker.groups_asked < broker.groups_known:
        page.note(f"Of {broker.groups_known:,} groups {broker.groups_asked:,} were asked for their places")
    page.table("watches.serving", "Every partition has a leader that hands out its last record.")
    page.set("driver", "kafka.Serving")
    page.set("brokers", broker.address)
    if broker.client:
        page.set("client", page.client(broker))
    page.set("topics", list(all_topics))
    page.set("rate_hz", 2)
    page.set("timeout_s", 2)


def _slots(page: _Page, seen: Seen, cast: _Cast, sources: Sequence[Source]) -> None:
    """A connector's place in its database's log."""
    for slot in dict.fromkeys(source.slot for source in sources if source.slot):
        source = next(one for one in sources if one.slot == slot)
        mine = [name for name, tables in source.store.publications.items() if source.table.name in tables]
        told = f"; {source.table.name} is in publication {', '.join(mine)}" if mine else ""
        page.table(f"cursors.{_slug(slot)}", f"A replication slot ({source.store.slots[slot]}){told}.")
        page.set("driver", "postgres")
        page.set("dsn", page.store(source.store))
        page.set(
            "slot", slot, f"connector {source.connector} reads by it" if source.connector else "the one that is in use"
        )
        if source.connector:
            page.set("component", _all_of("connect", seen, cast)[0], "it runs that connector")


def _live(group: Group, held: Mapping[str, int]) -> bool:
    behind, all_of_it = sum(group.behind.values()), sum(held.get(topic, 0) for topic in group.behind)
    return behind <= LIVE_SHARE_MAX * all_of_it


def _alerts(page: _Page, seen: Seen, cast: _Cast) -> None:
    assert seen.alerts is not None
    page.rule("the platform's own alerts: docs/alerts.md")
    page.table("alerts")
    page.set("driver", "prometheus")
    page.set("url", page.hidden(seen.alerts.url, "PROMETHEUS"))
    if seen.alerts.alertmanager:
        page.set("alertmanager", seen.alerts.alertmanager, "where an alert is silenced while a test provokes it")
    labels: dict[str, dict[str, str]] = {}
    known = {*cast.containers.values(), *cast.members, *cast.kinds.values()}
    containers = seen.engine.containers if seen.engine else ()
    by_service = {one.service: cast.part(one) for one in containers} | {
        one.name: cast.containers[one.name] for one in containers
    }
    for rule in seen.alerts.rules:
        for name, value in rule.labels.items():
            role = by_service.get(value) or (value if value in known else None)
            if role is not None and name != "severity":
                labels.setdefault(role, {name: value})
        expression = rule.expression if len(rule.expression) <= 60 else rule.expression[:57] + "..."
        page.note(f"{rule.name}: {expression}" + (f", labels {dict(rule.labels)}" if rule.labels else ""))
    if labels:
        page.table("alerts.labels", "By the labels that name a component.")
        for role, its in labels.items():
            page.set(role, its)


# ---- TOML ------------------------------------------------------------------------------------------------------------


def _hidden(url: str, name: str, secrets: dict[str, str]) -> str:
    at = address.of(url) if address.looks_like_one(url) else None
    if at is None:
        return url
    if at.password:
        secrets[name] = at.password
        scheme, _, rest = url.partition("://")
        login, _, hosts = rest.rpartition("@") if "@" in rest.partition("/")[0] else ("", "", rest)
        url = f"{scheme}://{login.partition(':')[0]}:${{{name}}}@{hosts}"

    def one(match: re.Match[str]) -> str:
        secrets[f"{name}_2" if at.password else name] = match[2]
        return f"{match[1]}${{{name}{'_2' if at.password else ''}}}"

    return re.sub(r"([?&](?:password|sslpassword|passfile)=)([^&#]+)", one, url)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{_key(key)} = {_value(inner)}" for key, inner in value.items()) + " }" if value else "{}"
        )
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)


def _key(key: str) -> str:
    if key.startswith("probes."):
        return key
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else _value(key)


def _comment(text: str) -> list[str]:
    return [
        f"# {line}" for line in textwrap.wrap(_plain(text), WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    ]


def _plain(text: str) -> str:
    """On one line, whatever a server's names hold."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _slug(text: str) -> str:
    found = re.sub("[^a-z0-9_-]+", "-", text.lower()).strip("-_")
    return found or "stack"
