"""Failure test 7: the source's tables change their shape, amid changes that go on."""

from typing import Literal

from gameday.faults.ask import Ask
from gameday.plan import Await, FailureTest, Inject, StaysSilent
from gameday.sampling.conditions import flowing, lasted
from gameday.verdict.checks import INTACT, offsets_advance, recovered
from tasks import failure_test

STAYS_S = 10
"""So long rows are written in the new shape, before they have the old one again."""


@failure_test
def schema_evolution(change: Literal["add", "add_default", "rename", "mid_transaction"] = "add") -> FailureTest:
    """Do rows before and after a change of shape arrive with their own columns, and nothing else?

    No message tells of a change of shape: the next change of a row simply has it. After ten seconds the column is
    dropped again, which is judged too.

    Args:
        change: add adds a column to orders; add_default one with a default, which rows that are there get too; rename
        adds one, and gives it another name; mid_transaction adds one between two changes of a transaction.
    """
    steps = ("add", "rename") if change == "rename" else (change.replace("_", "-"),)
    shaped = tuple(
        step
        for kind in steps
        for step in (Inject(Ask("source", f"schema-{kind}")), Await(lasted(STAYS_S), within_s=STAYS_S + 60))
    )
    return FailureTest(
        plan=(Await(flowing, within_s=30), *shaped, Inject(Ask("source", "schema-drop"))),
        mttr_max_s=60,
        checks=(*INTACT, offsets_advance, recovered),
        alert=StaysSilent("SinkBehind", component="sink"),
        nightly=({"change": "add"}, {"change": "add_default"}, {"change": "rename"}, {"change": "mid_transaction"}),
    )
