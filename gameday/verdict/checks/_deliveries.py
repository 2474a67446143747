"""What the checks of deliveries share: the broker's account of what it has handed out more than once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gameday.model import Evidence, Json

__all__ = ["Deliveries", "deliveries"]

ENDS = ("kill", "restart", "stop")
"""The faults that end a process."""

NAMED_MAX = 3


@dataclass(frozen=True)
class Deliveries:
    """What the broker delivered more than once.

    again: message -> how often it was delivered, for those that came more than once. most: how often a message may be
    delivered. ended: how often the fault ended the broker, if the broker's count does not outlive that; else 0. spent:
    the dead letters that the consumer may have written for want of an answer. It sees one delivery more than
    `most` before it does so.
    """

    again: Mapping[str, int]
    most: int
    ended: int
    spent: frozenset[str] = frozenset()

    @property
    def count(self) -> int:
        """The number of deliveries beyond each message's first."""
        return sum(self.again.values()) - len(self.again)

    @property
    def beyond(self) -> str:
        """Which messages were delivered more often than they may be, in words; "": none."""
        most = self.most + self.ended
        over = sorted(((n, one) for one, n in self.again.items() if n > most + (one in self.spent)), reverse=True)
        if not over:
            return ""
        named = ", ".join(f"{one} {n} times" for n, one in over[:NAMED_MAX])
        more = f", and {len(over) - NAMED_MAX} more" if len(over) > NAMED_MAX else ""
        spared = f" (and once more for each of the {self.ended} times that the broker ended)" if self.ended else ""
        return f"handed out more than {self.most} times{spared}: {named}{more}"

    @property
    def told(self) -> str:
        """The account in words, where nothing is wrong."""
        often = max(self.again.values(), default=1)
        told = f"{len(self.again)} messages came again, {self.count} times in all"
        return f"{told}; {often} deliveries at most, of {self.most}"


def deliveries(evidence: Evidence) -> Deliveries | str:
    """Return the account "deliveries". If there is none, return the reason in words."""
    told: Json = (evidence.symptoms.get("accounts") or {}).get("deliveries")
    if told is None:
        trouble = (evidence.symptoms.get("trouble") or {}).get("the account deliveries") or "none is configured"
        return f"there is no account of deliveries: {trouble}"
    ended = [act for act in evidence.acts if act.fault in ENDS and act.args.get("component") == told.get("broker")]
    again = {str(one["id"]): int(one["deliveries"]) for one in told["redelivered"]}
    spent = _unanswered(evidence) if told.get("buried_by") == "consumer" else frozenset()
    return Deliveries(again, int(told["most"]), 0 if told.get("counted", True) else len(ended), spent)


def _unanswered(evidence: Evidence) -> frozenset[str]:
    """Return the dead letters of messages whose last delivery may have had no answer: nothing can answer them, or they
    died after the fault. Asking for a job is none. Without a fault an answer is never lost, and one delivery too many
    is a bound that is wrong by one."""
    first_us = min((act.at_us for act in evidence.acts if act.fault != "ask"), default=None)
    letters = ((evidence.symptoms.get("accounts") or {}).get("letters") or {}).get("letters", ())
    return frozenset(
        str(one["id"])
        for one in letters
        if one.get("unanswered") or (first_us is not None and one["at_us"] >= first_us)
    )
