"""Is everything a dead letter that must become one, once, with its reason, and nothing else?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from gameday.model import Evidence, Finding, Verdict
from gameday.sampling.timings import BOUND_BEFORE_BASELINE_S, sustained_s
from gameday.verdict.checks._deliveries import ENDS
from gameday.verdict.streams import whole

__all__ = ["dead_lettered"]

NAMED_MAX = 3


@whole
def dead_lettered(evidence: Evidence) -> Finding:
    """By the account "letters": all that should be dead is; each letter is there once, says why and after how many
    deliveries, and is of one that should be dead. Others may have been handed out as often as they may through the
    fault, until all was drained: those are told."""
    told = (evidence.symptoms.get("accounts") or {}).get("letters")
    if told is None:
        trouble = (evidence.symptoms.get("trouble") or {}).get("the account letters") or "none is configured"
        return Finding("dead_lettered", Verdict.UNKNOWN, f"there is no account of dead letters: {trouble}")
    letters, expected = told["letters"], [str(one) for one in told["expected"]]
    if not letters and not expected:
        return Finding(
            "dead_lettered", Verdict.UNKNOWN, "there is nothing to judge: nothing had to become a dead letter"
        )
    times = Counter(str(one["id"]) for one in letters)
    ended = sum(a.fault in ENDS and a.args.get("component") == told.get("broker") for a in evidence.acts)
    once_more = (0 if told.get("counted", True) else ended) + (told.get("buried_by") == "consumer")
    most = int(told["most"]), int(told["most"]) + once_more
    wrong = {
        "not dead, and should be": [one for one in expected if one not in times],
        "twice": [one for one, n in times.items() if n > 1],
        "without a reason": [str(one["id"]) for one in letters if not one["reason"]],
        "dead too soon, or too late": [
            f"{one['id']} ({one['attempts']} deliveries)" for one in letters if not _in_time(one, most)
        ],
        "dead, and should not be": [
            f"{one['id']} ({one['reason']})"
            for one in letters
            if not one["expected"] and not _spent(evidence, one, most)
        ],
    }
    found = [_named(what, ids) for what, ids in wrong.items() if ids]
    if found:
        return Finding("dead_lettered", Verdict.FAIL, "; ".join(found), {k: v for k, v in wrong.items() if v})
    others = sum(not one["expected"] for one in letters)
    why = f"all {len(expected)} that had to be dead are, each of {len(letters)} letters once and with its reason"
    return Finding(
        "dead_lettered", Verdict.PASS, why + (f"; {others} were handed out in vain by the fault" if others else "")
    )


def _in_time(letter: Mapping[str, Any], most: tuple[int, int]) -> bool:
    """Whether it came after as many deliveries as it may have; one that is refused for good needs fewer."""
    attempts = int(letter["attempts"] or 0)
    return 1 <= attempts <= most[1] if letter["rejected"] else most[0] <= attempts <= most[1]


def _spent(evidence: Evidence, letter: Mapping[str, Any], most: tuple[int, int]) -> bool:
    """Whether the fault may have made it so: it was handed out as often as it may, died after the first act, and before
    all was drained. Asking for a job is no act: it harms nobody else's messages."""
    first_us = min((act.at_us for act in evidence.acts if act.fault != "ask"), default=None)
    if first_us is None or letter["rejected"] or not _in_time(letter, most):
        return False
    return bool(first_us <= letter["at_us"] and letter["at_us"] <= _over_us(evidence))


def _over_us(evidence: Evidence) -> float:
    """When all that the fault had held up had ended, in microseconds; inf: not known. A message without an end by then
    would have kept its stream behind."""
    drain = evidence.measures.get("drain")
    if drain is None or drain.high_s is None or evidence.inject_ns is None or not evidence.acts:
        return math.inf
    first = evidence.acts[0]
    inject_us = first.at_us + (evidence.inject_ns - first.at_ns) / 1e3
    bounds_s = [one.baseline.bound_s for one in evidence.each() if one.baseline] or [BOUND_BEFORE_BASELINE_S]
    return inject_us + (drain.high_s + sustained_s(max(bounds_s))) * 1e6


def _named(what: str, ids: list[str]) -> str:
    more = f", and {len(ids) - NAMED_MAX} more" if len(ids) > NAMED_MAX else ""
    return f"{what}: {', '.join(ids[:NAMED_MAX])}{more}"
