"""Does every commit to the archive add exactly what its summary claims, and what the ledger has?"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

from gameday.model import EMPTY, Commit, Evidence, Finding, Group, Verdict
from gameday.sampling.timings import fall
from gameday.verdict.checks._damage import compare, judged, label
from gameday.verdict.streams import whole

__all__ = ["snapshots_whole"]

HEAD = "archive/head/"


@whole
def snapshots_whole(evidence: Evidence) -> Finding:
    """Per commit since the baseline and group: the rows it added equal the ledger's between the heads of two
    consecutive summaries, each once; and the broker has just these heads below the summary's offsets.

    A table that was rolled back behind the baseline has taken back what it had. A commit that doesn't say where it is
    promises no range, and may bring late rows: it is held against the ledger's only where the archive as a whole is not
    what the ledger says.
    """
    evidence = evidence.exported()
    if back := evidence.symptoms.get("archive.rolled_back") or _fell(evidence):
        return Finding("snapshots_whole", Verdict.FAIL, back)
    pairs = list(pairwise(evidence.commits))
    if not pairs:
        trouble = (evidence.symptoms.get("trouble") or {}).get("archive")
        why = f"the commits could not be read: {trouble}" if trouble else "no commit since the baseline"
        return Finding("snapshots_whole", Verdict.UNKNOWN, f"there is nothing to judge: {why}")
    whole = any(reference.stream == "archive" for reference, _ in judged(evidence))
    damaged = {d.group for d in compare(evidence) if d.stream == "archive" and (d.lost or d.doubled or d.changed)}
    bad, unconfirmed, rows = [], [], 0
    for before, commit in pairs:
        bad += _wrong(before, commit, damaged)
        rows += sum(tally.rows for tally in commit.added.values())
        if commit.right is None or (commit.logged is None if commit.position else not whole):
            unconfirmed.append(commit.id)
    if bad:
        return Finding("snapshots_whole", Verdict.FAIL, "; ".join(bad[:3]), bad)
    if unconfirmed:
        why = f"commit {unconfirmed[0]}: the ledger or the broker could not be asked what it should hold"
        return Finding("snapshots_whole", Verdict.UNKNOWN, why, unconfirmed)
    placed = all(commit.position for _, commit in pairs)
    right = "each exactly the ledger's, at the broker's offsets" if placed else f"together exactly {evidence.ledger}'s"
    why = f"{len(pairs)} commits added {rows:,} rows, {right}"
    return Finding("snapshots_whole", Verdict.PASS, why, {"commits": len(pairs), "rows": rows})


def _fell(evidence: Evidence) -> str | None:
    """What shows that somebody took back a commit beside the run, in words: a group's highest id that fell."""
    for name, samples in evidence.samples.items():
        if name.startswith(HEAD) and (fallen := fall(samples)):
            had = f"the archive had {name.removeprefix(HEAD)} up to id {fallen[0]:.0f}"
            return f"{had}, and later to {fallen[1]:.0f}: a commit was taken back"
    return None


def _wrong(before: Commit, commit: Commit, damaged: Collection[Group]) -> list[str]:
    """What is wrong with one commit, in words. damaged: the groups in which the archive isn't what it should be."""
    found = []
    back = [slot for slot, at in before.position.items() if commit.position.get(slot, 0) < at]
    if back:
        found.append(f"commit {commit.id} goes back in {back[0]}")
    for group in dict.fromkeys([*commit.heads, *commit.added]):
        right, added = (commit.right or {}).get(group, EMPTY), commit.added.get(group, EMPTY)
        where = f"commit {commit.id}, {label(group)}"
        if added.rows > added.keys:
            found.append(f"{where}: {added.rows - added.keys} rows twice")
        ranged = bool(commit.position) or group in damaged
        if (
            ranged
            and commit.right is not None
            and (added.keys, added.sum, added.lo, added.hi)
            != (
                right.keys,
                right.sum,
                right.lo,
                right.hi,
            )
        ):
            found.append(f"{where}: {added.keys} ids {added.lo}–{added.hi}, the ledger has {right.keys}")
        logged = (commit.logged or {}).get(group)
        if logged is not None and logged != commit.heads.get(group, 0):
            found.append(f"{where}: up to id {commit.heads.get(group, 0)}, the broker has {logged} at these offsets")
    return found
