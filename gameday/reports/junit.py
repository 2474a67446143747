"""Makes JUnit XML of a night, for CI: one testcase per run. The caller writes the file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from gameday.model import Finding, RunResult, Verdict
from gameday.reports.words import dispositions, interval, label

__all__ = ["render"]

NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""The characters that XML 1.0 can't hold even escaped (its production Char)."""

TAGS = {Verdict.SKIPPED: "skipped", Verdict.UNKNOWN: "error", Verdict.INVALID: "error", Verdict.FAIL: "failure"}


def render(night: str, results: Sequence[RunResult], findings: Sequence[Finding] = ()) -> str:
    """Return the document as text.

    fail becomes a failure; unknown and invalid become errors, because nothing was proved; skipped becomes skipped.
    findings: those of the night, of no single run; each is a testcase of its own.
    """
    verdicts = [*(result.verdict for result in results), *(finding.verdict for finding in findings)]
    totals = {
        "tests": str(len(verdicts)),
        "failures": str(verdicts.count(Verdict.FAIL)),
        "errors": str(verdicts.count(Verdict.UNKNOWN) + verdicts.count(Verdict.INVALID)),
        "skipped": str(verdicts.count(Verdict.SKIPPED)),
        "time": f"{sum(result.took_s for result in results):.3f}",
    }
    root = ET.Element("testsuites", {"name": "gameday", **totals})
    suite = ET.SubElement(root, "testsuite", {"name": _clean(f"gameday {night}"), **totals})
    if results:
        suite.set("timestamp", _clean(min(result.started for result in results)))
    for result in results:
        _testcase(suite, result)
    for finding in findings:
        case = ET.SubElement(
            suite, "testcase", {"name": _clean(finding.check), "classname": "gameday.night", "time": "0"}
        )
        _outcome(case, finding.verdict, finding.why, finding.why)
        ET.SubElement(case, "system-out").text = _clean(finding.why)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False).join(
        ('<?xml version="1.0" encoding="UTF-8"?>\n', "\n")
    )


def _testcase(suite: ET.Element, result: RunResult) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        {
            "name": _clean(label(result)),
            "classname": _clean(f"gameday.{result.stack}.{result.test}"),
            "time": f"{result.took_s:.3f}",
        },
    )
    properties = ET.SubElement(case, "properties")
    for name, value in _properties(result):
        ET.SubElement(properties, "property", {"name": _clean(name), "value": _clean(value)})
    _outcome(case, result.verdict, result.why, "\n".join(_findings(result, worse_than=Verdict.SKIPPED)) or result.why)
    ET.SubElement(case, "system-out").text = _clean("\n".join((result.why, *_findings(result))))


def _outcome(case: ET.Element, verdict: Verdict, why: str, details: str) -> None:
    """Add the tag that CI systems know, unless it is a pass."""
    if verdict is Verdict.PASS:
        return
    outcome = ET.SubElement(case, TAGS[verdict], {"message": _clean(why)})
    if verdict is not Verdict.SKIPPED:
        outcome.set("type", str(verdict))
        outcome.text = _clean(details)


def _properties(result: RunResult) -> list[tuple[str, str]]:
    """Return what a CI system can plot or group by. Seconds have both ends of their interval."""
    named = [("run", result.id), ("verdict", str(result.verdict)), ("mttr_max_s", f"{result.mttr_max_s:g}")]
    for name, measure in result.measures.items():
        named.append((name, interval(measure)))
        if measure.low_s is not None and measure.high_s is not None:
            named += [(f"{name}_low_s", f"{measure.low_s:.3f}"), (f"{name}_high_s", f"{measure.high_s:.3f}")]
    return named + [(kind, text) for kind, text in dispositions(result).items()]


def _findings(result: RunResult, worse_than: int = -1) -> list[str]:
    return [f"{f.verdict} {f.check}: {f.why}" for f in result.findings if f.verdict > worse_than]


def _clean(text: str) -> str:
    return NOT_XML.sub("", text)
