"""The end of a night: one digest of the whole history, from the first trade to now."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday import ahead, checks
from gameday.errors import GamedayError
from gameday.model import Digest, Evidence, Finding, Verdict, Window, merge
from gameday.ports import Ledger
from gameday.stack import Stack
from tasks.run import Night

WHOLE = (checks.no_loss, checks.no_duplicates, checks.unchanged)


@task(name="whole history", cache_policy=NO_CACHE)
def close_night(here: Night, stack: Stack) -> None:
    """Adds the finding `history` to the night: what users query, and the archive, against the ledger, over all ids up
    to what each shows. Hops that keep only their newest records are judged inside each run's window."""
    try:
        here.findings.append(_whole(stack))
    except GamedayError as e:
        here.findings.append(Finding("history", Verdict.UNKNOWN, f"the whole history could not be digested: {e}"))


def _whole(stack: Stack) -> Finding:
    if not isinstance(stack.ledger, Ledger):
        why = f"not judged here: {stack.config.stream.hops[0]} keeps only its newest records"
        return Finding("history", Verdict.SKIPPED, why)
    ledger, visible = stack.config.stream.hops[0], stack.config.stream.visible
    tables = {name: stack.hops[name] for name in (ledger, visible)}
    heads = {name: hop.heads() for name, hop in tables.items()}
    groups = heads[ledger]
    hi = {g: min(h[g] for h in heads.values() if g in h) for g in groups}  # what a table doesn't know, it lacks
    surplus = ahead.beyond(stack, ahead.heads_of(stack, archive=True))
    window = Window(lo=dict.fromkeys(groups, 0), hi=hi)
    digests = tuple(d for hop in tables.values() for d in hop.digest(window) if d.stream == "trades")
    if (archive := stack.archive) is not None:
        exported = Window(lo=dict.fromkeys(groups, 0), hi=archive.heads())  # the ledger has none of foreign groups
        right = stack.ledger.digest(exported)[0].groups
        digests += (Digest("archive", ledger, "final", right), *archive.digest(exported))
    evidence = Evidence("history", {}, stack.name, visible=visible, ledger=ledger, window=window, digests=digests)
    findings = [check(evidence) for check in WHOLE]
    if surplus:
        findings.append(Finding("surplus", Verdict.FAIL, "; ".join(ahead.told(surplus, ledger))))
    verdict = merge([f.verdict for f in findings])
    records = sum(window.hi.values())
    why = (
        "; ".join(f.why for f in findings if f.verdict is verdict)
        if verdict is not Verdict.PASS
        else f"all {records:,} records are right, from the first on"
    )
    return Finding("history", verdict, why)
