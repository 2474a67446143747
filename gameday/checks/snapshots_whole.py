"""Does every commit to the archive add exactly what its summary claims, and what the ledger has?"""

from __future__ import annotations

from itertools import pairwise

from gameday.checks._damage import label
from gameday.digest import EMPTY
from gameday.model import Commit, Evidence, Finding, Verdict

__all__ = ["snapshots_whole"]


def snapshots_whole(evidence: Evidence) -> Finding:
    """Per commit since the baseline and group: the rows it added equal the ledger's between the heads of two
    consecutive summaries, each once; and the broker has just these heads below the summary's offsets."""
    pairs = list(pairwise(evidence.commits))
    if not pairs:
        return Finding("snapshots_whole", Verdict.UNKNOWN, "there is nothing to judge: no commit since the baseline")
    bad, unconfirmed, rows = [], [], 0
    for before, commit in pairs:
        bad += _wrong(before, commit)
        rows += sum(tally.rows for tally in commit.added.values())
        if commit.right is None or commit.logged is None:
            unconfirmed.append(commit.id)
    if bad:
        return Finding("snapshots_whole", Verdict.FAIL, "; ".join(bad[:3]), bad)
    if unconfirmed:
        why = f"commit {unconfirmed[0]}: the ledger or the broker could not be asked what it should hold"
        return Finding("snapshots_whole", Verdict.UNKNOWN, why, unconfirmed)
    why = f"{len(pairs)} commits added {rows:,} rows, each exactly the ledger's, at the broker's offsets"
    return Finding("snapshots_whole", Verdict.PASS, why, {"commits": len(pairs), "rows": rows})


def _wrong(before: Commit, commit: Commit) -> list[str]:
    """What is wrong with one commit, in words."""
    found = []
    back = [slot for slot, at in before.position.items() if commit.position.get(slot, 0) < at]
    if back:
        found.append(f"commit {commit.id} goes back in {back[0]}")
    for group in dict.fromkeys([*commit.heads, *commit.added]):
        right, added = (commit.right or {}).get(group, EMPTY), commit.added.get(group, EMPTY)
        where = f"commit {commit.id}, {label(group)}"
        if added.rows > added.keys:
            found.append(f"{where}: {added.rows - added.keys} rows twice")
        if commit.right is not None and (added.keys, added.sum, added.lo, added.hi) != (
            right.keys,
            right.sum,
            right.lo,
            right.hi,
        ):
            found.append(f"{where}: {added.keys} ids {added.lo}–{added.hi}, the ledger has {right.keys}")
        logged = (commit.logged or {}).get(group)
        if logged is not None and logged != commit.heads.get(group, 0):
            found.append(f"{where}: up to id {commit.heads.get(group, 0)}, the broker has {logged} at these offsets")
    return found
