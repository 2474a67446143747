"""Over each broker: a day with all that can go wrong leaves no damage; and every planted defect that changes what
becomes of a request is damage in gameday's own words, with the keys of requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from gameday.system.polling import until
from pipelines.router.defects import DEFECTS
from pipelines.router.tape import POISON_FIRST
from tests.contract.router.rig import BACKENDS, WAIT_S, Bare, bare, brought_up

pytestmark = [pytest.mark.suite("router"), pytest.mark.timeout(400)]

EACH = 30
"""So many requests of each tenant are judged; the first tenant's poison is among them."""

POISON = ("t0", POISON_FIRST)

Damage = Mapping[tuple[str, str], list[tuple[str, int]]]


@dataclass(frozen=True)
class Case:
    """found: where and how the damage shows. failpoints: program -> what is armed there. then: what is done meanwhile.
    key: of a request that must be among the damaged; None: any. not_over: backends that see to it by themselves."""

    found: tuple[str, str]
    failpoints: Mapping[str, str] = field(default_factory=dict)
    then: Callable[[Bare], None] = lambda _: None
    key: tuple[str, int] | None = None
    not_over: tuple[str, ...] = ()


def router_killed(platform: Bare) -> None:
    """By its failpoint; it is started again."""
    platform.router.killed()


def worker_killed(platform: Bare) -> None:
    platform.worker.killed()


def broker_killed(platform: Bare) -> None:
    """And started again, and everybody is connected to it again; more is published then."""
    platform.published(EACH // 3)
    platform.broker.kill()
    until(lambda: not connected(platform), WAIT_S, what="a router that has seen the broker's end")
    platform.broker.start()
    until(lambda: connected(platform), WAIT_S, what="a router that is connected")


def connected(platform: Bare) -> bool:
    lines = platform.router.ask("/metrics").decode().splitlines()
    return any(line.startswith("router_broker_connected{") and line.endswith(" 1.0") for line in lines)


LOST, DOUBLED = ("outcomes", "lost"), ("outcomes", "doubled")

CASES: Mapping[str, Case] = {
    "ack_first": Case(LOST, {"router": "router::before_publish=20*off->1*kill"}, router_killed),
    "publish_unawaited": Case(LOST, {"router": "router::after_ack=20*off->1*kill"}, router_killed),
    "fail_open": Case(LOST, {"router": "broker::before_publish=20*off->1*return(refused)"}),
    "new_id": Case(DOUBLED, {"caller": "broker::after_publish=20*off->1*return(lost)"}),
    "forget_after_reconnect": Case(LOST, {}, broker_killed),
    "nak_loop": Case(LOST, {}, key=POISON, not_over=("kafka",)),  # Kafka's broker bounds deliveries by itself
    "no_dead_letter": Case(LOST, {}, key=POISON, not_over=("kafka",)),
    "drop_exhausted": Case(LOST, {}, key=POISON),
    "dead_after_ack": Case(LOST, {"router": "router::after_dead_ack=1*kill"}, router_killed, key=POISON),
    "poison_blocks": Case(LOST, {}, key=POISON),
    "not_idempotent": Case(DOUBLED, {"worker": "worker::between_effect_and_ack=2*off->1*kill"}, worker_killed),
}

UNSEEN = ("short_wait", "dead_without_reason")
"""What leaves each request with its one right outcome: how often it was handed out, or what its dead letter says, shows
it. So do metrics, which have contracts of their own."""

BAD_DAY: Mapping[str, str] = {
    "caller": "broker::after_publish=20*off->2*return(lost);broker::before_publish=40*off->1*return(refused)",
    "router": "broker::before_publish=10*off->1*return(refused);broker::after_ack=20*off->1*return(lost);"
    "router::between_publish_and_ack=30*off->1*kill",
    "worker": "broker::after_ack=10*off->1*return(lost);worker::between_effect_and_ack=2*off->1*kill",
}


def test_every_defect_is_in_the_table() -> None:
    """But those whose traces are elsewhere."""
    about_metrics = {name for name, about in DEFECTS.items() if about.startswith("metrics: ")}
    assert set(DEFECTS) == {*CASES, *UNSEEN, *about_metrics}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bad_day_leaves_no_damage(backend: str, dsn: str, tmp_path: Path) -> None:
    """Answers are lost, calls refused, router, worker and broker killed, and a request can't be handled: each request
    has its one outcome all the same."""
    with brought_up(backend, tmp_path / "broker") as broker, bare(broker, dsn, tmp_path, **BAD_DAY) as platform:
        router_killed(platform)
        worker_killed(platform)
        broker_killed(platform)
        upto = platform.published(EACH)
        stack = platform.judge()
        until(lambda: not platform.damage(stack, upto), WAIT_S, 0.5, "an outcome of each request")
        (dead,) = [one for one in outcomes(platform) if one["kind"] == "dead" and one["n"] <= EACH]
    assert (dead["tenant"], dead["n"]) == POISON
    assert dead["reason"]


@pytest.mark.parametrize(
    ("backend", "defect"),
    [(backend, defect) for backend in BACKENDS for defect, case in CASES.items() if backend not in case.not_over],
)
def test_a_planted_defect_is_found(backend: str, defect: str, dsn: str, tmp_path: Path) -> None:
    """At its hop, in its way, with the key of a request."""
    case = CASES[defect]
    armed = case.failpoints
    with (
        brought_up(backend, tmp_path / "broker") as broker,
        bare(broker, dsn, tmp_path, defect, **armed) as platform,
    ):
        case.then(platform)
        upto = platform.published(EACH)
        stack = platform.judge()
        found = settled(platform, lambda: platform.damage(stack, upto), case)
    assert found[case.found], found
    assert case.key is None or case.key in found[case.found]


def settled(platform: Bare, damage: Callable[[], Damage], case: Case) -> Damage:
    """The damage once the store has what it will get: twice the same, with the case's among it."""
    seen: list[Any] = []

    def still() -> bool:
        seen.append((len(outcomes(platform, EACH)), damage()))
        return len(seen) > 3 and seen[-1] == seen[-4] and case.found in seen[-1][1]

    until(still, WAIT_S, 1.0, f"the damage {case.found} to stay as it is")
    found: Damage = seen[-1][1]
    return found


def outcomes(platform: Bare, upto: int = 10**9) -> list[dict[str, Any]]:
    """What the store has."""
    with psycopg.connect(platform.dsn, row_factory=dict_row) as connection:
        return connection.execute("SELECT tenant, n, kind, reason FROM outcomes WHERE n <= %s", [upto]).fetchall()
