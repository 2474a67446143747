"""How fast rows are hashed and tallied, as ratios against a plain numpy sum of the same columns in the same run:
figures of a busy machine compare that way. Run: python -m benchmarks.digest
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from gameday.records.hashing import row_hash
from gameday.records.tallies import tally

ROWS = 2_000_000
ROUNDS = 5
"""The best of these counts: the others were disturbed."""


def best_s(work: Callable[[], object]) -> float:
    """The shortest of ROUNDS runs."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def main() -> None:
    """Print one line a measurement."""
    random = np.random.default_rng(1)
    ids = np.arange(1, ROWS + 1, dtype=np.int64)
    columns = [ids, *(random.integers(0, 10**12, ROWS) for _ in range(4))]
    hashes = row_hash(columns)
    again = np.sort(np.concatenate([ids, random.choice(ids, ROWS // 100)]))
    shuffled = random.permutation(ids)
    work: dict[str, Callable[[], object]] = {
        "plain sum of the columns": lambda: sum(int(c.sum()) for c in columns),
        f"row_hash of {len(columns)} columns": lambda: row_hash(columns),
        "tally, in order": lambda: tally(ids, hashes, ordered=True),
        "tally, 1 % sent again": lambda: tally(again, hashes[again - 1], ordered=True),
        "tally, in no order": lambda: tally(shuffled, hashes, ordered=True),
    }
    sum_s = best_s(next(iter(work.values())))
    for name, one in work.items():
        took_s = best_s(one)
        print(f"{name:28} {ROWS / took_s / 1e6:8.1f} M rows/s   {took_s / sum_s:6.1f} x the plain sum")


if __name__ == "__main__":
    main()
