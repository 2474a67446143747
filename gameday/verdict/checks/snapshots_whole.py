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
    """Fail if a commit since the baseline is not whole, or was taken back.

    For each group, the rows that a commit added must equal the ledger's between its heads and those of the commit
    before, each once. The broker must have exactly these heads below the commit's offsets.

    A commit without a position promises no range of ids, and may bring late rows. It is compared with the ledger only
    if the archive as a whole differs from the ledger. A table that was rolled back behind the baseline fails too.
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
    """Return how the samples show that somebody took back a commit (a group's highest id fell), in words; else None."""
    for name, samples in evidence.samples.items():
        if name.startswith(HEAD) and (fallen := fall(samples)):
            had = f"the archive had {name.removeprefix(HEAD)} up to id {fallen[0]:.0f}"
            return f"{had}, and later to {fallen[1]:.0f}: a commit was taken back"
    return None


def _wrong(before: Commit, commit: Commit, damaged: Collection[Group]) -> list[str]:
    """Return what is wrong with one commit, in words. damaged: the groups in which the archive differs from the
    ledger."""
    faults = []
    back = [slot for slot, at in before.position.items() if commit.position.get(slot, 0) < at]
    if back:
        faults.append(f"commit {commit.id} goes back in {back[0]}")
    for group in dict.fromkeys([*commit.heads, *commit.added]):
        right, added = (commit.right or {}).get(group, EMPTY), commit.added.get(group, EMPTY)
        where = f"commit {commit.id}, {label(group)}"
        if added.rows > added.keys:
            faults.append(f"{where}: {added.rows - added.keys} rows twice")
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
            faults.append(f"{where}: {added.keys} ids {added.lo}–{added.hi}, the ledger has {right.keys}")
        logged = (commit.logged or {}).get(group)
        if logged is not None and logged != commit.heads.get(group, 0):
            faults.append(f"{where}: up to id {commit.heads.get(group, 0)}, the broker has {logged} at these offsets")
    return faults
