"""A night as JUnit XML."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

from gameday.model import Finding, RunResult, Verdict
from gameday.reports import junit
from tests.unit import evidence


def parsed(results: list[RunResult], findings: tuple[Finding, ...] = ()) -> ET.Element:
    return ET.fromstring(junit.render(evidence.NIGHT, results, findings).encode())


def test_each_verdict_has_its_place() -> None:
    """fail is a failure, unknown and invalid are errors, skipped is skipped, and the totals count them."""
    result, _ = evidence.broker_restart()
    root = parsed([replace(result, id=str(v), verdict=v, why=f"because {v}") for v in Verdict])
    inside = [
        [child.tag for child in case if child.tag not in ("properties", "system-out")] for case in root.iter("testcase")
    ]
    assert inside == [[], ["skipped"], ["error"], ["error"], ["failure"]]
    assert {k: root.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5", "failures": "1", "errors": "2", "skipped": "1",
    }  # fmt: skip
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.get("message") == "because fail"


def test_a_run_is_named_with_its_parameters_and_carries_its_measures() -> None:
    """A CI system can tell variants apart and plot both ends of an interval; the findings are in the output."""
    root = parsed([evidence.clickhouse_restart()[0]])
    case = next(root.iter("testcase"))
    assert case.get("name") == "clickhouse_restart(how=sigkill)"
    told = {p.get("name"): p.get("value") for p in case.iter("property")}
    assert told["mttr_low_s"] == "1.710"
    assert told["mttr_high_s"] == "1.770"
    assert told["lost"] == "silver 13, gold 1"
    assert "fail no_loss: silver lost 13" in (case.findtext("system-out") or "")
    assert "skipped served" in (case.findtext("system-out") or "")


def test_what_was_not_measured_is_no_number() -> None:
    """An aborted run has no seconds and no zero counts."""
    told = {p.get("name"): p.get("value") for p in parsed([evidence.aborted()]).iter("property")}
    assert told["lost"] == "not judged"
    assert "mttr_high_s" not in told


def test_nothing_a_platform_says_breaks_the_document() -> None:
    """Markup is escaped, and characters that XML can't hold are left out."""
    result, _ = evidence.broker_restart()
    finding = Finding("served", Verdict.FAIL, evidence.EVIL)
    root = parsed(
        [replace(result, verdict=Verdict.FAIL, why=evidence.EVIL, findings=(finding,), params={"x": evidence.EVIL})]
    )
    shown = evidence.EVIL.replace("\x1b", "").replace("\0", "")
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.get("message") == shown
    assert (failure.text or "").strip() == f"fail served: {shown}"


def test_the_nights_own_findings_are_testcases() -> None:
    """A selftest that missed a planted fault is an error of its own, not of a run."""
    root = parsed([], (Finding("selftest", Verdict.UNKNOWN, "dropped row: not caught"),))
    (case,) = root.iter("testcase")
    assert (case.get("classname"), case.get("name")) == ("gameday.night", "selftest")
    assert case.find("error") is not None
    assert root.get("errors") == "1"
