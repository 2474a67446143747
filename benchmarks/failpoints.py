"""What a failpoint costs: disarmed in each form beside the floor and what else one could do, and armed; allocations.

All in one run, in nanoseconds above an empty loop, so that figures of a busy machine compare. Run: python -m
benchmarks.failpoints
"""

from __future__ import annotations

import os
import sys
import tempfile
import timeit
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks._measured import ended
from failpoints import points
from failpoints.points import Point, point
from failpoints.scenario import scenario
from failpoints.trail import Trail

ROUNDS = 15
"""The best of these counts: the others were disturbed."""

HITS = 100_000
SLOWER_HITS = 10_000
DISARMED_NS_MAX = 10.0
OFF_NS_MAX = 1000.0

WRITE = point("benchmark::write", "measured")
FLAG = False
BY_NAME: Mapping[str, Point] = {}


class Floor:
    """Something with an attribute: nothing that can be switched at run time is cheaper to ask."""

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on: Point | None = None


FLOOR = Floor()


def by_name(name: str) -> None:
    """How a library does it that looks its points up at each hit."""
    found = BY_NAME.get(name)
    if found is not None:
        found()


def work() -> None:
    """What is decorated."""


decorated = WRITE.before(work)

DISARMED = {
    "floor: an attribute test": "if FLOOR.on is not None: FLOOR.on()",
    "recommended: if P.on is not None: P()": "if WRITE.on is not None: WRITE()",
    "call: P()": "WRITE()",
    "context: with P:": "with WRITE: pass",
    "decorator: @P.before": "decorated()",
    "instead: a module's flag": "if FLAG: WRITE()",
    "instead: a look-up by name": "by_name('benchmark::write')",
}
ARMED = {
    "off": "off",
    "hits that are not reached": "999999999@raise",
    "a chain of three, none takes it": "999999998@raise->999999999@kill->off",
    "luck that doesn't come": "0.000000001%raise",
}


def ns(statement: str, hits: int = HITS) -> float:
    """Nanoseconds of one, the best of ROUNDS, above those of an empty loop."""
    once = min(timeit.repeat(statement, globals=globals(), number=hits, repeat=ROUNDS))
    empty = min(timeit.repeat("pass", number=hits, repeat=ROUNDS))
    return (once - empty) / hits * 1e9


def allocated(hit: Callable[[], Any]) -> tuple[int, int]:
    """Blocks that stay and bytes at the peak, over HITS hits, the loop's own included."""
    rounds = range(HITS)
    hit()
    blocks = sys.getallocatedblocks()
    for _ in rounds:
        hit()
    blocks = sys.getallocatedblocks() - blocks
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in rounds:
        hit()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return blocks, peak


def recommended() -> None:
    """As it stands in the code."""
    if WRITE.on is not None:
        WRITE()


def main() -> int:
    """Print one line a measurement; exit 1 when a promise is not kept."""
    print(f"disarmed, ns a hit (promise: the recommended form in {DISARMED_NS_MAX:g}, no allocations)")
    taken = {name: ns(statement) for name, statement in DISARMED.items()}
    taken["decorator: @P.before"] -= ns("work()")
    for name, took in taken.items():
        print(f"  {name:42} {took:7.1f}")
    kept = taken["recommended: if P.on is not None: P()"] <= DISARMED_NS_MAX

    hits: dict[str, Callable[[], Any]] = {"recommended": recommended, "call": WRITE, "decorator": decorated}
    for name, hit in hits.items():
        blocks, peak = (mine - loop for mine, loop in zip(allocated(hit), allocated(work), strict=True))
        print(f"  {name}: {blocks} blocks left by {HITS:,} hits, {peak} bytes at the peak")
        kept &= blocks <= 0 and peak <= 0

    print(f"armed, and not firing, ns a hit (promise: {OFF_NS_MAX:g})")
    for name, term in ARMED.items():
        points.arm("benchmark::write", term)
        took = ns("if WRITE.on is not None: WRITE()", SLOWER_HITS)
        print(f"  {name:42} {took:7.0f}")
        kept &= took <= OFF_NS_MAX
    points.disarm("benchmark::write")
    with scenario("benchmark::write=off", must_fire=False):
        print(f"  {'off, in a scenario':42} {ns('if WRITE.on is not None: WRITE()', SLOWER_HITS):7.0f}")

    print("firing, ns a hit")
    points.arm("benchmark::write", "sleep(0)")
    print(f"  {'without evidence':42} {ns('WRITE()', SLOWER_HITS):7.0f}")
    with tempfile.TemporaryFile() as evidence:
        points.configure(Trail(evidence=os.dup(evidence.fileno())))
        points.arm("benchmark::write", "sleep(0)")
        print(f"  {'with a line of evidence':42} {ns('WRITE()', SLOWER_HITS // 10):7.0f}")
    if not kept:
        print("a promise was not kept", file=sys.stderr)
    return 0 if kept else 1


if __name__ == "__main__":
    ended(main)
