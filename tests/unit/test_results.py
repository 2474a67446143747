"""results.json against its published schema."""

from __future__ import annotations

import copy
import json
from dataclasses import fields, replace
from typing import Any

import jsonschema
import pytest

from gameday import codec
from gameday.model import Finding, Json, Measure, RunResult, Verdict
from gameday.reports import results
from tests.unit import evidence


def valid(value: Json) -> bool:
    return bool(jsonschema.Draft202012Validator(results.schema()).is_valid(value))


def night() -> Json:
    runs = [result for result, _ in evidence.night()] + [evidence.aborted()]
    made = results.to_json(evidence.NIGHT, runs, [Finding("selftest", Verdict.PASS, "every planted fault was caught")])
    return json.loads(json.dumps(made))


def test_the_schema_is_one() -> None:
    """The schema itself is valid JSON Schema, draft 2020-12."""
    jsonschema.Draft202012Validator.check_schema(results.schema())


def test_a_night_is_valid_and_complete() -> None:
    """Passes, fails and an aborted run keep to the schema, and each carries all four measures and all three counts."""
    made = night()
    assert valid(made)
    assert made["night"] == evidence.NIGHT
    assert [r["verdict"] for r in made["results"]] == ["pass", "fail", "pass", "unknown"]
    for result in made["results"]:
        assert list(result["measures"]) == ["impact", "restore", "drain", "mttr"]
        assert list(result["counts"]) == ["lost", "doubled", "changed"]
    assert made["results"][3]["measures"]["mttr"]["high_s"] is None
    assert made["results"][3]["measures"]["mttr"]["why"]


def test_an_empty_night_is_valid() -> None:
    """A night in which nothing could be run still leaves a readable file."""
    assert valid(results.to_json("n", []))


def test_results_come_back_as_values() -> None:
    """What is published can be read back into the same values."""
    result = results.complete(evidence.clickhouse_restart()[0])
    (made,) = results.to_json("n", [result])["results"]
    assert codec.decode(RunResult, json.loads(json.dumps(made))) == result


def test_the_fields_are_the_values_own() -> None:
    """No field of RunResult is missing from the schema, and none is there that RunResult lacks."""
    described = results.schema()["$defs"]["result"]
    assert set(described["properties"]) == {f.name for f in fields(RunResult)} == set(described["required"])


def test_what_is_not_back_by_the_end_has_a_lower_bound() -> None:
    """A recovery that was never seen is published as "at least", with a reason."""
    result = replace(evidence.broker_restart()[0], measures={"restore": Measure(40.2, None, "unanswered to the end")})
    assert valid(results.to_json("n", [result]))


BREAKS: list[tuple[str, Any]] = [
    ("verdict", "passed"),
    ("verdict", 0),
    ("started", "yesterday"),
    ("took_s", -1),
    ("took_s", "52"),
    ("test", "broker-restart"),
    ("params", ["how"]),
    ("measures", {}),
    ("measures", dict.fromkeys(("impact", "restore", "drain", "mttr"), 3)),
    ("counts", {"lost": {}, "doubled": {}, "changed": {}, "eaten": {}}),
    ("counts", {"lost": {"silver": -1}, "doubled": {}, "changed": {}}),
    ("counts", {"lost": {"silver": 1.5}, "doubled": {}, "changed": {}}),
    ("findings", [{"check": "no_loss", "verdict": "pass", "why": ""}]),
    ("findings", [{"check": "no_loss", "verdict": "pass", "why": "", "evidence": None, "note": ""}]),
    ("acts", [{"id": "1"}]),
    ("schema", 2),
    ("surprise", 1),
]


@pytest.mark.parametrize(("key", "value"), BREAKS)
def test_broken_results_are_refused(key: str, value: Any) -> None:
    """Each single break of a valid night is seen."""
    made = night()
    made["results"][0][key] = value
    assert not valid(made)


def test_no_key_may_be_missing() -> None:
    """Leaving out any one key, at any level that is ours, is seen."""
    made = night()
    places = (
        (),
        ("results", 0),
        ("results", 0, "acts", 0),
        ("results", 0, "findings", 0),
        ("results", 0, "measures", "mttr"),
        ("results", 0, "measures"),
        ("results", 0, "counts"),
    )
    for place in places:
        for key in list(_at(made, place)):
            broken = copy.deepcopy(made)
            del _at(broken, place)[key]
            assert not valid(broken), (*place, key)


@pytest.mark.parametrize(
    "measure",
    [
        {"low_s": None, "high_s": None, "why": ""},
        {"low_s": None, "high_s": 3.0, "why": ""},
        {"low_s": "3", "high_s": 3.0, "why": ""},
        {"low_s": 1.0, "high_s": None, "why": ""},
    ],
)
def test_unmeasured_needs_a_reason(measure: Json) -> None:
    """A measure without a high end must say why, and one with a high end has a low one."""
    made = night()
    made["results"][0]["measures"]["mttr"] = measure
    assert not valid(made)


def _at(value: Any, place: tuple[Any, ...]) -> Any:
    for step in place:
        value = value[step]
    return value
