"""The account of deliveries: whatever fails, each is counted once, and to its own request."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from nats.errors import TimeoutError as NoAnswer
from nats.js.errors import NotFoundError
from redis.exceptions import ConnectionError as Refused

from pipelines.router.accounts import Away, Ended, JetStream, Valkey
from pipelines.router.backends import ATTEMPTS, ID
from pipelines.router.backends.valkey import again
from pipelines.router.observer import Tally
from pipelines.router.settings import DECISIONS, REQUESTS


class Server(JetStream):
    """told: what the server has told of each acknowledgement, (request's number in the stream, deliveries); the stream
    keeps the requests below `forgotten` no more. fails_at: the one at which it gives no answer, once."""

    def __init__(self, *told: tuple[int, int], forgotten: int = 0, fails_at: int = 0) -> None:
        super().__init__("nats://u:p@h:1")
        self.told, self.forgotten, self.fails_at = list(told), forgotten, fails_at

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        yield self

    async def stream_info(self, stream: str) -> Any:
        return SimpleNamespace(state=SimpleNamespace(first_seq=1, last_seq=len(self.told)))

    async def get_msg(self, stream: str, number: int) -> Any:
        if stream == REQUESTS.requests:
            if number < self.forgotten:
                raise NotFoundError
            return SimpleNamespace(headers={ID: f"r{number}"})
        if number == self.fails_at:
            self.fails_at = 0
            raise NoAnswer
        place, deliveries = self.told[number - 1]
        return SimpleNamespace(data=json.dumps({"stream_seq": place, "deliveries": deliveries}))


def test_what_was_read_before_the_broker_went_away_is_counted() -> None:
    """Else a request that was handed out too often is in no account, and counters that are right seem wrong."""
    server = Server((1, 9), (2, 2), (3, 1), fails_at=3)
    with pytest.raises(Away):
        server.read()
    assert server.read() == [Ended("r1", 9), Ended("r2", 2), Ended("", 1)]
    assert server.read() == []


def test_a_stream_that_numbers_anew_is_read_on() -> None:
    """One that has lost its end with its server gives the numbers to what comes next."""
    server = Server((1, 1), (2, 1), (3, 1))
    server.read()
    del server.told[1:]
    assert server.read() == []
    server.told.append((4, 2))
    assert server.read() == [Ended("r4", 2)]


def test_what_the_stream_has_forgotten_is_a_request_of_its_own() -> None:
    """It has no part in those that came once, nor in another that is forgotten."""
    tally = Tally()
    tally.add(Server((1, 6), (2, 3), (3, 1), forgotten=3).read(), now_us=10)
    tally.add([Ended("", 1)], now_us=20)
    assert {one["id"]: one["deliveries"] for one in tally.again(0)} == {"number 1": 6, "number 2": 3}
    assert tally.again(20) == []
    assert tally.numbers() == {"deliveries": 11, "acked": 4, "redeliveries": 7}


def test_valkey_counts_what_it_had_of_one_stream_when_the_other_fails() -> None:
    """The place of the first has moved on."""
    account = Valkey("redis://127.0.0.1:1")
    entry = {ID.encode(): b"a", b"data": orjson.dumps({"attempt": 4})}
    dead = {ID.encode(): b"b", ATTEMPTS.encode(): b"5"}
    answers: dict[str, list[Any]] = {
        DECISIONS.requests: [[(b"1-0", entry)], []],
        again(DECISIONS.requests): [[], []],
        REQUESTS.dead: [Refused("gone"), [(b"1-1", dead)]],
    }

    def xrange(stream: str, **_: Any) -> Any:
        answer = answers[stream].pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    account._client = SimpleNamespace(xrevrange=lambda *_, **__: [], xrange=xrange)
    with pytest.raises(Away):
        account.read()
    assert account.read() == [Ended("a", 4), Ended("b", 5)]
