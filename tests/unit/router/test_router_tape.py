"""The router's tape and decisions: pure functions, of the seed and of a request."""

from __future__ import annotations

import hashlib
from uuid import UUID

import orjson
import pytest

from pipelines.router.deciding import BACKOFF_S, Unhandled, backoff_s, decide, decision, read
from pipelines.router.tape import (
    KINDS,
    POISON,
    POISON_EVERY,
    POISON_FIRST,
    SCALE,
    TENANTS,
    asked,
    is_poison,
    message,
    poison,
    records,
    request,
)


def test_a_request_is_a_function_of_seed_tenant_and_number() -> None:
    """The same again, and another for each of the three; its id is a UUID of its own."""
    made = {(seed, tenant, n): request(seed, tenant, n) for seed in (1, 2) for tenant in TENANTS for n in range(1, 200)}
    assert all(request(*key) == one for key, one in made.items())
    assert len({one["id"] for one in made.values()}) == len(made)
    assert {UUID(one["id"]).version for one in made.values()} == {4}


def test_bodies_are_short_and_long_and_tell_their_digest() -> None:
    """As the issue has them: 0.2 to 4 kB."""
    bodies = [request(1, "t0", n)["body"] for n in range(1, 2_000)]
    assert 200 <= min(map(len, bodies)) < 300
    assert 3_000 < max(map(len, bodies)) <= 4_000
    one = request(1, "t0", 5)
    assert one["body_md5"] == hashlib.md5(one["body"].encode()).hexdigest()


def test_one_request_in_997_is_poison_and_the_first_ones_come_apart() -> None:
    """Of each tenant; the ledger names them."""
    first = [next(n for n in range(1, 2_000) if is_poison(tenant, n)) for tenant in TENANTS]
    assert first == [POISON_FIRST + place * POISON_EVERY // len(TENANTS) for place in range(len(TENANTS))]
    tape = {"seed": 1, "poison": [{"n": 1, "kind": "slow"}, {"n": 2, "kind": "crashes"}]}
    found = poison(tape, ("t0",), 0, 2_000)
    assert [(n, kind) for n, _, kind in found] == [(17, "raises"), (1_014, "raises")]
    assert found[0][1] == request(1, "t0", 17)["id"]
    assert poison(tape, (POISON,), 1, 9) == [(2, asked(1, 2, "crashes")["id"], "crashes")]


def test_records_are_what_is_published() -> None:
    """Field by field, as canonical values."""
    columns = records({"seed": 1}, ("t2",), 3, 9)
    assert columns["n"].tolist() == [4, 5, 6, 7, 8, 9]
    for place, n in enumerate(columns["n"].tolist()):
        told = orjson.loads(message(request(1, "t2", n)))
        assert columns["id"][place] == UUID(told["id"]).bytes
        assert columns["amount"][place] == round(float(told["amount"]) * SCALE)
        assert (columns["tenant"][place], columns["body_md5"][place]) == (told["tenant"], told["body_md5"])


def test_a_decision_follows_from_the_request_alone_and_has_all_of_it() -> None:
    """Poison that raises is not decided."""
    given = orjson.loads(message(request(1, "t1", 7)))
    assert decide(given) == decide(dict(given))
    assert orjson.loads(decision(given, "north", "router-a", 2)) == {
        "request": given,
        "lane": "north",
        "router": "router-a",
        "attempt": 2,
    }
    with pytest.raises(Unhandled, match="no rule"):
        decide(orjson.loads(message(asked(1, 1, KINDS[0]))))


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'{"id": "x"}'])
def test_what_is_no_request_is_not_handled(payload: bytes) -> None:
    """Its bytes are in no message: they may be somebody's data."""
    with pytest.raises(Unhandled, match="no request"):
        read(payload)


def test_each_attempt_waits_twice_as_long_up_to_a_bound() -> None:
    """So five deliveries take less than a second."""
    waits = [backoff_s(attempt) for attempt in range(1, 12)]
    assert waits[:5] == [0.05, 0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == BACKOFF_S[1]
