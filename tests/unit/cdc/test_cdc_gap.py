"""What is said of a log that has lost changes for good."""

from __future__ import annotations

from typing import Any

import pytest

from flows.cdc.slot_lost import gap
from gameday.model import Compared, Delta, Digest, Evidence, Measure, Sample, Tally, Verdict, Window

NS = 10**9
GROUP = ("orders", "0")
NOTHING_ELSE = {kind: {"count": 0, "ids": []} for kind in ("extra", "doubled", "changed")}
LOST = list(range(41, 61))
"""What the history lacks of 100 changes: at 10 s it had come to 40, and at 16 s the source had come to 60."""


def samples(hop: str, told: list[tuple[float, int]]) -> dict[str, list[Sample]]:
    made = [Sample(int(at_s * NS), 0, float(value)) for at_s, value in told]
    return {f"head/{hop}/orders/0": made}


def digest(hop: str, ids: list[int]) -> Digest:
    tally = Tally(len(ids), len(ids), min(ids), max(ids), sum(ids) * 7, key_sum=sum(ids))
    return Digest("history", hop, "final", {GROUP: tally})


def evidence(lost: list[int], listed: dict[str, Any] | None = None, states: tuple[Compared, ...] = ()) -> Evidence:
    """Of a run whose act was at 10 s, and whose service was back after 6 s."""
    missing = {"count": len(lost), "ids": lost[:20]} | ({"last": lost[-1]} if lost[20:] else {})
    told = listed or {"missing": missing, **NOTHING_ELSE}
    heads = {"history": [(9.9, 40), (12.0, 40), (17.0, 62)], "tape": [(9.9, 42), (16.1, 60), (17.0, 62)]}
    return Evidence(
        "slot_lost",
        {},
        "cdc",
        visible="history",
        ledger="tape",
        stream="history",
        gapless=True,
        inject_ns=10 * NS,
        measures={"restore": Measure(5.9, 6.0)},
        window=Window({GROUP: 0}, {GROUP: 100}),
        digests=(
            digest("tape", list(range(1, 101))),
            digest("history", [one for one in range(1, 101) if one not in lost]),
        ),
        states=states,
        samples={name: made for hop, seen in heads.items() for name, made in samples(hop, seen).items()},
        symptoms={"differences": {"history orders/0": told}},
    )


@pytest.mark.parametrize(
    ("lost", "verdict", "why"),
    [
        (LOST, Verdict.PASS, "20 changes of the outage"),
        ([41, 42], Verdict.PASS, "2 changes of the outage"),
        ([*LOST, 70], Verdict.FAIL, "more than one gap"),
        (list(range(39, 61)), Verdict.FAIL, "lacks change 39, and had come to 40 before the act"),
        (list(range(50, 72)), Verdict.FAIL, "lacks change 71, which is from after the outage"),
        ([], Verdict.UNKNOWN, "nothing was lost"),
    ],
)
def test_a_gap_is_all_of_the_outage_and_nothing_else(lost: list[int], verdict: Verdict, why: str) -> None:
    """One row of numbers, none from before or after."""
    found = gap(evidence(lost))
    assert (found.verdict, why in found.why) == (verdict, True), found.why


def test_which_changes_are_lost_has_to_be_known() -> None:
    """A number alone says nothing of where they lie."""
    found = gap(evidence(LOST, listed={"trouble": "no answer"}))
    assert (found.verdict, "is not known" in found.why) == (Verdict.UNKNOWN, True)


def test_what_is_there_has_to_be_right() -> None:
    """A gap hides no change with another content."""
    changed = {**NOTHING_ELSE, "changed": {"count": 2, "ids": [7, 9]}}
    found = gap(evidence(LOST, listed={"missing": {"count": 20, "ids": LOST}, **changed}))
    assert (found.verdict, "has besides 2 changed" in found.why) == (Verdict.FAIL, True), found.why


def test_a_row_that_is_missing_is_no_gap() -> None:
    """The repair has to bring all of them back."""
    state = Compared("history", "target", "tape", {GROUP: Delta(keys=50, lost=1)})
    found = gap(evidence(LOST, states=(state,)))
    assert (found.verdict, "orders/0 at target has 1 rows missing" in found.why) == (Verdict.FAIL, True)
