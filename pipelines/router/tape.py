"""Computes the caller's requests: request n of a tenant is a pure function of the seed, so it is known without storage
what should exist. caller.py publishes them.

The tape is the JSON of /tape: "seed", "heads" (tenant -> the request that is being published, or was last), and
"poison", the extra requests, which have the tenant POISON: no stream of records has them.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import orjson

__all__ = [
    "KINDS",
    "POISON",
    "POISON_EVERY",
    "SCALE",
    "TENANTS",
    "asked",
    "is_poison",
    "message",
    "poison",
    "records",
    "request",
]

TENANTS = ("t0", "t1", "t2", "t3")
POISON = "poison"
"""The tenant of the extra requests."""

KINDS = ("raises", "crashes", "slow")
"""What is wrong with a poison request: handling it raises, ends the process, or takes longer than the broker waits."""

POISON_EVERY, POISON_FIRST = 997, 17
"""One in so many requests of a tenant raises, and the first one that does. Each tenant's comes later than the
last's."""

SCALE = 100
"""Amounts are integers in units of 1/SCALE."""

AMOUNT_MAX = 1_000_000
BODY_MIN, BODY_MAX = 200, 4_000
DEADLINE_MS = (1_000, 60_000)
ALPHABET = "abcdefghijklmnopqrstuvwxyz "

Tape = Mapping[str, Any]
Group = tuple[str, ...]
Request = dict[str, Any]


@functools.lru_cache(maxsize=8)
def _text(seed: int) -> str:
    """Return the text from which bodies are cut."""
    return "".join(random.Random(f"{seed}/text").choices(ALPHABET, k=2 * BODY_MAX))


def _words(seed: int, tenant: str, n: int) -> bytes:
    return hashlib.sha256(f"{seed}/{tenant}/{n}".encode()).digest()


def is_poison(tenant: str, n: int) -> bool:
    """Whether request n can't be handled."""
    if tenant not in TENANTS:
        return False
    return n % POISON_EVERY == POISON_FIRST + TENANTS.index(tenant) * POISON_EVERY // len(TENANTS)


def request(seed: int, tenant: str, n: int) -> Request:
    """Return request n of a tenant. amount is in units of 1/SCALE."""
    words = _words(seed, tenant, n)
    number = int.from_bytes(words[16:24], "big")
    share = (number % 1_000) / 1_000  # most bodies are short
    size = BODY_MIN + int((BODY_MAX - BODY_MIN) * share**4)
    start = int.from_bytes(words[24:28], "big") % BODY_MAX
    body = _text(seed)[start : start + size]
    return {
        "id": str(UUID(bytes=words[:16], version=4)),
        "tenant": tenant,
        "n": n,
        "kind": "raises" if is_poison(tenant, n) else "transfer",
        "amount": number % AMOUNT_MAX,
        "deadline_ms": DEADLINE_MS[0] + int.from_bytes(words[28:32], "big") % (DEADLINE_MS[1] - DEADLINE_MS[0]),
        "body": body,
        "body_md5": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
    }


def asked(seed: int, n: int, kind: str) -> Request:
    """Return the n-th extra request."""
    return {**request(seed, POISON, n), "kind": kind}


def poison(tape: Tape, group: Group, lo: int, hi: int) -> list[tuple[int, str, str]]:
    """Return number, id and kind of the requests lo < n <= hi of a tenant that can't be handled."""
    if group[0] == POISON:
        made = [asked(tape["seed"], one["n"], one["kind"]) for one in tape["poison"] if lo < one["n"] <= hi]
    else:
        made = [request(tape["seed"], group[0], n) for n in range(lo + 1, hi + 1) if is_poison(group[0], n)]
    return [(one["n"], one["id"], one["kind"]) for one in made]


def message(made: Request) -> bytes:
    """Return a request as it is published."""
    return orjson.dumps({**made, "amount": f"{made['amount'] // SCALE}.{made['amount'] % SCALE:02}"})


def records(tape: Tape, group: Group, lo: int, hi: int) -> dict[str, npt.NDArray[Any]]:
    """Return requests lo < n <= hi of a tenant as the platform's records: canonical values by field."""
    made = [request(tape["seed"], group[0], n) for n in range(lo + 1, hi + 1)]
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, canonical in (("tenant", str), ("id", lambda text: UUID(text).bytes), ("body_md5", str)):
        columns[name] = np.empty(len(made), dtype=object)
        columns[name][:] = [canonical(one[name]) for one in made]
    for name in ("n", "amount", "deadline_ms"):
        columns[name] = np.array([one[name] for one in made], dtype=np.int64)
    return columns
