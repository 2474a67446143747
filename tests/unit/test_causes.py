"""What is likely behind it: each rule holds for its clues, says what it rests on, and names a heading that is there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gameday.state import ROOT
from gameday.verdict import selftest
from gameday.verdict.causes import RULES, Clues, causes, clues_of
from gameday.verdict.known import LAG, Trouble

DOUBLED = Trouble("doubled", "orders", "sink", ("north",), 1)
LOST = replace(DOUBLED, kind="lost")
LATE = Trouble(LAG, "orders", "sink", detail="40 ids behind log, for 60 s")
LOGS = frozenset({"log"})


def connector(text: str) -> Clues:
    return Clues(errors={"connector": f"task: connector cdc at http://c:1: task 0 is FAILED: {text}"})


@pytest.mark.parametrize(
    ("clues", "names"),
    [
        (Clues(), []),
        (Clues(answering=frozenset({"sink"}), behind={"sink": 7}), []),
        (connector('ERROR: replication slot "cdc" does not exist'), ["slot_missing", "task_failed"]),
        (connector('ERROR: can no longer get changes from replication slot "cdc"'), ["wal_gone", "task_failed"]),
        (connector('could not access file "pg_wal/00000001": No such file'), ["wal_gone", "task_failed"]),
        (connector("requested WAL segment 0001 has already been removed"), ["wal_gone", "task_failed"]),
        (connector("java.net.ConnectException: Connection refused"), ["network", "task_failed"]),
        (connector('FATAL: password authentication failed for user "connect"'), ["credentials", "task_failed"]),
        (connector("SaslAuthenticationException: Authentication failed"), ["credentials", "task_failed"]),
        (Clues(errors={"sink": "GET http://s answered 401"}), ["credentials"]),
        (Clues(errors={"target": "no answer within 3 s"}), ["network"]),
        (Clues(dropped={"sink": 40}), ["log_cut"]),
        (Clues(dropped={"sink": 0}, behind={"sink": 0}), []),
        (Clues(troubles=(replace(LATE, hop="log"),), logs=LOGS), ["capture_stalled"]),
        (Clues(troubles=(LATE,), logs=LOGS), ["lag"]),
        (Clues(troubles=(LOST, LATE), behind={"sink": 9}), ["lag"]),
        (Clues(troubles=(LOST,), behind={"sink": 9}), ["lost"]),
        (Clues(troubles=(LOST,), behind={"sink": 0}), ["lost"]),
        (Clues(troubles=(DOUBLED,)), ["written_twice"]),
        (Clues(troubles=(DOUBLED,), repeats={"log": 3}), ["log_repeats"]),
        (Clues(troubles=(DOUBLED, LATE), repeats={"log": 3}, logs=LOGS), ["lag"]),
        (Clues(troubles=(replace(DOUBLED, kind="changed"),)), ["changed"]),
    ],
)  # fmt: skip
def test_a_cause_is_found_by_its_clues_alone(clues: Clues, names: list[str]) -> None:
    """Lag before anything else where records differ: first it is waited until all have come."""
    assert [cause.name for cause in causes(clues)] == names


def test_a_cause_says_what_it_rests_on_and_what_to_do() -> None:
    """In one text, without the remedy of what it cites, and with who else says so."""
    said = "ping: 127.0.0.1:1: Connection refused. Remedy: start it"
    (cause,) = causes(
        Clues(errors={"sink": said, "target": said}), lambda test, heading: f"{test}.md#{heading.lower()}"
    )
    assert cause.seen == "sink says: ping: 127.0.0.1:1: Connection refused (target too)"
    assert cause.text.startswith(
        "A server can't be reached: sink says: ping: 127.0.0.1:1: Connection refused (target too). See"
    )
    assert cause.text.endswith(" (network_partition.md#diagnosis).")
    assert cause.told == {
        "name": "network", "cause": cause.cause, "seen": cause.seen, "step": cause.step, "runbook": cause.runbook,
    }  # fmt: skip


def test_a_runbook_that_the_stack_lacks_is_passed_over() -> None:
    """The next one of the rule is named; or none."""
    clues = Clues(errors={"sink": "Connection refused"})
    (cause,) = causes(clues, lambda test, heading: "any/partition.md#diagnosis" if test == "partition" else "")
    assert cause.runbook == "any/partition.md#diagnosis"
    (cause,) = causes(clues)
    assert cause.runbook == ""


def test_every_heading_that_a_rule_names_is_in_a_runbook() -> None:
    """Of some platform of this checkout. Each rule has a name of its own."""
    for rule in RULES:
        for test, heading in rule.runbooks:
            found = list(ROOT.glob(f"runbooks/*/{test}.md"))
            assert found, (rule.name, test)
            assert all(f"\n## {heading}\n" in path.read_text() for path in found), (rule.name, test, heading)
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_a_run_s_evidence_tells_the_same_clues() -> None:
    """A clean one none; one that lost a record and could not ask a hop both."""
    assert causes(clues_of(selftest.clean().evidence())) == []
    history = selftest.clean()
    group = selftest.AFFECTED[0]
    history.silver[group] = {name: column[:-1] for name, column in history.silver[group].items()}
    symptoms = {"trouble": {"gold": "no answer within 180 s"}}
    evidence = replace(history.evidence(), symptoms=symptoms)
    assert [cause.name for cause in causes(clues_of(evidence))] == ["network", "lost"]
    evidence = replace(evidence, symptoms={**symptoms, "not_passed": ["silver"]})
    assert [cause.name for cause in causes(clues_of(evidence))] == ["network", "lag"]
