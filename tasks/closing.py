"""The end of a night: one digest of the whole history, from the first trade to now."""

from collections.abc import Callable, Sequence
from functools import partial

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday import ahead, checks
from gameday.asking import answer
from gameday.errors import GamedayError
from gameday.model import Digest, Evidence, Finding, Verdict, Window, merge
from gameday.ports import Ledger
from gameday.run import HEADS_WITHIN_S
from gameday.stack import Stack
from tasks.run import Night

ANSWER_WITHIN_S = 600.0
"""For one server's digest of all that there ever was; minutes are an archive of a year."""

WHOLE = (checks.no_loss, checks.no_duplicates, checks.unchanged)


@task(name="whole history", cache_policy=NO_CACHE)
def close_night(here: Night, stack: Stack) -> None:
    """Adds the finding `history` to the night: what users query, and the archive, against the ledger, over all ids up
    to what each shows. Hops that keep only their newest records are judged inside each run's window."""
    try:
        here.findings.append(_whole(stack))
    except Exception as e:  # noqa: BLE001 - whatever keeps it from being told, the night has its results
        reason = e if isinstance(e, GamedayError) else repr(e)
        here.findings.append(Finding("history", Verdict.UNKNOWN, f"the whole history could not be digested: {reason}"))


def _asked(name: str, digest: Callable[[], Sequence[Digest]]) -> Sequence[Digest]:
    return answer(digest, ANSWER_WITHIN_S, f"the digest of {name}")


def _whole(stack: Stack) -> Finding:
    if not isinstance(stack.ledger, Ledger):
        why = f"not judged here: {stack.config.stream.hops[0]} keeps only its newest records"
        return Finding("history", Verdict.SKIPPED, why)
    ledger, visible = stack.config.stream.hops[0], stack.config.stream.visible
    tables = {name: stack.hops[name] for name in (ledger, visible)}
    heads = {name: answer(hop.heads, HEADS_WITHIN_S, f"the heads of {name}") for name, hop in tables.items()}
    groups = heads[ledger]
    hi = {g: min(h[g] for h in heads.values() if g in h) for g in groups}  # what a table doesn't know, it lacks
    seen = answer(partial(ahead.heads_of, stack, archive=True), HEADS_WITHIN_S, "the heads of all hops")
    surplus = answer(partial(ahead.beyond, stack, seen), HEADS_WITHIN_S, "the ledger's heads")
    window = Window(lo=dict.fromkeys(groups, 0), hi=hi)
    given = [_asked(name, partial(hop.digest, window)) for name, hop in tables.items()]
    digests = tuple(d for found in given for d in found if d.stream == "trades")
    if (archive := stack.archive) is not None:
        heads_now = answer(archive.heads, HEADS_WITHIN_S, "the heads of the archive")
        exported = Window(lo=dict.fromkeys(groups, 0), hi=heads_now)  # the ledger has none of foreign groups
        right = _asked(ledger, partial(stack.ledger.digest, exported))[0].groups
        held = _asked("the archive", partial(archive.digest, exported))
        digests += (Digest("archive", ledger, "final", right), *held)
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
