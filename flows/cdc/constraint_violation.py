"""Failure test 8: the source takes a row that the target refuses for good."""

from typing import Literal, get_args

from gameday.faults.ask import Ask
from gameday.plan import Await, FailureTest, FiresWithin, Inject
from gameday.sampling.conditions import flowing
from gameday.verdict.checks import INTACT, offsets_advance, recovered
from tasks import failure_test

Kind = Literal["check", "unique", "fk", "not_null", "type"]
KINDS: tuple[str, ...] = get_args(Kind)

ALERT_WITHIN_S = 60
"""The rule has no patience, and is judged every few seconds."""


@failure_test
def constraint_violation(kind: Kind = "check") -> FailureTest:
    """Is a row that breaks a rule of the target put aside once, with the rule, and are its neighbours applied?

    The history has each change once: applied, or put aside with its kind and its rule. A sink that only logs what is
    refused loses it there, one that lets the whole batch fall loses its neighbours, and one that tries for ever stands
    still.

    Args:
        kind: the rule that the row breaks: check a condition, unique a key that another row has, fk a value that
        another table hasn't got, not_null a column that must be filled, type a number that the column can't hold.
    """
    return FailureTest(
        plan=(Await(flowing, within_s=30), Inject(Ask("source", f"poison-{kind.replace('_', '-')}"))),
        mttr_max_s=30,
        checks=(*INTACT, offsets_advance, recovered),
        alert=FiresWithin("DeadLetters", ALERT_WITHIN_S, component="sink"),
        nightly=tuple({"kind": kind} for kind in KINDS),
    )
